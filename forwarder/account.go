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
	Held      uint64     // they are in the hands of publishers that are routed, or wait for the subscriber
	Dropped   zmtp.Drops // they were given up, by reason
}

// Received is what became of the messages that publishers sent:
//
//	Messages = Routed + Unmatched + Denied
//
// While a publisher is routed its last messages are in Messages only.
type Received struct {
	Messages  uint64
	Routed    uint64 // somebody had subscribed them: they are in the accounts of these subscribers
	Unmatched uint64 // nobody had
	Denied    uint64 // the publisher may not publish them
}

// Upstream is what became of the messages, other than subscriptions, that subscribers sent to the publishers:
//
//	Messages = Routed + Unmatched + Denied
//
// Those in Routed were offered to each publisher. What a publisher had no room for is in Stats.XSub.Dropped.
type Upstream struct {
	Messages  uint64
	Routed    uint64
	Unmatched uint64 // there was no publisher
	Denied    uint64 // the subscriber may not publish them
}

// received is Received, or Upstream, that several goroutines add to.
type received struct{ messages, routed, unmatched, denied atomic.Uint64 }

// ledger has what an Account is made of beside the counters of package zmtp. Several goroutines add to it.
type ledger struct {
	matched atomic.Uint64
	refused atomic.Uint64 // dropped before they were queued
}

// match counts the messages in lanes, for each subscriber and in l for all.
func (l *ledger) match(lanes ...*lane) {
	total := 0
	for _, one := range lanes {
		one.sub.ledger.matched.Add(uint64(one.left))
		total += one.left
	}
	if total > 0 {
		l.matched.Add(uint64(total))
	}
}

// refuse counts n messages as dropped that s did not get into its queue; l is the ledger of all.
func (l *ledger) refuse(s *subscriber, r zmtp.DropReason, n int) {
	l.refused.Add(uint64(n))
	s.ledger.refused.Add(uint64(n))
	s.peer.Drop(r, n)
}

// account completes the counters of one peer or socket: messages ever queued, those that still are, and all that were
// dropped. They have to be read before l is, so that nothing seems to be delivered that was never matched.
func (l *ledger) account(queuedEver, queued uint64, dropped zmtp.Drops) Account {
	refused, matched := l.refused.Load(), l.matched.Load()
	a := Account{Matched: matched, Queued: queued, Dropped: dropped}
	lost := dropped.Total() - min(refused, dropped.Total()) // from the queue
	a.Delivered = queuedEver - min(queuedEver, queued+lost)
	a.Held = matched - min(matched, a.Delivered+queued+dropped.Total())
	return a
}

// total is account for all subscribers of a socket, also for those that are gone.
func (l *ledger) total(socket zmtp.Stats, present []SubscriberStats) Account {
	queued := uint64(0)
	for _, s := range present {
		queued += uint64(s.Queued)
	}
	var dropped zmtp.Drops
	for r, n := range socket.Dropped {
		dropped[r] = n
	}
	return l.account(socket.Out.Messages, queued, dropped)
}

// CheckAccounts returns an error that says which accounts do not add up, or in which messages are still held by
// publishers. It returns nil when no publisher sends and everything is accounted for.
func (st Stats) CheckAccounts() error {
	var all []error
	check := func(what string, total uint64, parts ...uint64) {
		sum := uint64(0)
		for _, n := range parts {
			sum += n
		}
		if sum != total {
			all = append(all, fmt.Errorf("%s: %d messages, of which %d are accounted for", what, total, sum))
		}
	}
	checkAccount := func(of string, a Account) { check("for "+of, a.Matched, a.Delivered, a.Queued, a.Dropped.Total()) }
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
