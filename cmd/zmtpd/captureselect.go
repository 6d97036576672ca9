package main

import (
	"net/netip"
	"time"

	"zmtpd/capture"
)

// maxSelected bounds the sessions whose packets are selected.
const maxSelected = 1 << 20

// selection has the sessions of which something was selected.
type selection struct {
	sessions map[[2]netip.AddrPort][]selectedSession // by their endpoints, client first
	n        int
	full     bool // a session found no room
}

type selectedSession struct {
	id       uint64
	from, to time.Time // to is zero as long as it lasts
}

// last returns the latest session with the endpoints of an event if it is that of the event, and
// all with these endpoints.
func (s *selection) last(ev *capture.Event) (one *selectedSession, all []selectedSession) {
	all = s.sessions[[2]netip.AddrPort{ev.Session.Client, ev.Session.Server}]
	if n := len(all); n > 0 && all[n-1].id == ev.Session.ID {
		return &all[n-1], all
	}
	return nil, all
}

// add selects the session of an event.
func (s *selection) add(ev *capture.Event) {
	one, all := s.last(ev)
	switch {
	case one != nil:
	case s.n == maxSelected:
		s.full = true
		return
	default:
		s.n++
		s.sessions[[2]netip.AddrPort{ev.Session.Client, ev.Session.Server}] = append(all,
			selectedSession{id: ev.Session.ID, from: ev.Session.Began})
	}
	s.end(ev)
}

// end notes the end of a session that may be selected.
func (s *selection) end(ev *capture.Event) {
	if one, _ := s.last(ev); one != nil && ev.Kind == capture.Closed {
		one.to = ev.Time
	}
}

// has reports whether a packet is one of a session that is selected.
func (s *selection) has(src, dst netip.AddrPort, at time.Time) bool {
	for _, key := range [][2]netip.AddrPort{{src, dst}, {dst, src}} {
		for _, one := range s.sessions[key] {
			if !at.Before(one.from) && (one.to.IsZero() || !at.After(one.to)) {
				return true
			}
		}
	}
	return false
}
