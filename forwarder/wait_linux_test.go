package forwarder

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// rated is a broker on TCP with a publisher that sends at a fixed rate, and a healthy subscriber.
type rated struct {
	f       *Forwarder
	logs    *logBook
	in, out string // addresses
	got     atomic.Int64
	conns   []*raw
}

const (
	ratedBody     = 1 << 10
	ratedInterval = 2 * time.Millisecond // between messages: 500 kB/s
)

func newRated(t *testing.T) *rated {
	b := &rated{logs: new(logBook)}
	b.f = New(Config{Logger: b.logs.logger(),
		// One second of traffic: on a busy machine the healthy subscriber may get no processor for
		// a while.
		XPub: zmtp.Config{SendHWM: 500, SendBuffer: 64 << 10}})
	for listen, addr := range map[*string]func(string) (string, error){
		&b.in: b.f.ListenXSub, &b.out: b.f.ListenXPub,
	} {
		bound, err := addr("tcp://127.0.0.1:*")
		if err != nil {
			t.Fatal(err)
		}
		*listen = strings.TrimPrefix(bound, "tcp://")
	}
	t.Cleanup(func() {
		for _, r := range b.conns {
			r.Close()
		}
		b.f.Close()
	})
	return b
}

// dial connects a peer with a small receive buffer, so that its kernel takes little on its behalf.
func (b *rated) dial(t *testing.T, addr string, typ wire.SocketType) *raw {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET,
				syscall.SO_RCVBUF, 16<<10)
		})
	}}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := handshake(t, c, typ)
	r.t = new(quiet) // its connection ends while it writes
	b.conns = append(b.conns, r)
	return r
}

// subscriber connects a subscriber of "t", with a node id.
func (b *rated) subscriber(t *testing.T, node string) *raw {
	r := b.dial(t, b.out, wire.SUB)
	r.subscribe("t", true)
	r.subscribe("zeek.cluster.nodeid."+node+".", true)
	return r
}

// receive counts the messages from r, which must be complete and in order.
func (b *rated) receive(t *testing.T, r io.Reader) {
	frame := len(ratedMessage(0))
	buf := make([]byte, frame)
	for i := uint64(0); ; i++ {
		if _, err := io.ReadFull(r, buf); err != nil {
			return
		}
		if got := binary.BigEndian.Uint64(buf[frame-ratedBody:]); got != i {
			t.Errorf("the healthy subscriber got message %d, want %d", got, i)
			return
		}
		b.got.Add(1)
	}
}

func ratedMessage(i uint64) []byte {
	body := make([]byte, ratedBody)
	binary.BigEndian.PutUint64(body, i)
	return zmtp.NewMessage([]byte("t"), body).Wire()
}

// publish sends at the fixed rate until stop is closed. It catches up after a delay, unless the
// broker does not read.
func (b *rated) publish(t *testing.T, stop <-chan struct{}) {
	r := b.dial(t, b.in, wire.PUB)
	r.Conn.(*net.TCPConn).SetWriteBuffer(32 << 10)
	go io.Copy(io.Discard, r)
	go func() {
		tick := time.NewTicker(ratedInterval)
		defer tick.Stop()
		for i := uint64(0); ; i++ {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			r.write(ratedMessage(i))
		}
	}()
}

// Two brokers have the same load at the same time, and one of them also has slow subscribers of all
// kinds. Its healthy subscriber gets at least 90 % of the messages that the other broker's gets,
// from the beginning, and loses nothing.
func TestSlowSubscribersTCP(t *testing.T) {
	for _, slow := range []int{1, 10, 200} {
		t.Run(fmt.Sprint(slow), func(t *testing.T) {
			t.Parallel()
			alone, beside := newRated(t), newRated(t)
			var reading sync.WaitGroup
			defer reading.Wait()
			stop := make(chan struct{})
			for _, b := range []*rated{alone, beside} {
				r := b.subscriber(t, "healthy")
				reading.Go(func() { b.receive(t, r) })
			}
			for i := range slow {
				r := beside.subscriber(t, fmt.Sprintf("slow%d", i))
				if i%4 != 3 || slow == 1 { // the others read nothing
					reading.Go(func() { readPaced(r, 4<<10, 50*time.Millisecond) })
				}
			}
			testkit.Eventually(t, "all have subscribed", func() bool {
				return alone.f.Stats().Topics == 2 && beside.f.Stats().Topics == 2+slow
			})
			for _, b := range []*rated{alone, beside} {
				b.publish(t, stop)
			}
			began := time.Now()
			time.Sleep(8 * time.Second)
			want, got := alone.got.Load(), beside.got.Load()
			st := beside.f.Stats()
			t.Logf("%d messages alone, %d beside slow subscribers; the publisher was held up for %v",
				want, got, st.Publishers[0].Blocked)
			// If the machine is so busy that even the broker without slow subscribers does not
			// carry the load, the rates mean nothing. The time for which the publisher was held up
			// still does.
			took := time.Since(began)
			busy := want < int64(took/ratedInterval)*9/10
			if got < want*9/10 && !busy {
				t.Errorf("a subscriber got %d messages beside slow ones, and %d without them", got,
					want)
			}
			windows := took/holdWindow + 1 // number of windows that have begun
			if held := st.Publishers[0].Blocked; held > windows*(defaultBudget+2*waitTick) {
				t.Errorf("the publisher was held up for %v of %v", held, took)
			}
			for _, s := range st.Subscribers {
				lines := beside.logs.matching("slow subscriber", s.Remote.String(),
					"node="+s.NodeID)
				if s.NodeID == "healthy" && (s.Dropped.Total() > 0 || len(lines) > 0) {
					t.Errorf("the healthy subscriber lost %d messages, the log says %q",
						s.Dropped.Total(),
						lines)
				}
				if s.Dropped.Total() > 0 && len(lines) == 0 {
					t.Errorf("the log does not name %s, which lost %d messages", s.NodeID,
						s.Dropped)
				}
			}
			close(stop)
			for _, b := range []*rated{alone, beside} {
				for _, r := range b.conns {
					r.Close()
				}
			}
		})
	}
}
