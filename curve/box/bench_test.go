package box

import (
	"fmt"
	"testing"

	"zmtpd/zmtp/wire"
)

// Sizes of a frame's body. bench.sh uses the same ones for libsodium.
var sizes = []int{32, 100, 500, 1500, 16384, 65536}

// burst returns about 64 KiB of frames, as a write loop gives them to Seal under load, and their
// number.
func burst(size int) (frames []byte, n int) {
	n = max(1, 65536/wire.FrameSize(size))
	for range n {
		frames = wire.AppendFrame(frames, 0, make([]byte, size))
	}
	return frames, n
}

// perFrame reports the time for one frame.
func perFrame(b *testing.B, size, n int) {
	b.SetBytes(int64(size * n))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/frame")
}

func BenchmarkSeal(b *testing.B) {
	for _, size := range sizes {
		frames, n := burst(size)
		for _, c := range []struct {
			name   string
			frames []byte
			n      int
		}{{"burst", frames, n}, {"single", frames[:wire.FrameSize(size)], 1}} {
			b.Run(fmt.Sprintf("size=%d/call=%s", size, c.name), func(b *testing.B) {
				s := NewSealer(new([32]byte), FromClient, 3)
				var out []byte
				for b.Loop() {
					out = s.Seal(out[:0], c.frames)
				}
				perFrame(b, size, c.n)
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, size := range sizes {
		frames, n := burst(size)
		for _, c := range []struct {
			name   string
			frames []byte
			n      int
		}{{"burst", frames, n}, {"single", frames[:wire.FrameSize(size)], 1}} {
			b.Run(fmt.Sprintf("size=%d/call=%s", size, c.name), func(b *testing.B) {
				stream := NewSealer(new([32]byte), FromClient, 3).Seal(nil, c.frames)
				o := NewOpener(new([32]byte), FromClient, 2)
				var out []byte
				for b.Loop() {
					o.last = 2
					var err error
					if out, err = o.Open(out[:0], stream); err != nil {
						b.Fatal(err)
					}
				}
				perFrame(b, size, c.n)
			})
		}
	}
}
