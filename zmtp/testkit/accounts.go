package testkit

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// The part of /status that says what has become of messages.
type (
	accountedSocket struct {
		Received     struct{ Messages uint64 }
		Sent         struct{ Messages uint64 }
		Dropped      map[string]uint64
		ReceiveQueue uint64          `json:"receive_queue"`
		Peers        []accountedPeer // of a broker
	}

	accountedPeer struct {
		Address string
		Account delivery
	}

	// delivery is what has become of a broker's messages for one subscriber, or for all.
	delivery struct {
		Matched, Delivered, Queued, Held uint64
		Dropped                          map[string]uint64
	}

	// routing is what has become of the messages from one side of a broker.
	routing struct{ Messages, Routed, Unmatched, Denied uint64 }

	counts struct{ Messages, Records uint64 }

	account struct {
		Received, Written, Queued counts
		Dropped                   map[string]counts
	}

	accounts struct {
		Forwarder *struct {
			Received, Upstream routing
			Account            delivery
			XSub, XPub         accountedSocket
		}
		Logger *struct {
			Pull     accountedSocket
			Received counts
			Refused  map[string]counts
			Sinks    []struct {
				Sink string
				account
				Recovered counts
				Paths     []account
				Nodes     []account
			}
		}
		Balance *struct {
			Pull, Push accountedSocket
			Homeless   uint64
			Loggers    []struct{ Moved uint64 }
		}
	}
)

// dropped is how many messages a socket had received and then dropped. A message that is too large
// was refused before it was received.
func (s accountedSocket) dropped() uint64 { return total(s.Dropped) - s.Dropped["too_large"] }

func total(byReason map[string]uint64) (n uint64) {
	for _, one := range byReason {
		n += one
	}
	return n
}

func (c *counts) add(d counts) { c.Messages += d.Messages; c.Records += d.Records }

func sum(byReason map[string]counts) (n counts) {
	for _, one := range byReason {
		n.add(one)
	}
	return n
}

func (d delivery) accounted() uint64 { return d.Delivered + d.Queued + d.Held + total(d.Dropped) }

func (r routing) accounted() uint64 { return r.Routed + r.Unmatched + r.Denied }

// accounted is what has become of records: it has to be what was received.
func (a account) accounted() counts {
	n := a.Written
	n.add(a.Queued)
	n.add(sum(a.Dropped))
	return n
}

// Unbalanced takes a daemon's answer to /status and returns an error that says where its accounts
// do not add up: all that was received was delivered, was dropped for a reason that is counted, or
// waits. It returns nil if they do.
//
// The counters of sockets are read one after the other, so these agree only when nothing moves.
// Those of a logger's sinks agree at all times.
//
// A broker delivers a message to each of its subscribers. everything are the addresses of those
// that have subscribed to all that was published, since before the first message: each of these
// must account for all messages.
func Unbalanced(status []byte, everything ...string) error {
	var s accounts
	if err := json.Unmarshal(status, &s); err != nil {
		return err
	}
	var faults []error
	equal := func(got, want any, format string, args ...any) {
		if got != want {
			faults = append(faults,
				fmt.Errorf(format+": %v are accounted for, %v were received",
					append(args, got, want)...))
		}
	}
	if f := s.Forwarder; f != nil {
		equal(f.Received.Messages, f.XSub.Received.Messages, "messages of publishers' sockets")
		equal(f.Received.accounted(), f.Received.Messages, "messages from publishers")
		equal(f.Upstream.accounted(), f.Upstream.Messages, "messages from subscribers")
		equal(f.Account.accounted(), f.Account.Matched, "messages for all subscribers")
		for _, p := range f.XPub.Peers {
			equal(p.Account.accounted(), p.Account.Matched, "messages for subscriber %s", p.Address)
		}
		for _, address := range everything {
			i := slices.IndexFunc(f.XPub.Peers,
				func(p accountedPeer) bool { return p.Address == address })
			if i < 0 {
				faults = append(faults, fmt.Errorf("subscriber %s is not connected", address))
				continue
			}
			equal(f.XPub.Peers[i].Account.accounted(), f.Received.Routed,
				"messages for subscriber %s of everything", address)
		}
	}
	if l := s.Logger; l != nil {
		// What is refused as no log message is among what was received.
		equal(l.Received.Messages+l.Pull.ReceiveQueue+l.Pull.dropped(), l.Pull.Received.Messages,
			"messages from nodes")
		for _, sink := range l.Sinks {
			equal(sink.accounted(), sink.Received, "records for sink %s", sink.Sink)
			for name, parts := range map[string][]account{"log": sink.Paths, "node": sink.Nodes} {
				var all counts
				for _, a := range parts {
					equal(a.accounted(), a.Received, "records of one %s for sink %s", name,
						sink.Sink)
					all.add(a.Received)
				}
				equal(all, sink.Received, "records by %s for sink %s", name, sink.Sink)
			}
		}
	}
	if b := s.Balance; b != nil {
		var moved uint64
		for _, l := range b.Loggers {
			moved += l.Moved
		}
		// What was moved is in Sent again when another logger's queue has it.
		equal(b.Push.Sent.Messages-moved+b.Homeless+b.Pull.ReceiveQueue+b.Pull.dropped(),
			b.Pull.Received.Messages, "messages from nodes")
	}
	return errors.Join(faults...)
}

// WantBalanced waits until the accounts of a daemon add up, which they must as soon as nothing
// moves. See [Unbalanced].
func (p *Process) WantBalanced(everything ...string) {
	p.t.Helper()
	var fault error
	defer func() {
		p.t.Helper()
		if fault != nil {
			p.t.Errorf("the accounts do not add up: %v", fault)
		}
	}()
	Eventually(p.t, "the accounts add up", func() bool {
		_, body := p.Get("/status")
		fault = Unbalanced([]byte(body), everything...)
		return fault == nil
	})
}
