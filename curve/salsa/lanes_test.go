package salsa

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	//lint:ignore SA1019 The reference for the tests; no other package accepts a block number.
	"golang.org/x/crypto/salsa20/salsa"
	"pgregory.net/rapid"
)

// slowBlock returns a block of key stream, computed by x/crypto.
func slowBlock(k key, nonce, number uint64) []byte {
	var secret [32]byte
	for i, w := range k {
		binary.LittleEndian.PutUint32(secret[4*i:], w)
	}
	var counter [16]byte
	binary.LittleEndian.PutUint64(counter[0:], nonce)
	binary.LittleEndian.PutUint64(counter[8:], number)
	out := make([]byte, blockSize)
	salsa.XORKeyStream(out, out, &counter, &secret)
	return out
}

var word = rapid.OneOf(
	rapid.Uint64(),
	rapid.Custom(func(t *rapid.T) uint64 { // around 2^32 and 2^64
		base := rapid.SampledFrom([]uint64{0, 1 << 32, 1 << 63}).Draw(t, "base")
		return base + uint64(rapid.IntRange(-16, 16).Draw(t, "offset"))
	}),
)

// Any blocks may be computed in any order: their number has 64 bits, and no lane depends on
// another.
func TestFill(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			var k key
			for i := range k {
				k[i] = rapid.Uint32().Draw(t, "key")
			}
			var l lanes
			n := rapid.IntRange(1, numLanes).Draw(t, "n")
			for i := range n {
				l.nonce[i], l.number[i] = word.Draw(t, "nonce"), word.Draw(t, "number")
			}
			want := l
			l.fill(&k, n)
			if l.nonce != want.nonce || l.number != want.number {
				t.Fatal("fill has changed its input")
			}
			for i := range n {
				got, want := l.stream[i*blockSize:][:blockSize],
					slowBlock(k, l.nonce[i], l.number[i])
				if !bytes.Equal(got, want) {
					t.Fatalf("lane %d of %d: % x, want % x", i, n, got, want)
				}
			}
		})
	})
}

func TestFillAcross32Bits(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		var l lanes
		for i := range l.number {
			l.number[i] = math.MaxUint32 - 7 + uint64(i)
		}
		l.fill(&key{1, 2, 3}, numLanes)
		for i, number := range l.number {
			if got, want := l.stream[i*blockSize:][:blockSize], slowBlock(key{1, 2, 3}, 0,
				number); !bytes.Equal(got, want) {
				t.Errorf("block %#x: % x, want % x", number, got, want)
			}
		}
	})
}

// The test tries every size and alignment, in place and towards the start of the buffer. Nothing
// else is written.
func TestXOR(t *testing.T) {
	const guard = 64
	stream := make([]byte, 300)
	for i := range stream {
		stream[i] = byte(i*7 + 1)
	}
	eachKernel(t, func(t *testing.T) {
		for size := range 200 {
			for _, shift := range []int{0, 1, 7, 8, 31, 33, 63, 64, 100} {
				at := guard + size%17
				buf := make([]byte, at+shift+size+guard)
				for i := range buf {
					buf[i] = byte(i)
				}
				want := bytes.Clone(buf)
				for i := range size {
					want[at+i] = byte(at+shift+i) ^ stream[size%5+i]
				}
				xor(buf[at:at+size], buf[at+shift:], stream[size%5:])
				if !bytes.Equal(buf, want) {
					t.Fatalf("%d bytes moved by %d:\n% x\n% x", size, shift, buf, want)
				}
			}
		}
	})
}

func BenchmarkFill(b *testing.B) {
	defer func(k kernel) { use = k }(use)
	for _, use = range kernels() {
		for _, n := range []int{1, 16, 32} {
			b.Run(fmt.Sprintf("kernel=%s/blocks=%d", use, n), func(b *testing.B) {
				var l lanes
				var k key
				for b.Loop() {
					l.fill(&k, n)
				}
			})
		}
	}
}
