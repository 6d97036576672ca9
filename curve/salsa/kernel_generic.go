//go:build !amd64

package salsa

func ciphers() []cipher { return []cipher{cipherGeneric} }

func (l *lanes) fill(k *key, n int) { l.fillGeneric(k, n) }

func xor(dst, src, stream []byte) { xorGeneric(dst, src, stream) }
