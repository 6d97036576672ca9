package forwarder

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/topics"
	"zmtpd/zmtp/wire"
)

// Tap says of which messages there is a copy, and who gets it. A tap is passive: publishers are told nothing of it, so it sees what they
// send for others (or without being asked), and it never makes them wait: what one who gets the copy does not take at once,
// it loses. Messages that a publisher may not publish are not in the copy, nor are those that subscribers send up.
type Tap struct {
	// Topics are prefixes of the topics of which there is a copy. Default: all.
	Topics []string
	// Socket configures the PUB socket of the copy, see Forwarder.ListenTap. A subscriber gets what it subscribes of the
	// copy, as far as Config.Permit allows; SendHWM and SendBytes are what may wait for it.
	Socket zmtp.Config
	// Take, if it is set, gets the whole copy: the messages of the batch that are in runs, in order for each publisher.
	// Several publishers call it at once. It must not block. The batch is valid until it returns, see zmtp.Batch.Keep.
	Take func(b *zmtp.Batch, runs []zmtp.Run)
}

// TapStats are the counters of a Tap.
type TapStats struct {
	// Copied is what there was a copy of, whether anybody took it or not.
	Copied zmtp.Traffic
	// Socket is the PUB socket. What its subscribers lost is Socket.Dropped, and in none of the other counters of Stats.
	Socket zmtp.Stats
	// Account is what became of the messages of the copy that were meant for subscribers.
	Account Account
	// Subscribers are those of the copy, in no order. SlowSince is since when one has lost messages.
	Subscribers []SubscriberStats
}

// tapLinger is how long the end of the Forwarder waits for subscribers of the copy.
const tapLinger = time.Second

// tap is a Tap at work.
type tap struct {
	Tap
	f        *Forwarder
	pub      *zmtp.Socket              // its peers are subscribers of the copy
	table    topics.Table[*subscriber] // of pub
	copied   traffic
	accounts ledger // of all its subscribers

	mu          sync.Mutex
	subscribers map[*subscriber]struct{} // guarded by mu
}

func newTap(f *Forwarder, cfg Tap) *tap {
	t := &tap{Tap: cfg, f: f, subscribers: make(map[*subscriber]struct{})}
	if t.Socket.Logger == nil {
		t.Socket.Logger = f.log
	}
	t.pub = zmtp.NewSocket(wire.PUB, (*tapPattern)(t), t.Socket)
	return t
}

// errNoTap says that there is nothing to listen for.
var errNoTap = errors.New("forwarder: Config has no Tap")

// ListenTap is ListenXPub for subscribers of the copy, see Tap.
func (f *Forwarder) ListenTap(endpoint string) (bound string, err error) {
	if f.tap == nil {
		return "", errNoTap
	}
	return f.tap.pub.Listen(endpoint)
}

// ServeTap accepts subscribers of the copy from l, which it takes over. It does not block.
func (f *Forwarder) ServeTap(l net.Listener) (bound string, err error) {
	if f.tap == nil {
		return "", errNoTap
	}
	return f.tap.pub.Serve(l)
}

// shutdown ends the socket when there is nothing more to copy.
func (t *tap) shutdown(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, tapLinger)
	defer cancel()
	t.pub.Shutdown(limited) // what is lost is counted
}

func (t *tap) stats() *TapStats {
	st := &TapStats{Copied: t.copied.load(), Socket: t.pub.Stats()}
	t.mu.Lock()
	all := make([]*subscriber, 0, len(t.subscribers))
	for s := range t.subscribers {
		all = append(all, s)
	}
	t.mu.Unlock()
	for _, s := range all {
		st.Subscribers = append(st.Subscribers, s.stats(&t.table))
	}
	st.Account = t.accounts.total(st.Socket, st.Subscribers)
	return st
}

// tapPattern is the side of a tap's subscribers.
type tapPattern tap

// Attach implements zmtp.Pattern.
func (t *tapPattern) Attach(p *zmtp.Peer) error {
	s, err := t.f.newSubscriber(p)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscribers[s] = struct{}{}
	return nil
}

// Detach implements zmtp.Pattern.
func (t *tapPattern) Detach(p *zmtp.Peer, _ error) {
	s := p.Value.(*subscriber)
	for _, r := range t.table.Remove(s) {
		p.Memory().Release(topics.Cost(r.Topic))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.subscribers, s)
}

// Subscribe implements zmtp.Pattern.
func (t *tapPattern) Subscribe(p *zmtp.Peer, topic []byte, on bool) error {
	s := p.Value.(*subscriber)
	if !on {
		s.cancelled(topic, t.table.Cancel(s, topic))
		return nil
	}
	ok, err := s.may(&t.table, topic)
	if ok {
		t.table.Subscribe(s, topic)
	}
	return err
}

// Receive implements zmtp.Pattern: subscriptions in the form of messages. Others are of no interest to a PUB.
func (t *tapPattern) Receive(p *zmtp.Peer, b *zmtp.Batch) error {
	return b.Upstream(func(u zmtp.Upstream) error {
		if u.Subscription {
			return t.Subscribe(p, u.Topic, u.On)
		}
		return nil
	})
}

// tapping is what a router knows of the tap. The zero value is that of a Forwarder without one.
type tapping struct {
	tap    *tap
	root   *topics.Root[*subscriber] // of tap.table
	take   *lane                     // for Tap.Take
	copies []*lane                   // of the present batch, those who get something
	copied struct{ messages, parts, bytes int }
}

func newTapping(t *tap) tapping {
	if t == nil {
		return tapping{}
	}
	return tapping{tap: t, take: &lane{copies: true}}
}

// renew reports whether the subscriptions of the copy have changed.
func (t *tapping) renew() bool {
	if t.tap == nil {
		return false
	}
	root := t.tap.table.Root()
	changed := root != t.root
	t.root = root
	return changed
}

// tapped gives a new route its copies.
func (r *router) tapped(to *route, topic []byte) {
	if r.tap == nil || to.denied != nil || !allows(r.tap.Topics, topic) {
		return
	}
	to.tapped = true
	if r.tap.Take != nil {
		to.copies = append(to.copies, r.take)
	}
	for _, s := range r.tapping.root.Match(nil, topic) {
		to.copies = append(to.copies, r.lane(s, true))
	}
}

// copyAll gives b to those who get a copy.
func (r *router) copyAll(b *zmtp.Batch) {
	if c := &r.copied; c.messages > 0 {
		r.tap.copied.add(c.messages, c.parts, c.bytes)
		c.messages, c.parts, c.bytes = 0, 0, 0
	}
	for _, l := range r.copies {
		if l.sub == nil {
			r.tap.Take(b, l.runs)
		} else {
			r.tap.accounts.match(l)
			if !l.offer(b) {
				l.sub.slows(losesCopies)
				r.tap.accounts.refuse(l.sub, l.sub.lossReason(), l.left)
			}
		}
		l.runs, l.left = l.runs[:0], 0
	}
	r.copies = r.copies[:0]
}
