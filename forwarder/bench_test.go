package forwarder

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// BenchmarkReceive measures routing on the publisher's goroutine: one message of four parts for a
// number of subscribers, whose connections take everything at once.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{100, 500} {
		for _, topics := range []int{1, 8} {
			for _, subscribers := range []int{1, 10, 100} {
				b.Run(fmt.Sprintf("size=%d/topics=%d/subscribers=%d", size, topics, subscribers),
					func(b *testing.B) {
						benchmarkReceive(b, size, topics, subscribers)
					})
			}
		}
	}
}

func benchmarkReceive(b *testing.B, size, topics, subscribers int) {
	f := New(Config{Overload: Block})
	defer f.Close()
	attachSinks(b, f, subscribers)
	p, batch, release := hold(b, f, benchMessages(size, topics))
	defer release()
	receive := (*xsubPattern)(f).Receive
	receive(p, batch)

	n := batch.Len()
	b.ReportAllocs()
	for sent := 0; b.Loop(); sent++ {
		if sent%n == 0 {
			receive(p, batch)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(subscribers), "ns/pair")
	if st := f.Stats(); st.XPub.Dropped.Total() > 0 || st.Received.Unmatched > 0 {
		b.Fatalf("dropped %v, unmatched %d", st.XPub.Dropped, st.Received.Unmatched)
	}
}

// benchMessages returns 64 KiB of messages like Zeek's. Each has size bytes in all its parts.
func benchMessages(size, topics int) []byte {
	var all []byte
	for i := 0; ; i++ {
		topic, id, format := fmt.Sprintf("zeek.cluster.node.worker-%d.", i%topics),
			"zeromq_worker-1_h_1_N", "broker-bin-v1"
		body := make([]byte, max(size-len(topic)-len(id)-len(format), 0))
		m := zmtp.AppendMessage(nil, []byte(topic), []byte(id), []byte(format), body)
		if len(all)+len(m) > 64<<10 {
			return all
		}
		all = append(all, m...)
	}
}

// attachSinks connects subscribers to everything. They then send nothing and take whatever is
// written.
func attachSinks(tb testing.TB, f *Forwarder, n int) {
	tb.Helper()
	attachSinksTo(tb, xpubAddr, f.ServeXPub, n)
	testkit.Eventually(tb, "all have subscribed", func() bool {
		return f.Stats().Backend.In.Messages == uint64(n)
	})
}

func attachSinksTo(tb testing.TB, addr string, serve func(net.Listener) (string, error), n int) {
	tb.Helper()
	var network zmtptest.Network
	l, err := network.Listen(addr)
	if err == nil {
		_, err = serve(sinkListener{l})
	}
	if err != nil {
		tb.Fatal(err)
	}
	for range n {
		c, err := network.Dial(tb.Context(), addr)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { c.Close() })
		hello := wire.AppendGreeting(nil, "NULL", false)
		hello = wire.AppendCommand(hello, wire.CmdReady,
			wire.AppendProperty(nil, wire.PropSocketType, []byte("SUB")))
		if _, err := c.Write(wire.AppendSubscription(hello, false, true,
			[]byte("zeek."))); err != nil {
			tb.Fatal(err)
		}
	}
}

// sinkListener makes connections that discard what is written.
type sinkListener struct{ net.Listener }

type sink struct{ net.Conn }

func (l sinkListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return sink{c}, err
}

func (sink) Write(b []byte) (int, error) { return len(b), nil }

// hold returns a batch of about the given messages, all from one read, and the publisher that sent
// it. They are valid until release is called.
func hold(tb testing.TB, f *Forwarder, msgs []byte) (p *zmtp.Peer, b *zmtp.Batch, release func()) {
	tb.Helper()
	var network zmtptest.Network
	h := &holder{xsubPattern: (*xsubPattern)(f), held: make(chan *zmtp.Batch),
		free: make(chan struct{})}
	s := zmtp.NewSocket(wire.XSUB, h, zmtp.Config{})
	l, err := network.Listen(xsubAddr)
	if err == nil {
		_, err = s.Serve(l)
	}
	if err != nil {
		tb.Fatal(err)
	}
	c, err := network.Dial(tb.Context(), xsubAddr)
	if err != nil {
		tb.Fatal(err)
	}
	go func() {
		hello := wire.AppendGreeting(nil, "NULL", false)
		hello = wire.AppendCommand(hello, wire.CmdReady,
			wire.AppendProperty(nil, wire.PropSocketType, []byte("PUB")))
		// The first reads are small, until it is known that the peer sends much.
		c.Write(append(hello, bytes.Repeat(msgs, 8)...))
	}()
	b = <-h.held
	return b.Peer(), b, func() {
		close(h.free)
		c.Close()
		s.Close()
	}
}

// holder is a Forwarder that keeps its first large batch.
type holder struct {
	*xsubPattern
	held chan *zmtp.Batch
	free chan struct{}
}

func (h *holder) Receive(_ *zmtp.Peer, b *zmtp.Batch) error {
	if b.Len() >= 100 {
		select {
		case h.held <- b:
			<-h.free
		case <-h.free:
		}
	}
	return nil
}

// BenchmarkTap is BenchmarkReceive for 500 bytes and one subscriber, with a tap that is off, has no
// subscriber, copies nothing, or copies everything to a subscriber and to Tap.Take, which keeps
// each batch for a moment.
func BenchmarkTap(b *testing.B) {
	keep := func(b *zmtp.Batch, runs []zmtp.Run) { b.Keep(runs).Release() }
	for _, c := range []struct {
		name        string
		tap         *Tap
		subscribers int
	}{
		{"off", nil, 0}, {"nobody", new(Tap), 0},
		{"other topics", &Tap{Topics: []string{"x"}, Take: keep}, 1},
		{"take", &Tap{Take: keep}, 0}, {"subscriber", new(Tap), 1},
	} {
		b.Run("tap="+c.name, func(b *testing.B) {
			f := New(Config{Overload: Block, Tap: c.tap})
			defer f.Close()
			attachSinks(b, f, 1)
			if c.subscribers > 0 {
				attachSinksTo(b, tapAddr, f.ServeTap, c.subscribers)
				testkit.Eventually(b, "the tap's subscribers",
					func() bool { return f.tap.table.Len() == 1 })
			}
			p, batch, release := hold(b, f, benchMessages(500, 8))
			defer release()
			receive := (*xsubPattern)(f).Receive
			receive(p, batch)
			n := batch.Len()
			b.ReportAllocs()
			for sent := 0; b.Loop(); sent++ {
				if sent%n == 0 {
					receive(p, batch)
				}
			}
		})
	}
}
