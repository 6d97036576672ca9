package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"zmtpd/zmtp/wire"
)

// pushedFile returns a capture of a PUSH socket's messages of a size, in segments of another size.
func pushedFile(tb testing.TB, total, message, segment int) []byte {
	stream := hello(wire.PUSH)
	for len(stream) < total {
		stream = wire.AppendFrame(stream, wire.More, []byte("topic"))
		stream = wire.AppendFrame(stream, 0, make([]byte, message))
	}
	b := file(tb, established()...)
	head := up(0, nil).packet(tb, clientEnd, serverEnd)[:headerEther+40] // without padding
	for at := 0; at < len(stream); at += segment {
		data := stream[at:min(at+segment, len(stream))]
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(head)+len(data)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(head)+len(data)))
		start := len(b)
		b = append(append(b, head...), data...)
		binary.BigEndian.PutUint16(b[start+headerEther+2:], uint16(40+len(data)))
		binary.BigEndian.PutUint32(b[start+headerEther+20+4:], uint32(upISN+1+at))
	}
	return b
}

func BenchmarkReader(b *testing.B) {
	for _, sizes := range [][2]int{{100, 1448}, {500, 800}, {500, 65000}, {100_000, 65000}} {
		b.Run(fmt.Sprintf("message=%d/segment=%d", sizes[0], sizes[1]), func(b *testing.B) {
			file := pushedFile(b, 32<<20, sizes[0], sizes[1])
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := NewReader(bytes.NewReader(file), Options{})
				if err != nil {
					b.Fatal(err)
				}
				for _, err := range r.Events(b.Context()) {
					if err != nil {
						b.Fatal(err)
					}
				}
				if r.Stats().Messages < 300 {
					b.Fatalf("%+v", r.Stats())
				}
			}
		})
	}
}

// Once the buffers have grown, packets cost no allocation: as many for a large file as for a small
// one.
func TestAllocations(t *testing.T) {
	for name, capture := range map[string]func(total int) []byte{
		"TCP": func(total int) []byte { return pushedFile(t, total, 500, 800) },
		"WebSocket": func(total int) []byte {
			var frames []byte
			for len(frames) < total {
				frames = wire.AppendFrame(frames, wire.More, []byte("topic"))
				frames = wire.AppendFrame(frames, 0, make([]byte, 500))
			}
			client, server := wsStreams(t, frames)
			return file(t, wsSession(client, server, 800)...)
		},
	} {
		count := func(total int) float64 {
			file := capture(total)
			return testing.AllocsPerRun(5, func() {
				r, err := NewReader(bytes.NewReader(file), Options{})
				if err != nil {
					t.Fatal(err)
				}
				for range r.Events(t.Context()) {
				}
			})
		}
		small, large := count(1<<20), count(4<<20)
		if large > small+50 {
			t.Errorf("%s: %v allocations for 1 MiB, %v for 4 MiB", name, small, large)
		}
	}
}
