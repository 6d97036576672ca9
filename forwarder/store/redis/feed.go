package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

const (
	// maxChannels bounds the subscriptions of a client.
	maxChannels = 1024
	// maxPattern bounds a channel or a pattern, in bytes: the time that a match takes is the
	// product of the lengths.
	maxPattern = 1024
)

// feed is what a client has subscribed to, and the messages that wait for it.
type feed struct {
	c     *conn
	count atomic.Int64 // of channels and patterns

	mu       sync.Mutex
	channels map[string]struct{} // guarded by mu
	patterns map[string]struct{} // guarded by mu
	queue    reply               // guarded by mu
	writing  bool                // a goroutine writes queue; guarded by mu
	written  chan struct{}       // closed when queue is written, nil if nobody waits; guarded by mu
	held     int64               // reserved for queue; guarded by mu
	closed   bool                // guarded by mu
	writer   sync.WaitGroup
}

func (f *feed) init(c *conn) {
	f.c, f.channels, f.patterns = c, map[string]struct{}{}, map[string]struct{}{}
}

// active reports whether the client has subscriptions.
func (f *feed) active() bool { return f.count.Load() > 0 }

// push queues a message about a change, if the client has subscribed to one of its channels.
func (f *feed) push(n *notice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	before := len(f.queue.b)
	for _, m := range n.messages {
		if _, ok := f.channels[string(m.channel)]; ok {
			f.queue.push(3)
			f.queue.text("message")
			f.queue.bytes(m.channel)
			f.queue.bytes(m.payload)
			f.c.s.pushed.Add(1)
		}
		for pattern := range f.patterns {
			if !match([]byte(pattern), m.channel) {
				continue
			}
			f.queue.push(4)
			f.queue.text("pmessage")
			f.queue.text(pattern)
			f.queue.bytes(m.channel)
			f.queue.bytes(m.payload)
			f.c.s.pushed.Add(1)
		}
	}
	size := int64(len(f.queue.b) - before)
	if size == 0 {
		return
	}
	if len(f.queue.b) > f.c.s.cfg.Load().QueueBytes || !f.c.holder.TryReserve(size) {
		f.closed = true
		f.queue.b = nil
		f.c.refuse(SlowSubscriber)
		f.c.close()
		return
	}
	f.held += size
	if !f.writing {
		f.writing = true
		f.writer.Go(f.write)
	}
}

// write writes what waits until there is nothing more.
func (f *feed) write() {
	for {
		f.mu.Lock()
		b, held, written := f.queue.b, f.held, f.written
		f.queue.b, f.held, f.written = nil, 0, nil
		f.writing = len(b) > 0
		f.mu.Unlock()
		if len(b) > 0 {
			f.c.write(b, SlowSubscriber)
		}
		f.c.holder.Release(held)
		if written != nil {
			close(written)
		}
		if len(b) == 0 {
			return
		}
	}
}

// send writes answers behind the messages that wait.
func (f *feed) send(answers []byte) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	f.queue.b = append(f.queue.b, answers...)
	if f.written == nil {
		f.written = make(chan struct{})
	}
	written := f.written
	if !f.writing {
		f.writing = true
		f.writer.Go(f.write)
	}
	f.mu.Unlock()
	<-written
}

// end ends the subscriptions. The connection is closed.
func (f *feed) end() {
	f.c.s.events.remove(f)
	f.mu.Lock()
	f.closed = true
	held := f.held
	f.held, f.queue.b = 0, nil
	f.mu.Unlock()
	f.writer.Wait() // its writes fail
	f.c.holder.Release(held)
}

// clear forgets all subscriptions.
func (f *feed) clear() {
	f.mu.Lock()
	clear(f.channels)
	clear(f.patterns)
	f.count.Store(0)
	f.mu.Unlock()
	f.c.s.events.remove(f)
}

// setProto chooses RESP2 or RESP3 for messages.
func (f *feed) setProto(resp3 bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue.resp3 = resp3
}

// subscription subscribes channels or patterns, or ends subscriptions, and answers for each.
func (s *session) subscription(verb string, names [][]byte, patterns, on bool) {
	f := &s.c.feed
	for _, name := range names {
		if on && len(name) > maxPattern {
			s.out.fail(fmt.Sprintf("ERR a channel has more than %d bytes", maxPattern))
			return
		}
	}
	if on && f.count.Load()+int64(len(names)) > maxChannels {
		s.refuse(NoMemory, fmt.Sprintf("ERR a client may have %d subscriptions", maxChannels))
		return
	}
	if on {
		s.c.s.events.add(f)
	}
	// No message may overtake the answer, and none may be missing behind it.
	if !s.c.flush() {
		return
	}
	f.mu.Lock()
	set := f.channels
	if patterns {
		set = f.patterns
	}
	if !on && len(names) == 0 {
		for name := range set {
			names = append(names, []byte(name))
		}
	}
	for _, name := range names {
		if on {
			set[string(name)] = struct{}{}
		} else {
			delete(set, string(name))
		}
		n := len(f.channels) + len(f.patterns)
		f.queue.push(3)
		f.queue.text(verb)
		f.queue.bytes(name)
		f.queue.int(int64(n))
	}
	n := len(f.channels) + len(f.patterns)
	if len(names) == 0 {
		f.queue.push(3)
		f.queue.text(verb)
		f.queue.null()
		f.queue.int(int64(n))
	}
	f.count.Store(int64(n))
	f.mu.Unlock()
	f.send(nil)
	if n == 0 {
		s.c.s.events.remove(f)
	}
}

func subscribe(s *session, args [][]byte)  { s.subscription("subscribe", args[1:], false, true) }
func psubscribe(s *session, args [][]byte) { s.subscription("psubscribe", args[1:], true, true) }
func unsubscribe(s *session, args [][]byte) {
	s.subscription("unsubscribe", args[1:], false, false)
}
func punsubscribe(s *session, args [][]byte) {
	s.subscription("punsubscribe", args[1:], true, false)
}

// notice is what subscribers learn about a change.
type notice struct {
	store    string
	key      []byte
	messages [2]struct{ channel, payload []byte }
}

// makeNotice returns the notice of a change of a database, and whether there is one.
func makeNotice(database int, name string, c *store.Change) (*notice, bool) {
	key, ok := c.Key.Text()
	what := eventOf(c)
	if !ok || what == "" || c.Key.Kind() != event.String {
		return nil, false
	}
	n := &notice{store: name, key: key}
	n.messages[0].channel = fmt.Appendf(nil, "__keyspace@%d__:%s", database, key)
	n.messages[0].payload = []byte(what)
	n.messages[1].channel = fmt.Appendf(nil, "__keyevent@%d__:%s", database, what)
	n.messages[1].payload = key
	return n, true
}

// grown and shrunk are the events of containers that have got more or fewer elements.
var (
	grown  = map[form]string{formList: "rpush", formSet: "sadd", formHash: "hset", formZset: "zadd"}
	shrunk = map[form]string{formList: "lpop", formSet: "srem", formHash: "hdel", formZset: "zrem"}
)

// eventOf returns the name that Redis has for a change, as far as the change itself tells: whoever
// made it need not be a client of Redis.
func eventOf(c *store.Change) string {
	switch c.Kind {
	case store.Erase:
		return "del"
	case store.Expire:
		return "expired"
	case store.Clear:
		return "" // as in Redis
	}
	now := formOf(c.Entry)
	switch {
	case c.Old != nil && c.Old.Value.Same(c.Value) && !c.Expires.Equal(c.Old.Expires):
		if c.Expires.IsZero() {
			return "persist"
		}
		return "expire"
	case now == formString:
		return "set"
	case c.Old != nil && c.Old.Value.Kind() == c.Value.Kind() && c.Old.Value.Len() > c.Value.Len():
		return shrunk[now]
	}
	return grown[now]
}

// events gives the changes of all stores to the clients that have subscribed. It follows the stores
// only while there is one.
type events struct {
	s *Server

	mu     sync.Mutex
	feeds  map[*feed]struct{} // guarded by mu
	cancel context.CancelFunc // ends the goroutines; nil if there are none; guarded by mu
	ended  bool               // guarded by mu
}

func (e *events) subscribers() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.feeds)
}

// add adds a client. It gets all changes that begin after add has returned.
func (e *events) add(f *feed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return
	}
	if e.feeds == nil {
		e.feeds = map[*feed]struct{}{}
	}
	e.feeds[f] = struct{}{}
	if e.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	for i, st := range e.s.stores {
		w := anchor(ctx, st)
		if w == nil {
			continue // it is closed
		}
		e.s.running.Go(func() { e.follow(ctx, i, st, w) })
	}
}

// anchor returns a Watch behind the last change of a store, nil if the store is closed.
func anchor(ctx context.Context, st *store.Store) *store.Watch {
	p, err := st.Start("", func(*store.Tx) error { return nil })
	if err == nil {
		err = p.Wait(ctx)
	}
	if err != nil {
		return nil
	}
	return st.Watch(p.Seq())
}

// remove removes a client.
func (e *events) remove(f *feed) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.feeds, f)
	if len(e.feeds) == 0 && e.cancel != nil {
		e.cancel()
		e.cancel = nil
	}
}

// stop ends the goroutines for good.
func (e *events) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	if e.cancel != nil {
		e.cancel()
		e.cancel = nil
	}
}

// follow gives the changes of a store to the clients.
func (e *events) follow(ctx context.Context, database int, st *store.Store, w *store.Watch) {
	for {
		changes, err := w.Next(ctx)
		switch {
		case errors.Is(err, store.StaleData):
			e.s.missed.Add(1)
			if w = anchor(ctx, st); w == nil {
				return
			}
			continue
		case err != nil:
			return
		}
		feeds := e.all()
		for i := range changes {
			n, ok := makeNotice(database, st.Name(), &changes[i])
			if !ok {
				continue
			}
			for _, f := range feeds {
				if u := f.c.user.Load(); u != nil && u.may(n.store, n.key, false) {
					f.push(n)
				}
			}
		}
	}
}

func (e *events) all() []*feed {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*feed, 0, len(e.feeds))
	for f := range e.feeds {
		all = append(all, f)
	}
	return all
}
