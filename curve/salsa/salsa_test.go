package salsa

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/crypto/nacl/secretbox"
)

func testKey() (shared [32]byte, prefix [16]byte) {
	rand.Read(shared[:])
	rand.Read(prefix[:])
	return
}

func oracle(shared *[32]byte, prefix *[16]byte, n uint64, text []byte) []byte {
	var nonce [24]byte
	copy(nonce[:], prefix[:])
	binary.BigEndian.PutUint64(nonce[16:], n)
	return secretbox.Seal(nil, text, &nonce, shared)
}

func TestQuick(t *testing.T) {
	defer func(k kernel) { use = k }(use)
	for _, use = range kernels() {
		shared, prefix := testKey()
		var k Cipher
		k.Init(&shared, &prefix)
		for size := range 3000 {
			text := make([]byte, size)
			rand.Read(text)
			want := oracle(&shared, &prefix, 77, text)
			got := make([]byte, size+Overhead)
			k.Seal([]Message{{Nonce: 77, Dst: got, Src: text}})
			if !bytes.Equal(got, want) {
				t.Fatalf("size %d:\n%x\n%x", size, got, want)
			}
			back := make([]byte, size)
			if k.Open([]Message{{Nonce: 77, Dst: back, Src: got}}) != 1 || !bytes.Equal(back, text) {
				t.Fatal("open", size)
			}
		}
	}
}

var benchSizes = []int{32, 100, 500, 1500, 4096, 16384, 65536}

func BenchmarkSeal(b *testing.B) {
	shared, prefix := testKey()
	var k Cipher
	k.Init(&shared, &prefix)
	for _, size := range benchSizes {
		for _, batch := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("size=%d/batch=%d", size, batch), func(b *testing.B) {
				msgs := make([]Message, batch)
				for i := range msgs {
					msgs[i] = Message{Nonce: uint64(i), Dst: make([]byte, size+Overhead), Src: make([]byte, size)}
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for i := 0; i < b.N; i += batch {
					k.Seal(msgs)
				}
			})
		}
	}
}

func BenchmarkFill(b *testing.B) {
	var l lanes
	var k key
	for _, c := range kernels() {
		b.Run(c.String(), func(b *testing.B) {
			use = c
			for b.Loop() {
				l.fill(&k, 16)
			}
		})
	}
}

func BenchmarkSum(b *testing.B) {
	var out [16]byte
	var key [32]byte
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			text := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				sum(&out, text, &key)
			}
		})
	}
}
