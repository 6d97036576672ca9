package salsa

// A kernel is a set of instructions that the package has code for. Each needs the ones before it.
type kernel uint8

const (
	generic    kernel = iota // Go
	avx2                     // 8 blocks of Salsa20
	avx512                   // 16 blocks of Salsa20
	avx512ifma               // and 8 blocks of Poly1305
)

func (k kernel) String() string {
	return [...]string{"portable Go", "AVX2", "AVX-512", "AVX-512 with IFMA"}[k]
}

// use is the last of what this processor and its operating system have. Only tests change it.
var use = best()

func best() kernel {
	all := kernels()
	return all[len(all)-1]
}

// Instructions says in words what the package uses on this machine.
func Instructions() string { return use.String() }
