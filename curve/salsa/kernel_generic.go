//go:build !amd64

package salsa

func kernels() []kernel { return []kernel{generic} }

func (l *lanes) fill(k *key, n int) { l.fillGeneric(k, n) }

func xor(dst, src, stream []byte) { xorGeneric(dst, src, stream) }

func (c *Cipher) sum(tags *[groupSize][Overhead]byte, group []Message) {
	for i := range group {
		var p poly1305
		key := (*[macKeySize]byte)(c.head.stream[i*blockSize:])
		p.init(key)
		p.end(&tags[i], group[i].sealed(), key)
	}
}
