package zmtp

import (
	"fmt"
	"iter"
	"net"
	"sync/atomic"
	"time"

	"zmtpd/zmtp/wire"
)

// DropReason is why messages were dropped. It is metric label and log attribute at once.
type DropReason uint8

// The reasons for drops.
const (
	DropFull   DropReason = iota // the queue of the peer was at its high-water mark
	DropNoPeer                   // there was no peer to send to
	// the connection was lost while they were sent or waited for that
	DropConnectionLost
	DropClosed // the socket was closed before they were sent or received
	// above MaxMessageSize or MaxParts: the connection was closed, and counts as one message
	DropTooLarge
	DropMalformed  // came without the envelope or group that the socket type needs
	DropUnexpected // a reply to no request, or from a peer whose routing id another peer has
	DropReplaced   // a later message took its place, see Config.Conflate
	numDropReasons
)

var dropNames = [numDropReasons]string{"full", "no_peer", "connection_lost", "closed", "too_large",
	"malformed", "unexpected", "replaced"}

// String returns the reason in the form used as metric label.
func (r DropReason) String() string { return dropNames[r] }

// Drops are numbers of messages that were dropped, by DropReason.
type Drops [numDropReasons]uint64

// Total returns their sum.
func (d Drops) Total() (n uint64) {
	for _, one := range d {
		n += one
	}
	return n
}

// ByReason returns an iterator over the reasons with their numbers, without those that are 0.
func (d Drops) ByReason() iter.Seq2[DropReason, uint64] {
	return func(yield func(DropReason, uint64) bool) {
		for r, n := range d {
			if n > 0 && !yield(DropReason(r), n) {
				return
			}
		}
	}
}

// String returns the numbers that are not 0 as in "full=3 closed=1".
func (d Drops) String() string {
	var b []byte
	for r, n := range d.ByReason() {
		if b != nil {
			b = append(b, ' ')
		}
		b = fmt.Appendf(b, "%v=%d", r, n)
	}
	return string(b)
}

// drops is Drops to which several goroutines add.
type drops [numDropReasons]atomic.Uint64

func (d *drops) load() (n Drops) {
	for r := range d {
		n[r] = d[r].Load()
	}
	return n
}

// Stats are the counters of a socket since it was made. Bytes are those of the parts, without
// framing.
type Stats struct {
	Peers             int // connections whose handshake is complete
	PendingHandshakes int
	Accepted          uint64
	Connected         uint64                 // connections made by Connect
	Handshakes        uint64                 // completed
	HandshakeFailures map[wire.Reason]uint64 // connections that did not get through the handshake
	Closed            map[wire.Reason]uint64 // connections that did, and ended
	In, Out           Traffic                // of all peers, also those that are gone
	// of the messages in Out, those that a Push took back from a lost peer; they count in Out again
	// when another peer gets them
	Returned uint64
	Dropped  Drops // messages
	// messages received whose subscription a Sub had cancelled
	Filtered uint64
	// messages received and not yet taken by the application
	RecvQueued      int
	RecvQueuedBytes int64
	RecvPinnedBytes int64 // memory that counts for Config.TotalRecvBytes, 0 without it
}

// Traffic counts messages in one direction.
type Traffic struct {
	Messages uint64
	Parts    uint64
	Bytes    uint64 // of the parts, without framing
}

// Add adds u to t.
func (t *Traffic) Add(u Traffic) {
	t.Messages += u.Messages
	t.Parts += u.Parts
	t.Bytes += u.Bytes
}

// PeerStats are the counters of one peer.
type PeerStats struct {
	ID          uint64
	Endpoint    string // of this socket, to which the peer belongs
	Remote      net.Addr
	SocketType  SocketType // empty if the peer did not send it
	Mechanism   string     // of security
	UserID      string     // from an authenticator, empty if none gave one
	Metadata    Metadata   // of the peer and an authenticator; it must not be changed
	Since       time.Time  // of the completed handshake
	In, Out     Traffic
	Dropped     Drops // messages for it that were dropped
	Queued      int   // messages that wait for it
	QueuedBytes int64
	Written     uint64 // bytes handed to the kernel
}

// traffic is Traffic to which one goroutine adds and that others read.
type traffic struct {
	messages, parts, bytes atomic.Uint64
}

func (t *traffic) add(messages, parts, bytes int) {
	t.messages.Add(uint64(messages))
	t.parts.Add(uint64(parts))
	t.bytes.Add(uint64(bytes))
}

func (t *traffic) load() Traffic {
	return Traffic{t.messages.Load(), t.parts.Load(), t.bytes.Load()}
}

// Stats returns a snapshot of the counters.
func (s *Socket) Stats() Stats {
	s.mu.Lock()
	st := s.stats
	st.HandshakeFailures = cloneCounts(s.stats.HandshakeFailures)
	st.Closed = cloneCounts(s.stats.Closed)
	st.Peers, st.PendingHandshakes = len(s.peers), s.pending.Len()
	for p := range s.peers {
		st.In.Add(p.in.load())
		if !p.parked {
			st.addOutbox(p.outbox)
		}
	}
	for _, all := range []map[*attachment]struct{}{s.attachments, s.leaving} {
		for a := range all {
			if a.outbox != nil {
				st.addOutbox(a.outbox)
			}
		}
	}
	s.mu.Unlock()
	st.Filtered = s.filtered.Load()
	st.Dropped = s.dropped.load()
	if s.inbox != nil {
		st.RecvQueued, st.RecvQueuedBytes, st.RecvPinnedBytes = s.inbox.level()
	}
	return st
}

// addOutbox adds the traffic of an outbox.
func (st *Stats) addOutbox(o *outbox) {
	o.mu.Lock()
	defer o.mu.Unlock()
	st.Out.Add(o.sent)
	st.Returned += uint64(o.returned)
}

// Peers returns a snapshot of the counters of each connected peer, in no order.
func (s *Socket) Peers() []PeerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]PeerStats, 0, len(s.peers))
	for p := range s.peers {
		all = append(all, p.Stats())
	}
	return all
}

// ClosePeers closes the connection of every peer for which f returns an error, with that error. It
// does not wait for them. It does not see connections whose handshake is under way. f must not call
// methods of the socket.
func (s *Socket) ClosePeers(f func(*Peer) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.peers {
		if err := f(p); err != nil {
			p.fail(err)
		}
	}
}

// drop counts n messages that were dropped.
func (s *Socket) drop(r DropReason, n int) { s.dropped[r].Add(uint64(n)) }

func cloneCounts[K comparable](m map[K]uint64) map[K]uint64 {
	c := make(map[K]uint64, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}
