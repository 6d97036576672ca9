//go:build unix

package interop

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// ours is the side of package zmtp.
type ours struct{}

func (ours) String() string { return "ours" }

// ourEnd is a socket of package zmtp.
type ourEnd struct {
	t *testing.T
	*zmtp.Socket
	dial    func(endpoint string) error               // Push has a Connect of its own
	out     func(context.Context, zmtp.Message) error // nil unless the type sends
	tryOut  func(zmtp.Message) error
	in      receiver   // nil unless the type receives
	changes subscriber // nil unless the type subscribes
}

type receiver interface {
	Recv(context.Context) (zmtp.Message, error)
}

type subscriber interface {
	Subscribe(topic string) error
	Unsubscribe(topic string) error
}

func (ours) open(t *testing.T, kind string, o options) end { return open(t, kind, o) }

// open is ours.open with the concrete type.
func open(t *testing.T, kind string, o options) *ourEnd {
	t.Helper()
	cfg := zmtp.Config{
		SendHWM: o.sendHWM, RecvHWM: o.recvHWM, SendBuffer: o.sendBuf, RecvBuffer: o.recvBuf,
		IPv6:              o.ipv6,
		RoutingID:         []byte(o.routingID),
		Conflate:          o.conflate,
		InvertMatching:    o.invert,
		ReconnectStop:     o.stop,
		HeartbeatInterval: o.heartbeat, HeartbeatTimeout: o.heartbeatTimeout,
		HeartbeatTTL: o.heartbeatTTL,
		// Tests that wait for a peer to come back should not wait long.
		ReconnectInterval: 20 * time.Millisecond, ReconnectMax: 200 * time.Millisecond,
	}
	if name, value, ok := strings.Cut(o.property, ":"); ok {
		cfg.Metadata = wire.Metadata{{Name: name, Value: []byte(value)}}
	}
	if o.user != "" {
		cfg.Mechanism = (&zmtp.PlainClient{User: o.user, Password: o.password}).Mechanism
	}
	if o.plainServer {
		auth := zmtp.Auth{Handler: zap.Passwords{theUser: thePassword}}
		cfg.Mechanism = (&zmtp.PlainServer{Auth: auth}).Mechanism
	}
	s := &ourEnd{t: t}
	switch kind {
	case "PUSH":
		k := zmtp.NewPush(cfg, zmtp.PushOptions{Immediate: o.immediate})
		s.dial = k.Connect
		s.Socket, s.out, s.tryOut = k.Socket, k.Send, k.TrySend
	case "PULL":
		k := zmtp.NewPull(cfg)
		s.Socket, s.in = k.Socket, k
	case "PUB":
		k := zmtp.NewPub(cfg)
		s.Socket, s.out, s.tryOut = k.Socket, k.Send, k.TrySend
	case "XPUB":
		opt := zmtp.XPubOptions{Verbose: o.verbose, Verboser: o.verboser, NoDrop: o.nodrop,
			OnlyFirstSubscribe: o.onlyFirst}
		if o.welcome != "" {
			opt.Welcome = zmtp.NewMessageString(o.welcome)
		}
		k := zmtp.NewXPub(cfg, opt)
		s.Socket, s.out, s.tryOut, s.in = k.Socket, k.Send, k.TrySend, k
	case "SUB":
		k := zmtp.NewSub(cfg)
		s.Socket, s.in, s.changes = k.Socket, k, k
	case "XSUB":
		k := zmtp.NewXSub(cfg)
		s.Socket, s.out, s.tryOut, s.in, s.changes = k.Socket, k.Send, k.TrySend, k, k
	case "DEALER":
		k := zmtp.NewDealer(cfg, zmtp.DealerOptions{Immediate: o.immediate, ProbeRouter: o.probe})
		s.Socket, s.out, s.tryOut, s.in = k.Socket, k.Send, k.TrySend, k
	case "ROUTER":
		k := zmtp.NewRouter(cfg, zmtp.RouterOptions{Mandatory: o.mandatory,
			Handover: o.handover, ProbeRouter: o.probe})
		s.Socket, s.out, s.tryOut, s.in = k.Socket, k.Send, k.TrySend, k
	case "REQ":
		k := zmtp.NewReq(cfg, zmtp.ReqOptions{Relaxed: o.relaxed, Correlate: o.correlate,
			Immediate: o.immediate, ProbeRouter: o.probe})
		s.Socket, s.out, s.tryOut, s.in = k.Socket, k.Send, k.TrySend, k
	case "REP":
		k := zmtp.NewRep(cfg)
		s.Socket, s.out, s.tryOut, s.in = k.Socket, k.Send, k.TrySend, k
	case "PAIR":
		k := zmtp.NewPair(cfg)
		s.Socket, s.out, s.tryOut, s.in = k.Socket, k.Send, k.TrySend, k
	case "STREAM":
		k := zmtp.NewStream(cfg, zmtp.StreamOptions{})
		s.Socket, s.out, s.tryOut, s.in = k.Socket, k.Send, k.TrySend, k
	default:
		t.Fatalf("no socket type %s", kind)
	}
	if s.dial == nil {
		s.dial = s.Connect
	}
	t.Cleanup(s.close)
	return s
}

// listen implements end. A process that another test is just starting may still have a copy of a
// listener that was closed.
func (s *ourEnd) listen(endpoint string) string {
	s.t.Helper()
	var bound string
	testkit.Eventually(s.t, "the address is free", func() (free bool) {
		var err error
		bound, err = s.Listen(endpoint)
		if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			s.t.Fatal(err)
		}
		return err == nil
	})
	return bound
}

func (s *ourEnd) connect(endpoint string) {
	s.t.Helper()
	if err := s.dial(endpoint); err != nil {
		s.t.Fatal(err)
	}
}

func (s *ourEnd) subscribe(topic string) {
	s.t.Helper()
	if err := s.changes.Subscribe(topic); err != nil {
		s.t.Fatal(err)
	}
}

func (s *ourEnd) unsubscribe(topic string) {
	s.t.Helper()
	if err := s.changes.Unsubscribe(topic); err != nil {
		s.t.Fatal(err)
	}
}

func (s *ourEnd) send(parts ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.out(ctx, zmtp.NewMessageString(parts...)); err != nil {
		s.t.Fatalf("our %s: %v", s.Type(), err)
	}
}

func (s *ourEnd) trySend(parts ...string) bool {
	s.t.Helper()
	err := s.tryOut(zmtp.NewMessageString(parts...))
	if err != nil && !errors.Is(err, zmtp.ErrWouldBlock) {
		s.t.Fatalf("our %s: %v", s.Type(), err)
	}
	return err == nil
}

func (s *ourEnd) recv() []string {
	s.t.Helper()
	parts, ok := s.tryRecv(patience)
	if !ok {
		s.t.Fatalf("our %s: no message within %v", s.Type(), patience)
	}
	return parts
}

func (s *ourEnd) tryRecv(d time.Duration) ([]string, bool) {
	s.t.Helper()
	m, ok := s.message(d)
	return parts(m), ok
}

// message is tryRecv with the message as the library gives it.
func (s *ourEnd) message(d time.Duration) (zmtp.Message, bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	m, err := s.in.Recv(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.t.Fatalf("our %s: %v", s.Type(), err)
	}
	return m, err == nil
}

func parts(m zmtp.Message) []string {
	var all []string
	for part := range m.Parts() {
		all = append(all, string(part))
	}
	return all
}

func numbered(topic, source string, i int, body []byte) zmtp.Message {
	return zmtp.NewMessage([]byte(topic), []byte(source), strconv.AppendInt(nil, int64(i), 10),
		body)
}

func (s *ourEnd) burst(topic, source string, n, size int) func() {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		body := make([]byte, size)
		for i := range n {
			if err := s.out(ctx, numbered(topic, source, i, body)); err != nil {
				done <- fmt.Errorf("message %d: %w", i, err)
				return
			}
		}
		done <- nil
	}()
	return func() {
		s.t.Helper()
		if err := <-done; err != nil {
			s.t.Fatalf("our %s: %v", s.Type(), err)
		}
	}
}

func (s *ourEnd) pump(topic, source string, n, size int) int {
	s.t.Helper()
	body := make([]byte, size)
	for i := range n {
		switch err := s.tryOut(numbered(topic, source, i, body)); {
		case errors.Is(err, zmtp.ErrWouldBlock):
			return i
		case err != nil:
			s.t.Fatalf("our %s: %v", s.Type(), err)
		}
	}
	return n
}

func (s *ourEnd) tally(n int, quiet time.Duration) func() tally {
	type result struct {
		tally
		error
	}
	done := make(chan result, 1)
	go func() {
		sources := tally{}
		for range n {
			ctx, cancel := context.WithTimeout(s.t.Context(), quiet)
			m, err := s.in.Recv(ctx)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			if err != nil {
				done <- result{nil, err}
				return
			}
			p := m.NumParts()
			number, err := strconv.Atoi(string(m.Part(p - 2)))
			if err != nil {
				done <- result{nil, err}
				return
			}
			source := string(m.Part(p - 3))
			sources[source] = append(sources[source], number)
		}
		done <- result{sources, nil}
	}()
	return func() tally {
		s.t.Helper()
		r := <-done
		if r.error != nil {
			s.t.Fatalf("our %s: %v", s.Type(), r.error)
		}
		return r.tally
	}
}

func (s *ourEnd) close() {
	s.t.Helper()
	if err := s.Close(); err != nil {
		s.t.Errorf("our %s: %v", s.Type(), err)
	}
}
