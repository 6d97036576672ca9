//go:build race

package zmtp

// poison overwrites released memory, so that a use after the release is seen by the tests.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
