package zmtp

import (
	"sync/atomic"
	"time"

	"zmtpd/zmtp/internal/netsock"
)

const (
	// maxBacklog is how many bytes its kernel and ours may still hold of a peer that has closed its
	// connection: the largest buffers that Linux gives a connection without SO_SNDBUF and SO_RCVBUF
	// (tcp_wmem, tcp_rmem), and some room.
	maxBacklog = 16 << 20
	// maxHeld is how many bytes of subscriptions are held back. More are sent at once.
	maxHeld = 1 << 20
	// maxHold is how long something is held back. A publisher that the pattern does not read for
	// longer must get its subscriptions nevertheless.
	maxHold = 5 * time.Second
	// bulkRead is the size of a read in bytes from which on the receive window may have been full.
	bulkRead = 4 << 10
	// A peer whose window may have been full has nothing left when there was nothing to read
	// calmLooks times, calmPause apart.
	calmLooks = 10
	calmPause = 5 * time.Millisecond
)

// backlog knows whether the peer may have sent something that was not read yet.
//
// If so, the write loop holds PING, PONG and subscriptions back. The peer may have closed its
// connection, with data in its kernel for which ours has no room yet. Its kernel would answer
// anything that arrives with RST, which discards that data (RFC 1122, section 4.2.2.13). Messages
// are not held back: two peers that wait for each other to read would wait for ever.
type backlog struct {
	waiting atomic.Bool // the read loop waits for the peer
	holding atomic.Bool // the write loop holds something back
	// a read took bulkRead bytes or more, or filled its buffer, and since then there was always
	// more
	bulk atomic.Bool
	read atomic.Uint64 // bytes read so far

	// The write loop alone uses these.
	began  time.Time // when it began to hold something back
	since  uint64    // read at that time
	looked time.Time // when it last looked
	calm   int       // how often it found nothing to read
}

// wait notes that the read loop waits for the peer. It reports whether to wake the write loop.
func (b *backlog) wait() (wake bool) {
	b.waiting.Store(true)
	return b.holding.Load()
}

// got notes that n bytes were read, and whether there was room for more.
func (b *backlog) got(n int, room bool) {
	b.waiting.Store(false)
	if n >= bulkRead || !room {
		b.bulk.Store(true)
	}
	b.read.Store(b.read.Load() + uint64(n)) // the read loop alone writes it
}

// holdsBack reports whether PING, PONG and subscriptions have to wait. The write loop asks again
// after calmPause.
func (p *Peer) holdsBack() bool {
	b := &p.backlog
	now := time.Now()
	if !b.holding.Load() {
		b.began, b.since, b.looked, b.calm = now, b.read.Load(), time.Time{}, 0
		b.holding.Store(true)
	}
	if b.read.Load()-b.since <= maxBacklog && now.Sub(b.began) < maxHold {
		if unread, _, _ := netsock.Queued(p.conn); !b.waiting.Load() || unread > 0 {
			return true
		}
		if b.bulk.Load() && !netsock.ArrivesAtOnce(p.conn) {
			if now.Sub(b.looked) >= calmPause {
				b.looked = now
				b.calm++
			}
			if b.calm < calmLooks {
				return true
			}
			b.bulk.Store(false)
		}
	}
	b.holding.Store(false)
	return false
}
