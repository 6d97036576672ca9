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
		sumLong(&got, text, &key)
		if got != want {
			t.Fatalf("%d %x %x", len(text), got, want)
		}
	}
	for n := 0; n < 20000; n++ {
		k := 1 + mrand.Intn(8)
		var c Cipher
		rand.Read(c.head.stream[:])
		if n%5 == 0 {
			for i := range c.head.stream {
				c.head.stream[i] = 255
			}
		}
		var tags [16][16]byte
		var msgs []Message
		for range k {
			b := make([]byte, mrand.Intn(200))
			if n%7 != 0 {
				rand.Read(b)
			} else {
				for i := range b {
					b[i] = 255
				}
			}
			msgs = append(msgs, Message{Dst: append(make([]byte, 16), b...), Src: b})
		}
		sumMany((*[8][16]byte)(tags[8:]), msgs, (*[512]byte)(c.head.stream[512:]))
		for i := range k {
			var want [16]byte
			sum(&want, msgs[i].Src, (*[32]byte)(c.head.stream[512+i*64:]))
			if want != tags[8+i] {
				t.Fatal(n, i, len(msgs[i].Src), want, tags[8+i])
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
			var tags [8][16]byte
			var msgs []Message
			var keys [512]byte
			for range 8 {
				msgs = append(msgs, Message{Dst: make([]byte, size+16), Src: make([]byte, size)})
			}
			for b.Loop() {
				sumMany(&tags, msgs, &keys)
			}
		})
	}
}
