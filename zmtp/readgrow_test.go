package zmtp

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// largestBatch is a Pattern that records the largest number of messages in one read.
type largestBatch struct{ n atomic.Int64 }

func (*largestBatch) Attach(*Peer) error  { return nil }
func (*largestBatch) Detach(*Peer, error) {}
func (l *largestBatch) Receive(_ *Peer, b *Batch) error {
	l.n.Store(max(l.n.Load(), int64(b.Len())))
	return nil
}

// The reads from a peer that never pauses become large, although no read ends at the end of a
// message.
func TestReadsGrowInAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := zmtptest.Network{Buffer: 2 * slabSize}
		pattern := new(largestBatch)
		s := NewSocket(wire.XSUB, pattern, Config{})
		defer s.Close()
		l, err := network.Listen("10.0.0.1:5556")
		if err == nil {
			_, err = s.Serve(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := network.Dial(t.Context(), "10.0.0.1:5556")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go io.Copy(io.Discard, c)
		message := AppendMessage(nil, make([]byte, 99)) // 101 bytes, which divide no size of a slab
		stream := wire.AppendGreeting(nil, "NULL", false)
		stream = wire.AppendCommand(stream, wire.CmdReady,
			wire.AppendProperty(nil, wire.PropSocketType, []byte("PUB")))
		for range 20_000 {
			stream = append(stream, message...)
		}
		if _, err := c.Write(stream); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, want := pattern.n.Load(), int64(slabSize/len(message)); got < want {
			t.Errorf("the largest batch has %d messages, want %d", got, want)
		}
	})
}
