package salsa

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// slowSum is Poly1305 as in RFC 8439, section 2.5, with integers of any size.
func slowSum(text []byte, key []byte) (tag [16]byte) {
	number := func(b []byte) *big.Int {
		b = slices.Clone(b)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	p := new(big.Int).Lsh(big.NewInt(1), 130)
	p.Sub(p, big.NewInt(5))
	clamp, _ := new(big.Int).SetString("0ffffffc0ffffffc0ffffffc0fffffff", 16)
	r := number(key[:16])
	r.And(r, clamp)
	h := new(big.Int)
	for block := range slices.Chunk(text, 16) {
		h.Add(h, number(append(slices.Clone(block), 1)))
		h.Mod(h.Mul(h, r), p)
	}
	h.Add(h, number(key[16:]))
	b := h.FillBytes(make([]byte, 32))
	slices.Reverse(b)
	copy(tag[:], b)
	return tag
}

// extreme draws bytes that are often all ones or all zeros, where carries go wrong most easily.
func extreme(t *rapid.T, n int, label string) []byte {
	b := make([]byte, n)
	for at := 0; at < n; {
		end := min(n, at+rapid.SampledFrom([]int{1, 4, 8, 16, 64, 512}).Draw(t, label))
		switch fill := rapid.SampledFrom([]int{0, 0xff, 0xfb, -1}).Draw(t, label); fill {
		case -1:
			copy(b[at:end], rapid.SliceOfN(rapid.Byte(), end-at, end-at).Draw(t, label))
		default:
			for i := at; i < end; i++ {
				b[i] = byte(fill)
			}
		}
		at = end
	}
	return b
}

func TestSum(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			// The way to compute the tags depends on the lengths of all texts of a group.
			var c Cipher
			longest := rapid.SampledFrom([]int{0, 20, 100, 600, 3000}).Draw(t, "longest")
			group := make([]Message, rapid.IntRange(1, groupSize).Draw(t, "messages"))
			for i := range group {
				size := longest
				if rapid.Bool().Draw(t, "shorter") {
					size = rapid.IntRange(0, longest).Draw(t, "size")
				}
				group[i].Dst = make([]byte, size)
				group[i].Src = append(make([]byte, Overhead), extreme(t, size, "text")...)
				copy(c.head.stream[i*blockSize:], extreme(t, macKeySize, "key"))
			}
			var tags [groupSize][Overhead]byte
			c.sum(&tags, group)
			for i := range group {
				text, key := group[i].Src[Overhead:], c.head.stream[i*blockSize:][:macKeySize]
				if want := slowSum(text, key); tags[i] != want {
					t.Fatalf("message %d of %d: tag %x, want %x, key %x, text %x", i, len(group),
						tags[i], want,
						key, text)
				}
			}
		})
	})
}

// The vectors are from RFC 8439, appendix A.3, numbers 7 to 11: h is near a multiple of the
// modulus. Zeros at the end of r, text and tag are left out.
func TestSumAtTheModulus(t *testing.T) {
	unhex := func(s string, size int) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return append(b, make([]byte, size-len(b))...)
	}
	eachKernel(t, func(t *testing.T) {
		for _, v := range []struct {
			r, text string
			size    int
			tag     string
		}{
			{"02", "ffffffffffffffffffffffffffffffff", 16, "03"},
			{"01", "fffffffffffffffffffffffffffffffff0ffffffffffffffffffffffffffffff11", 48, "05"},
			{"01",
				"fffffffffffffffffffffffffffffffffbfefefefefefefefefefefefefefefe01010101010101010101010101010101", 48, ""},
			{"02", "fdffffffffffffffffffffffffffffff", 16, "faffffffffffffffffffffffffffffff"},
			{"010000000000000004", "e33594d7505e43b900000000000000003394d7505e4379cd01" +
				strings.Repeat("00", 23) + "01", 64, "14000000000000005500000000000000"},
			{"010000000000000004", "e33594d7505e43b900000000000000003394d7505e4379cd01", 48, "13"},
		} {
			for _, n := range []int{1, groupSize} { // one by one and side by side
				var c Cipher
				group := make([]Message, n)
				for i := range group {
					group[i].Src = append(make([]byte, Overhead), unhex(v.text, v.size)...)
					copy(c.head.stream[i*blockSize:], unhex(v.r, macKeySize))
				}
				var tags [groupSize][Overhead]byte
				c.sum(&tags, group)
				for i := range group {
					if want := unhex(v.tag, Overhead); !bytes.Equal(tags[i][:], want) {
						t.Errorf("r %s, text %s, %d messages: %x, want %x", v.r, v.text, n, tags[i],
							want)
					}
				}
			}
		}
	})
}

func BenchmarkSum(b *testing.B) {
	defer func(k kernel) { use = k }(use)
	for _, use = range kernels() {
		for _, size := range []int{32, 100, 256, 384, 500, 1500, 16384} {
			for _, n := range []int{1, 2, 3, 4, 8} {
				b.Run(fmt.Sprintf("kernel=%s/size=%d/messages=%d", use, size, n),
					func(b *testing.B) {
						var c Cipher
						group := make([]Message, n)
						for i := range group {
							group[i] = Message{Dst: make([]byte, size),
								Src: make([]byte, size+Overhead)}
						}
						var tags [groupSize][Overhead]byte
						for b.Loop() {
							c.sum(&tags, group)
						}
					})
			}
		}
	}
}
