package main

import (
	"net/netip"
	"time"

	"zmtpd/capture"
)

// maxSelected bounds the sessions whose packets are selected.
const maxSelected = 1 << 20

// selection are the sessions of which something was selected, by their endpoints, client first.
type selection map[[2]netip.AddrPort][]selectedSession

type selectedSession struct {
	id       uint64
	from, to time.Time // to is zero as long as it lasts
}

// add selects the session of an event.
func (s selection) add(ev *capture.Event) {
	key := [2]netip.AddrPort{ev.Session.Client, ev.Session.Server}
	list := s[key]
	if n := len(list); n > 0 && list[n-1].id == ev.Session.ID {
		if ev.Kind == capture.Closed {
			list[n-1].to = ev.Time
		}
		return
	}
	if len(s) < maxSelected {
		s[key] = append(list, selectedSession{id: ev.Session.ID, from: ev.Session.Began})
	}
}

// end notes the end of a session that may be selected.
func (s selection) end(ev *capture.Event) {
	list := s[[2]netip.AddrPort{ev.Session.Client, ev.Session.Server}]
	if n := len(list); n > 0 && list[n-1].id == ev.Session.ID {
		list[n-1].to = ev.Time
	}
}

// has reports whether a packet is one of a session that is selected.
func (s selection) has(src, dst netip.AddrPort, at time.Time) bool {
	for _, key := range [][2]netip.AddrPort{{src, dst}, {dst, src}} {
		for _, one := range s[key] {
			if !at.Before(one.from) && (one.to.IsZero() || !at.After(one.to)) {
				return true
			}
		}
	}
	return false
}
