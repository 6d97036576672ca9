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

// Tap copies messages from publishers. A tap is passive. It makes no subscriptions, so it sees what
// publishers send for others or without being asked. Publishers never wait for it: what does not
// fit the queue of one of its subscribers, that subscriber loses. The copy has neither messages
// that a publisher may not publish nor those that subscribers send to publishers.
type Tap struct {
	// Topics are prefixes of the topics that are copied. Default: all.
	Topics []string
	// Socket configures the PUB socket of the copy, see Forwarder.ListenTap. A subscriber gets the
	// messages that it subscribes, as far as Config.Permit allows. SendHWM and SendBytes limit its
	// queue.
	Socket zmtp.Config
	// Take, if it is not nil, gets the whole copy: the messages of b that are in runs, in order for
	// each publisher. Several goroutines call it at the same time. It must not block. b is valid
	// until Take returns, see zmtp.Batch.Keep.
	Take func(b *zmtp.Batch, runs []zmtp.Run)
}

// TapStats are the counters of a Tap.
type TapStats struct {
	// Copied is what was copied, whether or not anybody took it.
	Copied zmtp.Traffic
	// Socket has the counters of the PUB socket. Socket.Dropped is what its subscribers lost; no
	// other counter of Stats includes it.
	Socket zmtp.Stats
	// Account is what became of the copied messages for subscribers.
	Account Account
	// Subscribers are those of the PUB socket, in no particular order.
	Subscribers []SubscriberStats
}

// tapLinger is how long Shutdown waits for the subscribers of the tap.
const tapLinger = time.Second

// tap is a Tap at work.
type tap struct {
	Tap
	f        *Forwarder
	pub      *zmtp.Socket              // its peers are the tap's subscribers
	table    topics.Table[*subscriber] // of their subscriptions
	copied   traffic
	accounts ledger // of all subscribers

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

// errNoTap is returned when there is no tap to listen for.
var errNoTap = errors.New("forwarder: Config has no Tap")

// ListenTap is ListenXPub for subscribers of the tap.
func (f *Forwarder) ListenTap(endpoint string) (bound string, err error) {
	if f.tap == nil {
		return "", errNoTap
	}
	return f.tap.pub.Listen(endpoint)
}

// ServeTap accepts subscribers of the tap from l, which it takes over. It does not block.
func (f *Forwarder) ServeTap(l net.Listener) (bound string, err error) {
	if f.tap == nil {
		return "", errNoTap
	}
	return f.tap.pub.Serve(l)
}

// shutdown ends the socket. The publishers are gone, so nothing more is copied.
func (t *tap) shutdown(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, tapLinger)
	defer cancel()
	t.pub.Shutdown(limited) // counts what is lost
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

// tapPattern is the subscribers' side of a tap.
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

// Command implements zmtp.CommandHandler.
func (t *tapPattern) Command(p *zmtp.Peer, name, data []byte) error {
	on, ok := wire.Subscription(name)
	if !ok {
		return nil
	}
	return t.subscribe(p, data, on)
}

func (t *tapPattern) subscribe(p *zmtp.Peer, topic []byte, on bool) error {
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

// Receive implements zmtp.Pattern, for subscriptions in the form of messages. A PUB ignores others.
func (t *tapPattern) Receive(p *zmtp.Peer, b *zmtp.Batch) error {
	return b.Upstream(func(u zmtp.Upstream) error {
		if u.Subscription {
			return t.subscribe(p, u.Topic, u.On)
		}
		return nil
	})
}

// tapping is the part of a router for the tap. Its zero value is for a Forwarder without one.
type tapping struct {
	tap    *tap
	root   *topics.Root[*subscriber] // of tap.table
	take   *delivery                 // for Tap.Take
	copies []*delivery               // of the present batch
	copied struct{ messages, parts, bytes int }
}

func newTapping(t *tap) tapping {
	if t == nil {
		return tapping{}
	}
	return tapping{tap: t, take: &delivery{copy: true}}
}

// renew reports whether the subscriptions of the tap have changed.
func (t *tapping) renew() bool {
	if t.tap == nil {
		return false
	}
	root := t.tap.table.Root()
	changed := root != t.root
	t.root = root
	return changed
}

// tapped adds its copies to a new route.
func (r *router) tapped(to *route, topic []byte) {
	if r.tap == nil || to.denied != nil || !Allows(r.tap.Topics, topic) {
		return
	}
	to.tapped = true
	if r.tap.Take != nil {
		to.copies = append(to.copies, r.take)
	}
	for _, s := range r.tapping.root.Match(nil, topic) {
		to.copies = append(to.copies, r.delivery(s, true))
	}
}

// copyAll delivers the copies of b.
func (r *router) copyAll(b *zmtp.Batch) {
	if c := &r.copied; c.messages > 0 {
		r.tap.copied.add(c.messages, c.parts, c.bytes)
		c.messages, c.parts, c.bytes = 0, 0, 0
	}
	for _, d := range r.copies {
		if d.sub == nil {
			r.tap.Take(b, d.runs)
		} else {
			r.tap.accounts.match(d)
			if !d.offer(b) {
				d.sub.slows(losesCopies)
				r.tap.accounts.refuse(d.sub, d.sub.lossReason(), d.left)
			}
		}
		d.runs, d.left = d.runs[:0], 0
	}
	r.copies = r.copies[:0]
}
