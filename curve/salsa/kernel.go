package salsa

// A cipher is one way to compute blocks of key stream.
type cipher uint8

const (
	cipherGeneric cipher = iota
	cipherAVX2
	cipherAVX512
)

func (c cipher) String() string { return [...]string{"generic", "avx2", "avx512"}[c] }

// What is used: the fastest of what this processor and its operating system have. Tests choose others.
var useCipher = fastest(ciphers())

func fastest(list []cipher) cipher { return list[len(list)-1] }
