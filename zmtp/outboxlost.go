package zmtp

import (
	"bytes"

	"zmtpd/zmtp/wire"
)

// restore puts messages back that take has returned and a lost connection has not sent: those in
// taken that the kernel does not have whole, so that no peer can have received them. The kernel has
// the first n bytes of taken. The other messages count as lost, since the peer may or may not have
// received them; restore returns their number. Commands are dropped: they belong to the connection.
// restore is for outboxes whose messages outlive a connection, which hold no subscriptions.
func (o *outbox) restore(taken []chunk, control, n int) int {
	if control > 0 {
		taken, n = taken[1:], n-control
	}
	var back []chunk
	lost := 0
	for _, c := range taken {
		if n <= 0 {
			back = append(back, c)
			continue
		}
		var d wire.Decoder
		at, msgs := 0, 0
		for at < n && at < len(c.b) {
			size := nextMessage(&d, c.b[at:])
			if at+size > n {
				break
			}
			at += size
			msgs++
		}
		n -= len(c.b)
		lost += msgs
		o.account(-msgs, -at, 0)
		if c.b = c.b[at:]; len(c.b) == 0 {
			c.free(o.memory)
			continue
		}
		c.msgs -= msgs
		back = append(back, c)
	}
	o.mu.Lock()
	o.chunks = fifo[chunk]{items: append(back, o.chunks.all()...)}
	o.mu.Unlock()
	return lost
}

// reclaim closes the outbox of a connection that has ended, and takes out the messages that wait,
// in order. It wakes no waiters. The messages own their memory, alone or together: memory that is
// shared with other batches is copied.
func (o *outbox) reclaim() []Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	back := o.takeOut()
	o.greeting, o.control = nil, nil
	o.returned = len(back)
	return back
}

// takeOut takes out the messages that wait, for an outbox without subscriptions. Caller holds the
// lock.
func (o *outbox) takeOut() []Message {
	all := make([]Message, 0, o.msgs)
	for _, c := range o.chunks.all() {
		own := c.b
		if c.slab != nil {
			own = bytes.Clone(c.b)
		}
		all = cutMessages(all, own)
		c.mem = nil // the messages are in it
		c.free(o.memory)
	}
	o.chunks = fifo[chunk]{}
	o.msgs, o.bytes = 0, 0
	return all
}

// cutMessages appends the messages of b, which holds whole messages.
func cutMessages(dst []Message, b []byte) []Message {
	var d wire.Decoder
	for at := 0; at < len(b); {
		end := at + nextMessage(&d, b[at:])
		dst = append(dst, Message{wire: b[at:end:end]})
		at = end
	}
	return dst
}

// nextMessage returns the size of the first message of b, which holds whole messages.
func nextMessage(d *wire.Decoder, b []byte) int {
	it, err := d.Next(b)
	if err != nil || it.Kind != wire.AMessage {
		panic("zmtp: an outbox that is not well formed")
	}
	return it.Size
}
