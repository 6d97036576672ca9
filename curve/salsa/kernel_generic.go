//go:build !amd64

package salsa

func kernels() []kernel { return []kernel{generic} }

func (l *lanes) fill(k *key, n int) { l.fillGeneric(k, n) }

func xor(dst, src, stream []byte) { xorGeneric(dst, src, stream) }

func (c *Cipher) sum(tags *[groupSize][Overhead]byte, group []Message) {
	c.sumEach(tags, group, 0, len(group))
}
