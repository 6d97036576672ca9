package zmtp

import (
	"context"
	"slices"
	"sync"

	"zmtpd/zmtp/memory"
)

// loadBalancer gives each message to one of its pipes, past those that are full: in turn, or with a
// key by the sticky strategy (libzmq, lb.cpp). A socket that has one queues messages for an
// endpoint before anybody is connected, and takes back what waits for a peer that is lost.
type loadBalancer struct {
	// key returns the key of a message, nil for one that any pipe may get. It is nil if no message
	// has a key.
	key    func(Message) []byte
	memory *memory.Holder // account of what waits, which outlives connections
	// immediate says that only peers get messages, no endpoints that are still being connected.
	immediate bool
	single    bool // takes one pipe only
	opened    gate // when a send that would have blocked should be tried again

	// mu may be taken with Socket.mu held, so nothing that is done with it calls the socket.
	mu    sync.Mutex
	ended bool       // takes nothing more
	pipes []*outPipe // of peers, and of endpoints, which outlive their peers
	next  int        // whose turn it is
	// of peers that are lost, for which no other had room; nothing else is sent before them
	returned []Message
}

// outPipe leads to one peer, or to an endpoint.
type outPipe struct {
	*outbox
	seed   uint64 // from its name, for rendezvous hashing
	parked bool   // it belongs to an endpoint and outlives its peers
}

func newOutPipe(ob *outbox, name string, parked bool) *outPipe {
	return &outPipe{ob, hash(name), parked}
}

// park returns a queue for messages to an endpoint that is to be connected, nil if there is to be
// none. connected lets it take part.
func (lb *loadBalancer) park(live *Config) *outbox {
	if lb == nil || lb.immediate {
		return nil
	}
	ob := newOutbox(live.SendHWM, live.SendBytes, lb.memory)
	ob.onRoom = lb.hasRoom
	return ob
}

// attach lets a peer take part. It reports false if there is one already and single is set.
func (lb *loadBalancer) attach(p *Peer) bool {
	if p.parked {
		return true // the pipe of its endpoint is there since Connect
	}
	p.outbox.onRoom = lb.hasRoom
	p.outbox.memory = lb.memory
	p.takeBack = func() { lb.takeBack(p.outbox) }
	return lb.add(newOutPipe(p.outbox, p.name(), false))
}

// add lets a pipe take part. It reports false if there is one already and single is set.
func (lb *loadBalancer) add(p *outPipe) bool {
	lb.mu.Lock()
	if lb.single && lb.occupied() {
		lb.mu.Unlock()
		return false
	}
	lb.pipes = append(lb.pipes, p)
	lb.putReturned()
	lb.mu.Unlock()
	lb.opened.open()
	return true
}

// full reports whether add would report false.
func (lb *loadBalancer) full() bool {
	if lb == nil || !lb.single {
		return false
	}
	lb.mu.Lock()
	defer lb.mu.Unlock()
	return lb.occupied()
}

// occupied reports whether there is a pipe. Caller holds the lock.
func (lb *loadBalancer) occupied() bool {
	lb.pipes = slices.DeleteFunc(lb.pipes, func(p *outPipe) bool { return p.isClosed() })
	return len(lb.pipes) > 0
}

// hasRoom is called when a pipe that was full has room, or takes nothing more.
func (lb *loadBalancer) hasRoom() {
	lb.mu.Lock()
	lb.putReturned()
	lb.mu.Unlock()
	lb.opened.open()
}

// room implements distributor.
func (lb *loadBalancer) room() *gate { return &lb.opened }

// trySend implements distributor.
func (lb *loadBalancer) trySend(m Message) error {
	lb.mu.Lock()
	defer lb.mu.Unlock()
	if err := lb.takes(); err != nil {
		return err
	}
	if lb.put(m) == nil {
		return ErrWouldBlock
	}
	return nil
}

// trySendTo is trySend that returns the pipe which has m.
func (lb *loadBalancer) trySendTo(m Message) (*outbox, error) {
	lb.mu.Lock()
	defer lb.mu.Unlock()
	if err := lb.takes(); err != nil {
		return nil, err
	}
	p := lb.put(m)
	if p == nil {
		return nil, ErrWouldBlock
	}
	return p.outbox, nil
}

// trySendBatch implements distributor.
func (lb *loadBalancer) trySendBatch(b *Batch, first int) (n int, err error) {
	lb.mu.Lock()
	defer lb.mu.Unlock()
	if err := lb.takes(); err != nil {
		return 0, err
	}
	n = lb.putBatch(b, first)
	if first+n < b.Len() {
		return n, ErrWouldBlock
	}
	return n, nil
}

// takes returns why nothing can be sent at present, if so. Caller holds the lock.
func (lb *loadBalancer) takes() error {
	switch {
	case lb.ended:
		return ErrClosed
	case len(lb.returned) > 0:
		return ErrWouldBlock
	}
	return nil
}

// put queues m and returns the pipe that took it, nil if none could. Caller holds the lock.
func (lb *loadBalancer) put(m Message) *outPipe {
	for {
		c := lb.choose(m)
		if !c.sticky {
			return lb.robin(func(p *outPipe) bool { return p.offerMessage(m) })
		}
		if c.pipe == nil {
			return nil
		}
		if c.pipe.offerMessage(m) {
			return c.pipe
		}
		if !lb.removeClosed(c.pipe) {
			return nil
		}
	}
}

// putBatch queues the messages of b from first on, until one has nowhere to go, and returns how
// many it has queued. Caller holds the lock.
func (lb *loadBalancer) putBatch(b *Batch, first int) (n int) {
	for c := lb.choose(b.Message(first)); first < b.Len(); {
		r := Run{first, first + 1}
		var next choice
		for ; r.To < b.Len(); r.To++ {
			if next = lb.choose(b.Message(r.To)); next != c {
				break
			}
		}
		took := lb.putRun(b, r, c)
		n += took
		first += took
		switch {
		case first == r.To:
			c = next
		case took > 0: // another pipe may have room for the next message
		case c.pipe != nil && lb.removeClosed(c.pipe):
			c = lb.choose(b.Message(first))
		default:
			return n
		}
	}
	return n
}

// putRun queues messages of b that may go to the same pipes. Caller holds the lock.
func (lb *loadBalancer) putRun(b *Batch, r Run, c choice) (n int) {
	offer := func(p *outPipe) bool {
		took := p.offer(b, []Run{r})
		n += took
		r.From += took
		return r.From == r.To
	}
	switch {
	case !c.sticky:
		lb.robin(offer)
	case c.pipe != nil:
		offer(c.pipe)
	}
	return n
}

// robin calls f for the pipes, beginning with the one whose turn it is, until it returns true, and
// returns that pipe. It removes those that are closed. Caller holds the lock.
func (lb *loadBalancer) robin(f func(*outPipe) bool) *outPipe {
	for range len(lb.pipes) {
		if lb.next >= len(lb.pipes) {
			lb.next = 0
		}
		p := lb.pipes[lb.next]
		ok := f(p)
		if !ok && lb.removeClosed(p) { // its endpoint was given up
			continue
		}
		lb.next++
		if ok {
			return p
		}
	}
	return nil
}

// removeClosed removes p and reports true if it takes nothing more. Caller holds the lock.
func (lb *loadBalancer) removeClosed(p *outPipe) bool {
	if !p.isClosed() {
		return false
	}
	lb.remove(p.outbox)
	return true
}

// remove removes the pipe of an outbox, if it is there. Caller holds the lock.
func (lb *loadBalancer) remove(ob *outbox) {
	i := slices.IndexFunc(lb.pipes, func(p *outPipe) bool { return p.outbox == ob })
	if i < 0 {
		return
	}
	lb.pipes = slices.Delete(lb.pipes, i, i+1)
	if lb.next > i {
		lb.next--
	}
}

// takeBack removes the pipe of a peer that is lost and gives to others what waited in it. All at
// once: the pipe that a key moves to gets nothing new before what was there.
func (lb *loadBalancer) takeBack(ob *outbox) {
	lb.mu.Lock()
	lb.remove(ob)
	unsent := ob.reclaim()
	for _, m := range unsent {
		lb.memory.Add(int64(len(m.wire)))
	}
	// In front: nothing is sent while anything is returned, so what waits there was sent later, or
	// was further behind.
	lb.returned = append(unsent, lb.returned...)
	lb.putReturned()
	lb.mu.Unlock()
	lb.opened.open()
}

// putReturned queues what was taken back, as far as there is room, in order for each choice. Caller
// holds the lock.
func (lb *loadBalancer) putReturned() {
	kept := lb.returned[:0]
	var full []choice // where one had no room, so that none overtakes it
	for _, m := range lb.returned {
		c := lb.choose(m)
		blocked := slices.Contains(full, c)
		if !blocked && lb.put(m) != nil {
			lb.memory.Release(int64(len(m.wire)))
			continue
		}
		if !blocked {
			full = append(full, c)
		}
		kept = append(kept, m)
	}
	clear(lb.returned[len(kept):])
	if len(kept) == 0 {
		kept = nil
	}
	lb.returned = kept
}

// level returns how many messages that were taken back wait, and their bytes on the wire.
func (lb *loadBalancer) level() (msgs int, bytes int64) {
	lb.mu.Lock()
	defer lb.mu.Unlock()
	for _, m := range lb.returned {
		bytes += int64(len(m.wire))
	}
	return len(lb.returned), bytes
}

// finish takes nothing more, and waits until nothing is left that would come back if its peer were
// lost, or has, or until one of the contexts ends.
func (lb *loadBalancer) finish(ctx, abort context.Context) {
	lb.mu.Lock()
	lb.ended = true
	lb.mu.Unlock()
	lb.opened.open() // those that wait for room learn that there will be none
	for room := lb.opened.wait(); !lb.settled(); room = lb.opened.wait() {
		select {
		case <-room:
			continue
		case <-ctx.Done():
		case <-abort.Done():
		}
		return
	}
}

// settled reports whether nothing waits that is not bound to an endpoint. If it is false, opened
// opens when that has changed.
func (lb *loadBalancer) settled() bool {
	lb.mu.Lock()
	defer lb.mu.Unlock()
	settled := len(lb.returned) == 0
	for _, p := range lb.pipes {
		if !p.parked && !p.awaitEmpty() {
			settled = false
		}
	}
	return settled
}

// discard drops what no peer will have, and returns how many messages that was.
func (lb *loadBalancer) discard() int {
	lb.mu.Lock()
	defer lb.mu.Unlock()
	n := len(lb.returned)
	for _, m := range lb.returned {
		lb.memory.Release(int64(len(m.wire)))
	}
	lb.returned = nil
	return n
}
