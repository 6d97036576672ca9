package benchmark

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// startFar returns the endpoint of a far side.
func startFar(t *testing.T) (*zmtp.Router, string) {
	t.Helper()
	s := NewFar(zmtp.Config{}, slog.New(slog.DiscardHandler))
	endpoint, err := s.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(context.Background(), s) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, endpoint
}

func config(endpoint string) Config {
	return Config{Endpoint: endpoint, Sizes: []int{1, 1000}, For: 20 * time.Millisecond,
		Connections: 3, Timeout: testkit.Patience, Socket: zmtp.Config{RetryAlways: true}}
}

// All results are there, and fit together.
func TestRun(t *testing.T) {
	_, endpoint := startFar(t)
	r, err := Run(t.Context(), config(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	if r.Mechanism != "NULL" || len(r.Sizes) != 2 || r.Connection.Count < 1 ||
		r.Connection.Count > 3 {
		t.Errorf("report %+v", r)
	}
	for _, s := range r.Sizes {
		rate := s.Throughput.MessagesPerSecond
		if s.Throughput.Messages == 0 || s.Throughput.BytesPerSecond != rate*float64(s.Bytes) {
			t.Errorf("throughput %+v", s)
		}
		times := s.RoundTrip
		if times.P50 <= 0 || times.P50 > times.P90 || times.P90 > times.P99 ||
			times.P99 > times.Max {
			t.Errorf("times %+v", s)
		}
	}
}

func TestTimes(t *testing.T) {
	var all []time.Duration
	for i := range 101 {
		all = append(all, time.Duration(101-i)*time.Microsecond)
	}
	if got, want := newTimes(all), (Times{101, 51, 91, 100, 101}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// What a far side must not do is an error that says so.
func TestBadFarSide(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(s *zmtp.Router, m zmtp.Message)
		want   string
	}{
		"silent": {func(*zmtp.Router, zmtp.Message) {}, "does not answer within 200ms"},
		"other size": {func(s *zmtp.Router, m zmtp.Message) {
			_ = s.TrySend(zmtp.NewMessage(m.Part(0), []byte("ee")))
		}, "the answer is not what was sent"},
		"other parts": {func(s *zmtp.Router, m zmtp.Message) {
			_ = s.TrySend(zmtp.NewMessage(m.Part(0), []byte("e"), nil))
		}, "the answer is not what was sent"},
	} {
		t.Run(name, func(t *testing.T) {
			s := zmtp.NewRouter(zmtp.Config{})
			endpoint, err := s.Listen("tcp://127.0.0.1:*")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					m, err := s.Recv(context.Background())
					if err != nil {
						return
					}
					test.answer(s, m)
				}
			}()
			c := config(endpoint)
			if name == "silent" {
				c.Timeout = 200 * time.Millisecond
			}
			_, err = Run(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			s.Close()
			<-done
		})
	}
}

// A connection that was lost and made again spoils a measurement.
func TestLostConnection(t *testing.T) {
	far, endpoint := startFar(t)
	c := config(endpoint)
	var near *zmtp.Dealer
	c.Watch = func(s *zmtp.Dealer) { near = s }
	once := sync.OnceFunc(func() {
		far.ClosePeers(func(*zmtp.Peer) error { return context.Canceled })
		testkit.Eventually(t, "another connection",
			func() bool { return near.Stats().Handshakes == 2 })
	})
	c.Stage = func(string) { once() }
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "was lost") {
		t.Errorf("error %v", err)
	}
}

// A peer that sends anything and takes no answers does not keep the far side from another one, nor
// take its memory.
func TestBadNearSide(t *testing.T) {
	far, endpoint := startFar(t)
	bad := zmtp.NewDealer(zmtp.Config{RecvHWM: 1, RecvBytes: 1, TotalRecvBytes: 1})
	defer bad.Close()
	if err := bad.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	send := func(parts ...[]byte) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		defer cancel()
		if err := bad.Send(ctx, zmtp.NewMessage(parts...)); err != nil {
			t.Fatal(err)
		}
	}
	send(nil)
	send([]byte("x"), []byte("y"))
	send([]byte("nonsense"))
	flood := append([]byte("e"), make([]byte, 1<<20)...)
	for far.Stats().Dropped.Total() == 0 { // until the far side drops its answers
		send(flood)
	}
	if held := far.Peers()[0].QueuedBytes; held > queueBytes+2<<20 {
		t.Errorf("%d bytes wait for the peer", held)
	}
	if _, err := Run(t.Context(), config(endpoint)); err != nil {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no size":         func(c *Config) { c.Sizes = []int{0} },
		"size":            func(c *Config) { c.Sizes = []int{MaxSize + 1} },
		"sizes":           func(c *Config) { c.Sizes = make([]int, MaxSizes+1) },
		"no time":         func(c *Config) { c.For = 0 },
		"time":            func(c *Config) { c.For = MaxFor + 1 },
		"no timeout":      func(c *Config) { c.Timeout = 0 },
		"connections":     func(c *Config) { c.Connections = MaxConnections + 1 },
		"less than none":  func(c *Config) { c.Connections = -1 },
		"without the end": func(c *Config) { c.Timeout = MaxTimeout + 1 },
	} {
		c := config("tcp://127.0.0.1:1")
		change(&c)
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
