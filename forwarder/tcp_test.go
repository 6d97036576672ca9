package forwarder

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// stage is a broker on TCP with a publisher, a subscriber that reads, and one that does not.
type stage struct {
	*Forwarder
	t     *testing.T
	ctx   context.Context
	pub   *zmtp.XPub
	stuck *raw
	sent  atomic.Int64
	got   atomic.Int64 // messages that the healthy subscriber has received, in order
}

const stageHWM = 100

func newStage(t *testing.T, policy Policy) *stage {
	return newStageOn(t, stageConfig(policy), "127.0.0.1", func(xpub string) (net.Conn, error) {
		conn, err := net.Dial("tcp", xpub)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return conn, err
	})
}

// stageConfig keeps the kernel's buffers small, but not so small that delayed acknowledgements set
// the pace.
func stageConfig(policy Policy) Config {
	return Config{
		Overload: policy,
		XPub:     zmtp.Config{SendHWM: stageHWM, SendBuffer: 64 << 10},
	}
}

// newStageOn is newStage for a broker that listens on the address host. dial connects the
// subscriber that does not read.
func newStageOn(t *testing.T, cfg Config, host string,
	dial func(xpub string) (net.Conn, error)) *stage {
	f := New(cfg)
	s := &stage{Forwarder: f, t: t, ctx: testContext(t)}
	in, err := s.ListenXSub("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.ListenXPub("tcp://" + host + ":*")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dial(strings.TrimPrefix(out, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	s.stuck = handshake(t, conn, wire.SUB)
	s.stuck.subscribe("t", true)

	sub := zmtp.NewSub(zmtp.Config{})
	sub.Subscribe("t")
	if err := sub.Connect(out); err != nil {
		t.Fatal(err)
	}
	s.pub = zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{NoDrop: true, Verboser: true})
	if err := s.pub.Connect(in); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "both have subscribed", func() bool {
		st := f.Stats()
		return st.Backend.In.Messages == 2 && len(st.Subscribers) == 2 && s.pub.Topics() == 1
	})
	go func() {
		for {
			m, err := sub.Recv(context.Background())
			if err != nil {
				return
			}
			if want := fmt.Sprint(s.got.Load()); string(m.Part(1)) != want {
				t.Errorf("the healthy subscriber got %s, want %s", m.Part(1), want)
				return
			}
			s.got.Add(1)
		}
	}()
	t.Cleanup(func() {
		s.stuck.Close()
		shutdown(t, s.pub, f, sub)
		accounted(t, f)
	})
	return s
}

// send publishes n messages of 4 KiB. If paced is set, it stays at most half a queue ahead of the
// healthy subscriber: on a busy machine that one is slow as well if messages come as fast as they
// can.
func (s *stage) send(n int, paced bool) error {
	body := strings.Repeat("x", 4<<10)
	for range n {
		i := s.sent.Load()
		if paced {
			testkit.Eventually(s.t, "the healthy subscriber has read",
				func() bool { return i-s.got.Load() < stageHWM/2 })
		}
		if err := s.pub.Send(s.ctx, zmtp.NewMessageString("t", fmt.Sprint(i), body)); err != nil {
			return err
		}
		s.sent.Add(1)
	}
	return nil
}

// other returns the entry in Stats for the subscriber that does not read.
func (s *stage) other() SubscriberStats {
	for _, st := range s.Stats().Subscribers {
		if st.Remote.String() == s.stuck.LocalAddr().String() {
			return st
		}
	}
	return SubscriberStats{}
}

// healthy waits until the healthy subscriber has received everything.
func (s *stage) healthy() {
	s.t.Helper()
	testkit.Eventually(s.t, "the healthy subscriber has everything",
		func() bool { return s.got.Load() == s.sent.Load() })
}

func TestAdaptiveTCP(t *testing.T) {
	s := newStage(t, Adaptive)
	if err := s.send(2000, true); err != nil {
		t.Fatal(err)
	}
	s.healthy()
	st := s.other()
	if st.Dropped.Total() < 1000 || st.Queued > stageHWM || st.SlowSince.IsZero() {
		t.Errorf("%+v", st)
	}
	go io.Copy(io.Discard, s.stuck)
	testkit.Eventually(t, "it has recovered", func() bool { return s.other().SlowSince.IsZero() })
	before := s.other()
	if err := s.send(50, true); err != nil {
		t.Fatal(err)
	}
	s.healthy()
	if st := s.other(); st.Dropped != before.Dropped || st.Out.Messages != before.Out.Messages+50 {
		t.Errorf("after it has recovered: %+v, before %+v", st, before)
	}
}

func TestBlockTCP(t *testing.T) {
	const n = 2000
	s := newStage(t, Block)
	sent := make(chan error, 1)
	go func() { sent <- s.send(n, false) }()
	testkit.Eventually(t, "it counts as slow", func() bool { return !s.other().SlowSince.IsZero() })
	// The queue of the publisher's own socket fills up behind the broker.
	testkit.Eventually(t, "the publisher waits",
		func() bool { return s.sent.Load()-s.got.Load() >= zmtp.DefaultHWM })
	c := new(collector)
	go c.read(t, s.stuck)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	s.healthy()
	testkit.Eventually(t, "the other has everything", func() bool { return len(c.all()) == n })
	for i, m := range c.all() {
		if !strings.HasPrefix(m, fmt.Sprintf("t|%d|x", i)) {
			t.Fatalf("message %d is %.10q", i, m)
		}
	}
	if st := s.Stats(); st.XPub.Dropped.Total() > 0 {
		t.Errorf("dropped %v", st.XPub.Dropped)
	}
}

func TestDropTCP(t *testing.T) {
	s := newStage(t, Drop)
	if err := s.send(2000, true); err != nil {
		t.Fatal(err)
	}
	s.healthy()
	if st := s.other(); st.Dropped.Total() < 1000 || st.Queued > stageHWM ||
		st.Dropped.Total()+st.Out.Messages != 2000 {
		t.Errorf("%+v", st)
	}
}

func TestDisconnectTCP(t *testing.T) {
	s := newStage(t, Disconnect)
	if err := s.send(2000, true); err != nil {
		t.Fatal(err)
	}
	s.healthy()
	if st := s.Stats().XPub; st.Closed[wire.SlowConsumer] != 1 || st.Peers != 1 {
		t.Errorf("%+v", st)
	}
}
