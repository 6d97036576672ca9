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
	back := make([]Message, 0, o.msgs)
	var d wire.Decoder
	for _, c := range o.chunks.all() {
		own := c.b
		if c.slab != nil {
			own = bytes.Clone(c.b)
		}
		for at := 0; at < len(own); {
			end := at + nextMessage(&d, own[at:])
			back = append(back, Message{wire: own[at:end:end]})
			at = end
		}
		c.mem = nil // the messages are in it
		c.free(o.memory)
	}
	o.chunks, o.greeting, o.control = fifo[chunk]{}, nil, nil
	o.msgs, o.bytes, o.returned = 0, 0, len(back)
	return back
}

// nextMessage returns the size of the first message of b, which holds whole messages.
func nextMessage(d *wire.Decoder, b []byte) int {
	it, err := d.Next(b)
	if err != nil || it.Kind != wire.AMessage {
		panic("zmtp: an outbox that is not well formed")
	}
	return it.Size
}
