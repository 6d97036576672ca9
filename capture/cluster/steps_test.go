package cluster

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"zmtpd/capture"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// hostile makes events of one broker for an Analyzer, and counts the steps that they take.
type hostile struct {
	a    *Analyzer
	now  time.Time
	last uint64 // session
}

func newHostile() *hostile {
	return &hostile{a: New(Options{}), now: time.Unix(1e9, 0)}
}

// session begins a session with a socket of the broker.
func (h *hostile) session(server wire.SocketType) *session {
	h.last++
	public := &capture.Session{ID: h.last, Server: netip.MustParseAddrPort("192.0.2.1:5555")}
	public.FromServer.Type = server
	s := &session{public: public, topics: map[string]time.Time{}}
	h.a.sessions[public.ID] = s
	return s
}

// message passes a message of a session.
func (h *hostile) message(s *session, from capture.Side, topic, body string) {
	h.a.follow(s, &capture.Event{Kind: capture.Message, From: from, Session: s.public,
		Time: h.now, Message: zmtp.NewMessageString(topic, body)}, Item{Topic: []byte(topic)})
}

// The work for one event does not grow with what the capture had before, whatever that was.
func TestStepsAreBounded(t *testing.T) {
	const n = 2000 // events; with work that grows, the steps would be millions
	for name, c := range map[string]struct {
		most int // steps for one event
		run  func(h *hostile, in *session) (events int)
	}{
		"subscribers of everything": {maxMatches + 10, func(h *hostile, in *session) int {
			for range 2 * maxMatches {
				h.a.subscribe(h.session(wire.XPUB), nil, h.now)
			}
			h.now = h.now.Add(time.Second)
			for i := range n / 40 {
				h.message(in, capture.Client, "t", fmt.Sprint(i))
			}
			return n / 40
		}},
		"prefixes of each length": {maxMatches + maxName + 10, func(h *hostile, in *session) int {
			topic := fmt.Sprintf("%0*d", maxName, 0)
			for range 10 {
				s := h.session(wire.XPUB)
				for i := range topic {
					h.a.subscribe(s, []byte(topic[:i]), h.now)
				}
			}
			h.now = h.now.Add(time.Second)
			for i := range n / 40 {
				h.message(in, capture.Client, topic, fmt.Sprint(i))
			}
			return n / 40
		}},
		"the same message again and again": {10, func(h *hostile, in *session) int {
			for range n {
				h.message(in, capture.Client, "t", "same")
			}
			for range 2 {
				out := h.session(wire.XPUB)
				for range n {
					h.message(out, capture.Server, "t", "same")
				}
			}
			return 3 * n
		}},
		"subscribers that come and go": {10, func(h *hostile, in *session) int {
			for i := range n {
				h.message(in, capture.Client, "t", fmt.Sprint(i))
			}
			for range n {
				s := h.session(wire.XPUB)
				h.a.subscribe(s, []byte("u"), h.now)
				h.a.end(s, &capture.Event{Time: h.now, Session: s.public})
			}
			h.now = h.now.Add(time.Hour)
			h.message(in, capture.Client, "t", "last")
			return 2 * n
		}},
		"one message to many": {10, func(h *hostile, in *session) int {
			h.message(in, capture.Client, "t", "same")
			for range n {
				h.message(h.session(wire.XPUB), capture.Server, "t", "same")
			}
			h.now = h.now.Add(time.Hour)
			h.message(in, capture.Client, "t", "same")
			return n
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile()
			events := c.run(h, h.session(wire.XSUB))
			h.a.Summary()
			if steps := h.a.load.steps; steps == 0 || steps > events*c.most {
				t.Errorf("%d steps for %d events", steps, events)
			}
		})
	}
}

// What is kept is given back when the messages have expired.
func TestExpiredMessagesAreForgotten(t *testing.T) {
	h := newHostile()
	in, out, gone := h.session(wire.XSUB), h.session(wire.XPUB), h.session(wire.XPUB)
	for _, s := range []*session{out, gone} {
		h.a.subscribe(s, []byte("t"), h.now)
	}
	h.now = h.now.Add(time.Second)
	for range 3 {
		h.message(in, capture.Client, "t", "same")
	}
	for range 2 {
		h.message(out, capture.Server, "t", "same")
	}
	b := h.a.broker(in.public, false)
	if h.a.load.awaited != 4 || h.a.load.delivered != 2 || b.early != 0 {
		t.Errorf("kept %+v, early %d", h.a.load, b.early)
	}
	h.a.end(gone, &capture.Event{Time: h.now, Session: gone.public})
	b.expire(h.now.Add(time.Hour))
	if h.a.load.awaited != 0 || h.a.load.delivered != 0 || len(b.pending) != 0 || b.total != 1 ||
		b.lost[out.public.ID] != 1 {
		t.Errorf("kept %+v, %d pending, lost %v", h.a.load, len(b.pending), b.lost)
	}
	h.a.end(out, &capture.Event{Time: h.now, Session: out.public})
	if h.a.subscribed != 0 || len(b.subscribers.byTopic) != 0 {
		t.Errorf("%d subscriptions are left", h.a.subscribed)
	}
}
