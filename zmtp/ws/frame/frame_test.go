package frame

import (
	"testing"

	"zmtpd/zmtp/testkit"
)

// Masks of pieces at any offset are those of the whole.
func TestMask(t *testing.T) {
	key := MaskKey{1, 2, 3, 250}
	whole := []byte(testkit.Pattern(100))
	for i := range whole {
		whole[i] ^= key[i%4]
	}
	for cut := range 100 {
		b := []byte(testkit.Pattern(100))
		key.Apply(0, b[:cut])
		key.Apply(int64(cut), b[cut:])
		if string(b) != string(whole) {
			t.Fatalf("cut at %d", cut)
		}
	}
}

// A header is parsed as it was made, in its shortest form, and not before it is whole.
func TestHeaders(t *testing.T) {
	for _, key := range []*MaskKey{nil, {1, 2, 3, 250}} {
		for _, size := range []int{1, 125, 126, 1<<16 - 1, 1 << 16, 1 << 30} {
			b := AppendHeader(nil, Binary, size, key)
			if n := HeaderSize(int64(size), key != nil); n != len(b) {
				t.Errorf("size %d: HeaderSize is %d, the header has %d bytes", size, n, len(b))
			}
			for cut := range b {
				if _, n, err := ParseHeader(b[:cut], key != nil); n != 0 || err != nil {
					t.Errorf("size %d: %d bytes of a header: %d, %v", size, cut, n, err)
				}
			}
			h, n, err := ParseHeader(b, key != nil)
			if err != nil || n != len(b) || h.Op != Binary || h.Size != int64(size) ||
				key != nil && h.Key != *key {
				t.Errorf("size %d: %+v of %d bytes, %v", size, h, n, err)
			}
		}
	}
}

// Like libzmq, ParseHeader accepts a size that has more bytes than necessary.
func TestLongSizes(t *testing.T) {
	for _, b := range []string{"\x82\x7e\x00\x05", "\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05"} {
		h, n, err := ParseHeader([]byte(b), false)
		if err != nil || n != len(b) || h.Size != 5 {
			t.Errorf("%q: %+v of %d bytes, %v", b, h, n, err)
		}
	}
}
