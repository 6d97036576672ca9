package jetstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/jetstream/testdata/natstest"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(processEnv); text != "" {
		serve(text)
		return
	}
	goleak.VerifyTestMain(m)
}

// proxy stands between a client and a server.
type proxy struct {
	net.Listener
	server string

	mu    sync.Mutex
	mute  bool // what the server sends is thrown away
	conns []net.Conn
}

func startProxy(t *testing.T, server string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, server: strings.TrimPrefix(server, "nats://")}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", p.server)
			if err != nil {
				c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, s)
			p.mu.Unlock()
			running.Go(func() { io.Copy(s, c); s.Close() })
			running.Go(func() { io.Copy(p.unless(c), s); c.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		running.Wait()
	})
	return p
}

// unless writes to w unless the proxy is mute.
func (p *proxy) unless(w io.Writer) io.Writer {
	return writerFunc(func(b []byte) (int, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.mute {
			return len(b), nil
		}
		return w.Write(b)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// cut ends all connections. Those that follow are not mute.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = false
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// silence throws away what the server sends from now on, until speak or cut.
func (p *proxy) silence() { p.setMute(true) }
func (p *proxy) speak()   { p.setMute(false) }

func (p *proxy) setMute(mute bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = mute
}

// TestLostAcknowledgement: a write whose acknowledgement is lost is undone in the bucket too, as
// soon as the store can write again; if it is found again at once, it was made.
func TestLostAcknowledgement(t *testing.T) {
	server := natstest.Start(t, nil)
	p := startProxy(t, server.URL)
	cfg := Config{URLs: []string{"nats://" + p.Addr().String()}, Timeout: 500 * time.Millisecond}
	direct := Config{URLs: []string{server.URL}}
	s, _ := open(t, cfg)
	put(t, s, "a", "old")
	put(t, s, "b", "old")

	p.silence()
	for _, c := range []struct {
		w    store.Write
		want string
	}{
		{store.Write{Op: "put", Key: text("a"), Value: text("refused")}, "may have been made"},
		// What became of the first has to be known before.
		{store.Write{Op: "clear"}, "was not made"},
	} {
		_, err := s.Apply(t.Context(), "", c.w,
			store.Write{Op: "put", Key: text("c"), Value: text("refused")})
		if !errors.Is(err, store.BackendFailure) || !strings.Contains(err.Error(), c.want) {
			t.Fatalf("error %v, want %s", err, c.want)
		}
	}
	if !has(s, "a", "old") || s.Stats().Keys != 2 {
		t.Error("a refused write is still in memory")
	}
	p.cut()
	testkit.Eventually(t, "a write", func() bool { return tryPut(t, s, "d", "new") == nil })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = open(t, direct)
	for key, want := range map[string]string{"a": "old", "b": "old", "d": "new"} {
		if !has(s, key, want) {
			t.Errorf("%s is not %s", key, want)
		}
	}
	if s.Get(text("c")) != nil || s.Stats().Keys != 3 || s.Stats().Seq != 3 {
		t.Errorf("a refused write came back: %+v", s.Stats())
	}
	s.Close()

	// The connection ends behind the batch, and comes back in time.
	cfg.Timeout = testkit.Patience
	s, b := open(t, cfg)
	p.silence()
	done := make(chan error, 1)
	go func() { done <- tryPut(t, s, "a", "made") }()
	nc, stream := rawStream(t, server.URL)
	defer nc.Close()
	last := b.rev
	testkit.Eventually(t, "the batch in the bucket", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.LastSeq > last
	})
	p.cut()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if b.attempts != 2 || s.Stats().Seq != 4 {
		t.Errorf("%d batches were sent, want that of the owner and one; %+v", b.attempts, s.Stats())
	}
}

// TestOutage: while the server is away, reads go on and writes are refused, at once after a while;
// when it is back, all that was acknowledged is there.
func TestOutage(t *testing.T) {
	server := natstest.Start(t, nil)
	s, b := open(t, Config{URLs: []string{server.URL}, Timeout: 300 * time.Millisecond})
	put(t, s, "a", "1")
	server.Stop()
	testkit.Eventually(t, "the loss of the connection", func() bool { return !b.Stats().Connected })
	if err := tryPut(t, s, "a", "2"); !errors.Is(err, store.BackendFailure) ||
		!strings.Contains(err.Error(), "it was not made: there is no connection") {
		t.Errorf("error %v", err)
	}
	if !has(s, "a", "1") || s.Stats().Failure == nil {
		t.Errorf("%+v", s.Stats())
	}
	server.Restart(t)
	testkit.Eventually(t, "a write", func() bool { return tryPut(t, s, "a", "3") == nil })
	if s.Stats().Failure != nil || b.Stats().Reconnects == 0 {
		t.Errorf("%+v, %+v", s.Stats(), b.Stats())
	}
	s.Close()
	s, _ = open(t, Config{URLs: []string{server.URL}})
	if !has(s, "a", "3") {
		t.Errorf("%+v", s.Get(text("a")))
	}
}

// rawStream returns the stream of the bucket of the store test.
func rawStream(t testing.TB, url string) (*nats.Conn, jetstream.Stream) {
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_zmtpd_test")
	if err != nil {
		t.Fatal(err)
	}
	return nc, stream
}

// TestTwoMasters: a second process is refused; one that does not answer is replaced, learns it
// when it can be reached again, and can write nothing any more.
func TestTwoMasters(t *testing.T) {
	for _, cut := range []bool{true, false} {
		t.Run(fmt.Sprintf("cut %v", cut), func(t *testing.T) {
			server := natstest.Start(t, nil)
			p := startProxy(t, server.URL)
			lost := make(chan error, 2)
			other := Config{Store: "test", URLs: []string{server.URL}, Who: "host-2:8"}
			first, b := open(t, Config{URLs: []string{"nats://" + p.Addr().String()},
				Who: "host-1:7", Lost: func(err error) { lost <- err }})
			put(t, first, "a", "1")
			if _, err := Open(other); !errors.Is(err, store.MasterExists) ||
				!strings.Contains(err.Error(), "host-1:7") {
				t.Fatalf("error %v", err)
			}
			nc, _ := rawStream(t, server.URL)
			defer nc.Close()
			if err := nc.Publish(ownerSubject+b.bucket, nil); err != nil { // anybody can say so
				t.Fatal(err)
			}
			put(t, first, "a", "2")

			p.silence()
			second, _ := open(t, other)
			put(t, second, "b", "1")
			if cut {
				p.cut()
			} else {
				p.speak()
				// It looks at most ten times a second.
				testkit.Eventually(t, "the loss", func() bool {
					nc.Publish(ownerSubject+b.bucket, nil)
					return b.lost.Load() != nil
				})
			}
			select {
			case err := <-lost:
				if !errors.Is(err, store.MasterExists) ||
					!strings.Contains(err.Error(), "host-2:8") {
					t.Errorf("error %v", err)
				}
			case <-time.After(testkit.Patience):
				t.Fatal("the process that was replaced has not learnt it")
			}
			// The revision of the record refuses it, also if it had not learnt it.
			b.lost.Store(nil)
			for range 2 {
				if err := tryPut(t, first, "a", "3"); !errors.Is(err, store.BackendFailure) ||
					!strings.Contains(err.Error(), "master_exists") {
					t.Errorf("error %v", err)
				}
			}
			put(t, second, "b", "2")
			second.Close()
			third, _ := open(t, Config{URLs: []string{server.URL}})
			for key, want := range map[string]string{"a": "2", "b": "2"} {
				if !has(third, key, want) {
					t.Errorf("%s is not %s", key, want)
				}
			}
		})
	}
}
