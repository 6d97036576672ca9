package salsa

// A kernel is a set of instructions for which the package has code. Each includes the previous
// ones.
type kernel uint8

const (
	generic    kernel = iota // portable Go
	avx2                     // 8 blocks of Salsa20
	avx512                   // 16 blocks of Salsa20
	avx512ifma               // and 8 blocks of Poly1305
)

func (k kernel) String() string {
	return [...]string{"portable Go", "AVX2", "AVX-512", "AVX-512 with IFMA"}[k]
}

// use is the best kernel of this processor and operating system. Only tests change it.
var use = best()

func best() kernel {
	all := kernels()
	return all[len(all)-1]
}

// Instructions returns the name of the kernel in use.
func Instructions() string { return use.String() }
