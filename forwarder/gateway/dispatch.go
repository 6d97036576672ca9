package gateway

import (
	"context"
	"sync"

	"zmtpd/zmtp"
	"zmtpd/zmtp/memory"
)

// inbound has the batches that dispatch has not looked at.
type inbound struct {
	holder *memory.Holder
	wake   chan struct{}
	idle   chan struct{} // closed when finish was called and there is nothing left

	mu        sync.Mutex
	batches   []*zmtp.Batch // guarded by mu
	bytes     int64         // of them; guarded by mu
	busy      bool          // dispatch works on some; guarded by mu
	finishing bool          // guarded by mu
}

// maxInbound is how much may wait for dispatch, in bytes.
const maxInbound = 32 << 20

func (in *inbound) init(budget *memory.Budget) {
	in.holder = budget.NewHolder("websocket backlog", 0, nil)
	in.wake, in.idle = make(chan struct{}, 1), make(chan struct{})
}

// take implements the callback of [forwarder.Forwarder.Join].
func (g *Gateway) take(b *zmtp.Batch, runs []zmtp.Run) {
	n, size := 0, int64(0)
	for _, r := range runs {
		_, bytes := b.Counts(r.From, r.To)
		size += int64(bytes)
		n += r.To - r.From
	}
	in := &g.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.batches) > 0 && in.bytes+size > maxInbound || !in.holder.TryReserve(size) {
		g.dropped[Backlog].Add(uint64(n))
		if more, ok := g.limit.Admit(Backlog.String(), ""); ok {
			g.log.Warn("WebSocket clients lose events: the gateway does not keep up",
				"messages", n, "others", more)
		}
		return
	}
	in.batches = append(in.batches, b.Keep(runs))
	in.bytes += size
	in.signal()
}

func (in *inbound) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// next returns the batches that wait.
func (in *inbound) next(memory []*zmtp.Batch) (all []*zmtp.Batch, bytes int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	all, bytes = in.batches, in.bytes
	in.batches, in.bytes = memory[:0], 0
	in.busy = len(all) > 0
	if !in.busy && in.finishing {
		in.finishing = false
		close(in.idle)
	}
	return all, bytes
}

// finish waits until dispatch has nothing more to do.
func (in *inbound) finish(ctx context.Context) {
	in.mu.Lock()
	in.finishing = true
	in.mu.Unlock()
	in.signal()
	select {
	case <-in.idle:
	case <-ctx.Done():
	}
}

// discard drops what is left.
func (in *inbound) discard(g *Gateway) {
	rest, bytes := in.next(nil)
	for _, b := range rest {
		g.dropped[Closing].Add(uint64(b.Len()))
		b.Release()
	}
	in.holder.Release(bytes)
	in.holder.Close()
}

// dispatch gives events to the clients, until the Gateway ends.
func (g *Gateway) dispatch() {
	var d dispatcher
	var all []*zmtp.Batch
	for {
		select {
		case <-g.in.wake:
		case <-g.ctx.Done():
			return
		}
		for {
			var bytes int64
			if all, bytes = g.in.next(all); len(all) == 0 {
				break
			}
			for _, b := range all {
				g.deliver(&d, b)
				b.Release()
			}
			clear(all)
			g.in.holder.Release(bytes)
		}
	}
}

// dispatcher is memory that deliver uses again.
type dispatcher struct {
	found []*client
	body  []byte
	text  []byte
}

// deliver gives the messages of b to the clients that have subscribed them.
func (g *Gateway) deliver(d *dispatcher, b *zmtp.Batch) {
	root := g.table.Root()
	for m := range b.Messages() {
		topic := m.Part(partTopic)
		if d.found = root.Match(d.found[:0], topic); len(d.found) == 0 {
			continue // since the message was taken
		}
		r, memory, ok := parseEvent(m, d.body)
		if d.body = memory; cap(d.body) > maxScratch {
			d.body = nil
		}
		if !ok {
			g.dropped[NotAnEvent].Add(uint64(len(d.found)))
			continue
		}
		d.text = appendText(d.text[:0], topic, r)
		f := newFrame(append(make([]byte, 0, len(d.text)), d.text...), g.accounts.class(topic),
			g.holder)
		if cap(d.text) > maxScratch {
			d.text = nil
		}
		if f == nil {
			g.matched.Add(uint64(len(d.found)))
			g.dropped[QueueFull].Add(uint64(len(d.found)))
			continue
		}
		sender := m.Part(partNode)
		for _, c := range d.found {
			if string(sender) != c.endpoint { // a client does not get its own events
				g.matched.Add(1)
				c.send(f)
			}
		}
		f.release()
	}
	clear(d.found[:cap(d.found)])
}

// maxScratch is the size from which on memory is not kept for the next event.
const maxScratch = 1 << 20
