package salsa

import (
	"crypto/rand"
	"fmt"
	mrand "math/rand"
	"testing"
)

func TestPolyQuick(t *testing.T) {
	for n := 0; n < 3000; n++ {
		var key [32]byte
		rand.Read(key[:])
		text := make([]byte, 128+n)
		rand.Read(text)
		if n%7 == 0 {
			for i := range text {
				text[i] = 255
			}
			for i := range key {
				key[i] = 255
			}
		}
		var want, got [16]byte
		sum(&want, text, &key)
		var p poly1305
		p.init(&key)
		used := p.longBlocks(text)
		p.blocks(text[used:])
		p.last(text[len(text)&^15:])
		p.tag(&got, &key)
		if got != want {
			t.Fatalf("%d %x %x", len(text), got, want)
		}
	}
	for n := 0; n < 5000; n++ {
		k := 1 + mrand.Intn(8)
		tags := make([][16]byte, k)
		var texts [][]byte
		var keys []*[32]byte
		for range k {
			b := make([]byte, mrand.Intn(200))
			rand.Read(b)
			texts = append(texts, b)
			kk := new([32]byte)
			rand.Read(kk[:])
			keys = append(keys, kk)
		}
		sumMany(tags, texts, keys)
		for i := range k {
			var want [16]byte
			sum(&want, texts[i], keys[i])
			if want != tags[i] {
				t.Fatal(n, i, len(texts[i]))
			}
		}
	}
}
func BenchmarkLong(b *testing.B) {
	var out [16]byte
	var key [32]byte
	for _, size := range benchSizes[2:] {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			text := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				var p poly1305
				p.init(&key)
				used := p.longBlocks(text)
				p.blocks(text[used:])
				p.last(text[len(text)&^15:])
				p.tag(&out, &key)
			}
		})
	}
}
func BenchmarkMany(b *testing.B) {
	for _, size := range benchSizes[:5] {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			tags := make([][16]byte, 8)
			var texts [][]byte
			var keys []*[32]byte
			for range 8 {
				texts = append(texts, make([]byte, size))
				keys = append(keys, new([32]byte))
			}
			for b.Loop() {
				sumMany(tags, texts, keys)
			}
		})
	}
}
