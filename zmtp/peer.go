package zmtp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp/internal/netsock"
	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/wire"
)

// Peer is one connection whose handshake is complete. Its methods may be called from any goroutine,
// also after the connection is gone.
type Peer struct {
	// Static.
	socket   *Socket
	id       uint64
	owner    *attachment // the listener or connecter that it belongs to
	conn     net.Conn
	greeting wire.Greeting
	metadata Metadata
	since    time.Time
	sealer   Sealer // nil if nothing protects the traffic
	opener   Opener // likewise
	outbox   *outbox
	parked   bool // the outbox belongs to the connecter and outlives the peer
	// takeBack, unless it is nil, is called when nothing more can be sent. It takes the messages
	// that wait out of the outbox. The load balancer sets it in Attach.
	takeBack func()
	mute     bool // stopSending was called

	// Value belongs to the Pattern, which sets it in Attach.
	Value any

	memory *memory.Holder // of memory that the end of the connection frees, nil without a budget

	inPipe inPipe // for patterns that receive

	accepted *pending    // nil if we connected
	spoke    atomic.Bool // a message or command for the Pattern came from it

	in      traffic
	dropped drops // messages for it that were dropped
	backlog backlog
	heart   heart
	// suspicion, unless it is nil, is why the connection ends if nothing more can be read.
	suspicion atomic.Pointer[error]

	done   chan struct{} // closed by ended
	once   sync.Once
	cause  error         // set by ended, before done
	closed chan struct{} // closed by fail
	shut   sync.Once
	over   chan struct{} // closed when the read loop has ended
}

// ID returns a number that no other peer of the socket has or had. The peers that are connected one
// after the other to an endpoint of PeerSocket.ConnectPeer have one.
func (p *Peer) ID() uint64 { return p.id }

// Remote returns the address at the other end of the connection.
func (p *Peer) Remote() net.Addr { return p.conn.RemoteAddr() }

// Endpoint returns the endpoint of this socket to which the peer belongs, as given to Connect or
// returned by Listen.
func (p *Peer) Endpoint() string { return p.owner.endpoint }

// Metadata returns the metadata that the peer sent and an authenticator added. It must not be
// changed.
func (p *Peer) Metadata() Metadata { return p.metadata }

// SocketType returns the peer's socket type, empty if the peer did not send it.
func (p *Peer) SocketType() SocketType {
	v, _ := p.metadata.Get(wire.PropSocketType)
	return SocketType(v)
}

// RoutingID returns the routing id that the peer gave itself, nil if it did not. A socket of type
// ROUTER or REP refuses peers whose id does not obey RFC 37; for others it may be any bytes.
func (p *Peer) RoutingID() []byte {
	v, _ := p.metadata.Get(wire.PropIdentity)
	return v[:len(v):len(v)]
}

// UserID returns the user id that the authenticator gave the peer, empty if it gave none.
func (p *Peer) UserID() string {
	v, _ := p.metadata.Get(PropUserID)
	return string(v)
}

// Done returns a channel that is closed when nothing more can be sent to the peer: the connection
// has been given up, or a write has failed. In the second case the socket still reads what the peer
// had sent before.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Ended reports whether the peer sends nothing more: its direction of the connection, or the whole,
// is closed, and what is left to receive is with this host. It is false where that cannot be known,
// such as for sockets on other systems than Linux.
func (p *Peer) Ended() bool { return netsock.Ended(p.conn) }

// Close closes the connection at once and does not wait. Pattern.Detach gets err.
func (p *Peer) Close(err error) { p.fail(err) }

// Memory returns the peer's account in Config.Memory, nil without a budget. A Pattern counts there
// the memory that it keeps for the peer and frees in Detach.
func (p *Peer) Memory() *memory.Holder { return p.memory }

// Offer appends messages of b to the peer's outbox, the given runs in order, until one has no room,
// and returns how many it has appended. It never blocks. It copies messages, or refers to the
// memory of the batch until they are sent.
func (p *Peer) Offer(b *Batch, runs []Run) int { return p.outbox.offer(b, runs) }

// OfferMessage appends one message to the peer's outbox if there is room, and reports whether it
// has. It never blocks. It may refer to the memory of the message.
func (p *Peer) OfferMessage(m Message) bool { return p.outbox.offerMessage(m) }

// HasRoom reports whether the outbox has room for a message of n bytes on the wire.
func (p *Peer) HasRoom(n int) bool { return p.outbox.hasRoom(int64(n)) }

// Room returns a channel that is closed when an outbox that has refused a message has drained to
// half of its limits, or is closed. To wait for room, call Room, then Offer, then receive.
func (p *Peer) Room() <-chan struct{} { return p.outbox.room.wait() }

// Queue returns the messages and bytes in the outbox, and how many bytes the kernel has taken so
// far: if that number does not change while the outbox is not empty, the peer does not read.
func (p *Peer) Queue() (msgs int, bytes int64, written uint64) { return p.outbox.level() }

// SendSubscription sends a subscription, or its cancellation, in the form of the peer's ZMTP
// version. The limits on messages do not apply. A peer that leaves more than Config.SendBytes of
// subscriptions unread is closed.
func (p *Peer) SendSubscription(topic []byte, on bool) {
	p.sendSubscription(topic, on, p.greeting.V30())
}

func (p *Peer) sendSubscription(topic []byte, on, asMessage bool) {
	// Enough for nearly all topics: a broker sends each subscription to each of its publishers.
	var memory [128]byte
	p.force(wire.AppendSubscription(memory[:0], asMessage, on, topic), 1+len(topic))
}

// force sends one frame, with size bytes of content, to which the limits on messages do not apply.
func (p *Peer) force(frame []byte, size int) {
	if !p.outbox.force(frame, size) {
		bytes, limit := p.SubscriptionBacklog()
		p.fail(wire.Errorf(wire.SubscriptionBacklog,
			"the peer left %d bytes of subscriptions unread, the limit is %d", bytes, limit))
	}
}

// SubscriptionBacklog returns how many bytes of subscriptions wait in the outbox, and the limit
// above which the peer is closed.
func (p *Peer) SubscriptionBacklog() (bytes, limit int64) {
	return p.outbox.forcedLevel()
}

// Drop counts n messages for this peer that were dropped.
func (p *Peer) Drop(r DropReason, n int) {
	p.dropped[r].Add(uint64(n))
	p.socket.drop(r, n)
}

// Stats returns a snapshot of the peer's counters.
func (p *Peer) Stats() PeerStats {
	st := PeerStats{
		ID: p.id, Endpoint: p.Endpoint(), Remote: p.Remote(), SocketType: p.SocketType(),
		Mechanism: p.greeting.Mechanism, UserID: p.UserID(), Metadata: p.metadata, Since: p.since,
		In: p.in.load(), Out: p.outbox.traffic(), Dropped: p.dropped.load(),
	}
	st.Queued, st.QueuedBytes, st.Written = p.outbox.level()
	return st
}

// ended sets the cause of the connection's end, unless it is set.
func (p *Peer) ended(err error) {
	p.once.Do(func() {
		p.cause = err
		close(p.done)
	})
}

// fail closes the connection.
func (p *Peer) fail(err error) {
	p.ended(err)
	p.shut.Do(func() {
		close(p.closed)
		p.conn.Close()
	})
}

// suspect ends the read loop with err unless there is something to read. It does not wait: the read
// loop decides at its next read, since data of the peer may still be in the kernel.
func (p *Peer) suspect(err error) {
	if p.suspicion.CompareAndSwap(nil, &err) {
		p.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// finish begins the orderly end: the write loop writes what is queued and closes our end, and the
// read loop reads what the peer has sent.
func (p *Peer) finish() { p.outbox.close(false) }

// ioError turns an error of the network into one with a reason.
func ioError(stage string, err error) error {
	if _, ok := errors.AsType[*wire.Error](err); ok {
		return err
	}
	if _, ok := errors.AsType[*PeerClosedError](err); ok {
		return err
	}
	var reason Reason
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		reason = wire.PeerClosed
	case errors.Is(err, os.ErrDeadlineExceeded) && stage == "handshake":
		reason = wire.HandshakeTimeout
	case errors.Is(err, net.ErrClosed):
		reason = wire.LocalClose
	default:
		reason = wire.ConnectionLost
	}
	return &PeerClosedError{Reason: reason, Stage: stage, Err: err}
}
