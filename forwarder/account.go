package forwarder

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"zmtpd/zmtp"
)

// Account is what became of the messages that were meant for one subscriber, or for all of them:
//
//	Matched = Delivered + Queued + Held + Dropped.Total()
//
// A message that matches several subscriptions of a subscriber counts once.
type Account struct {
	Matched   uint64     // the subscriber had subscribed their topic
	Delivered uint64     // the kernel has taken them
	Queued    uint64     // they wait in the queue of the subscriber
	Held      uint64     // they were read, and their publisher waits or is being routed
	Dropped   zmtp.Drops // they were given up, by reason
}

// Received is what became of the messages that publishers sent:
//
//	Messages = Routed + Unmatched + Denied
//
// The messages of a batch that is being routed may be missing on the right.
type Received struct {
	Messages uint64
	Routed   uint64 // somebody had subscribed them: they are in the accounts of these subscribers,
	// or taken by a Local
	Unmatched uint64 // nobody had
	Denied    uint64 // the publisher may not publish them
}

// Upstream is what became of the messages, other than subscriptions, that subscribers sent to the
// publishers:
//
//	Messages = Routed + Unmatched + Denied
//
// Those in Routed were offered to each publisher. What a publisher had no room for is in
// Stats.XSub.Dropped.
type Upstream struct {
	Messages  uint64
	Routed    uint64
	Unmatched uint64 // there was no publisher
	Denied    uint64 // the subscriber may not publish them
}

// received counts for Received or Upstream. Several goroutines add to it.
type received struct{ messages, routed, unmatched, denied atomic.Uint64 }

// load reads the whole last, so that its parts never exceed it.
func (r *received) load() Received {
	st := Received{Routed: r.routed.Load(), Unmatched: r.unmatched.Load(), Denied: r.denied.Load()}
	st.Messages = r.messages.Load()
	return st
}

// ledger is what an Account needs beside the counters of package zmtp. Several goroutines add to
// it.
type ledger struct {
	matched atomic.Uint64
	refused atomic.Uint64 // dropped before they were queued
}

// match counts the messages of deliveries for each subscriber that has a queue, and in l for all of
// them.
func (l *ledger) match(deliveries ...*delivery) {
	total := 0
	for _, d := range deliveries {
		if d.sub.local != nil {
			continue // it takes all at once, see Local.Taken
		}
		d.sub.ledger.matched.Add(uint64(d.left))
		total += d.left
	}
	if total > 0 {
		l.matched.Add(uint64(total))
	}
}

// refuse counts n messages that were dropped before they were in the queue of s. l is the ledger of
// all subscribers.
func (l *ledger) refuse(s *subscriber, r zmtp.DropReason, n int) {
	l.refused.Add(uint64(n))
	s.ledger.refused.Add(uint64(n))
	s.peer.Drop(r, n)
}

// account returns the Account for counters of a peer or socket: the messages ever queued, those
// queued now, and those dropped. The caller has read them before, so that nothing seems delivered
// that was never matched.
func (l *ledger) account(queuedEver, queued uint64, dropped zmtp.Drops) Account {
	refused, matched := l.refused.Load(), l.matched.Load()
	a := Account{Matched: matched, Queued: queued, Dropped: dropped}
	lost := dropped.Total() - min(refused, dropped.Total()) // from the queue
	a.Delivered = queuedEver - min(queuedEver, queued+lost)
	a.Held = matched - min(matched, a.Delivered+queued+dropped.Total())
	return a
}

// total returns the Account of all subscribers of a socket, including those that are gone.
func (l *ledger) total(socket zmtp.Stats, present []SubscriberStats) Account {
	queued := uint64(0)
	for _, s := range present {
		queued += uint64(s.Queued)
	}
	return l.account(socket.Out.Messages, queued, socket.Dropped)
}

// CheckAccounts returns an error that names the accounts that do not add up, and those in which
// messages are held. It returns nil if all messages are accounted for while no publisher sends.
func (st Stats) CheckAccounts() error {
	var all []error
	check := func(what string, total uint64, parts ...uint64) {
		sum := uint64(0)
		for _, n := range parts {
			sum += n
		}
		if sum != total {
			err := fmt.Errorf("%s: %d messages, of which %d are accounted for", what, total, sum)
			all = append(all, err)
		}
	}
	checkAccount := func(of string, a Account) {
		check("for "+of, a.Matched, a.Delivered, a.Queued, a.Dropped.Total())
	}
	r, u := st.Received, st.Upstream
	check("from publishers", r.Messages, r.Routed, r.Unmatched, r.Denied)
	check("from subscribers", u.Messages, u.Routed, u.Unmatched, u.Denied)
	checkAccount("all subscribers", st.Account)
	subscribers := st.Subscribers
	if st.Tap != nil {
		checkAccount("all subscribers of the tap", st.Tap.Account)
		subscribers = slices.Concat(subscribers, st.Tap.Subscribers)
	}
	for _, s := range subscribers {
		checkAccount(s.Remote.String(), s.Account)
	}
	return errors.Join(all...)
}
