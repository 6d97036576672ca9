package zmtp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

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
	// takeBack, unless it is nil, is called when nothing more can be sent, to take what waits out
	// of the outbox. The Pattern sets it in Attach.
	takeBack func()
	mute     bool // stopSending was called

	// Value belongs to the Pattern, which sets it in Attach.
	Value any

	memory *memory.Holder // of what is freed when the connection is closed, nil without a budget

	inPipe inPipe // what came from it, for patterns that receive

	accepted *pending    // nil if we connected
	spoke    atomic.Bool // a message or subscription came from it

	in      traffic
	dropped drops // messages that were meant for it and given up
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

// ID returns a number that no other peer of the socket has or had.
func (p *Peer) ID() uint64 { return p.id }

// Remote returns the address at the other end of the connection.
func (p *Peer) Remote() net.Addr { return p.conn.RemoteAddr() }

// Endpoint returns the endpoint of ours that the peer belongs to, as given to Connect or returned
// by Listen.
func (p *Peer) Endpoint() string { return p.owner.endpoint }

// Metadata returns what the peer said of itself. It must not be changed.
func (p *Peer) Metadata() Metadata { return p.metadata }

// SocketType returns the peer's socket type, empty if it did not say.
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

// UserID returns who the authenticator says the peer is, empty if there was none or it did not say.
func (p *Peer) UserID() string {
	v, _ := p.metadata.Get(PropUserID)
	return string(v)
}

// Done returns a channel that is closed when nothing more can be sent to the peer: the connection
// has been given up, or a write has failed. In the second case the socket still reads what the peer
// had sent before.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Close closes the connection at once; the pattern's Detach gets err. It does not wait for it.
func (p *Peer) Close(err error) { p.fail(err) }

// Memory returns the peer's account in Config.Memory, nil without one. A Pattern counts there what
// it keeps for the peer and frees in Detach.
func (p *Peer) Memory() *memory.Holder { return p.memory }

// Offer appends messages of b to the peer's outbox, the given runs in order, until one does not fit
// its limits, and returns how many it took. It never blocks. What it does not copy it keeps the
// batch's memory for.
func (p *Peer) Offer(b *Batch, runs []Run) int { return p.outbox.offer(b, runs) }

// OfferMessage appends one message to the peer's outbox if it fits its limits. It never blocks. The
// message may be kept.
func (p *Peer) OfferMessage(m Message) bool { return p.outbox.offerMessage(m) }

// HasRoom reports whether Offer would take a message of n bytes on the wire.
func (p *Peer) HasRoom(n int) bool { return p.outbox.hasRoom(int64(n)) }

// Room returns a channel that is closed when an outbox that refused something has drained to half
// of its limits, or is closed. Take it first, then try, then wait.
func (p *Peer) Room() <-chan struct{} { return p.outbox.room.wait() }

// Queue returns how many messages and bytes wait for the peer, and how many bytes were ever handed
// to the kernel for it: if that number stands still while the queue is not empty, the peer does not
// read.
func (p *Peer) Queue() (msgs int, bytes int64, written uint64) { return p.outbox.level() }

// SendSubscription sends a subscription, or its cancellation, in the form that the peer's version
// wants. No limit on messages applies. A peer that leaves more than Config.SendBytes of them unread
// is closed.
func (p *Peer) SendSubscription(topic []byte, on bool) {
	p.sendSubscription(topic, on, p.greeting.V30())
}

func (p *Peer) sendSubscription(topic []byte, on, asMessage bool) {
	// for nearly all topics: a broker tells each subscription to each of its publishers
	var memory [128]byte
	frame := wire.AppendSubscription(memory[:0], asMessage, on, topic)
	if !p.outbox.force(frame, 1+len(topic)) {
		bytes, limit := p.SubscriptionBacklog()
		p.fail(wire.Errorf(wire.SubscriptionBacklog,
			"the peer left %d bytes of subscriptions unread, the limit is %d", bytes, limit))
	}
}

// SubscriptionBacklog returns how many bytes of subscriptions wait for the peer, and with how many
// it is closed.
func (p *Peer) SubscriptionBacklog() (bytes, limit int64) {
	return p.outbox.forcedLevel()
}

// Drop counts n messages that were meant for this peer and given up.
func (p *Peer) Drop(r DropReason, n int) {
	p.dropped[r].Add(uint64(n))
	p.socket.drop(r, n)
}

// Stats returns a snapshot of the peer's counters.
func (p *Peer) Stats() PeerStats {
	st := PeerStats{
		ID: p.id, Endpoint: p.Endpoint(), Remote: p.Remote(), SocketType: p.SocketType(),
		UserID: p.UserID(), Since: p.since,
		In: p.in.load(), Out: p.outbox.traffic(), Dropped: p.dropped.load(),
	}
	st.Queued, st.QueuedBytes, st.Written = p.outbox.level()
	return st
}

// ended says why the connection ends; the first call counts.
func (p *Peer) ended(err error) {
	p.once.Do(func() {
		p.cause = err
		close(p.done)
	})
}

// fail gives the connection up.
func (p *Peer) fail(err error) {
	p.ended(err)
	p.shut.Do(func() {
		close(p.closed)
		p.conn.Close()
	})
}

// suspect ends the read loop with err unless there is something to read. It does not wait. The read
// loop decides, when it comes to it: until then what the peer has sent may be waiting in the
// kernel.
func (p *Peer) suspect(err error) {
	if p.suspicion.CompareAndSwap(nil, &err) {
		p.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// finish begins the orderly end: what is queued is written, then the peer is told, and what it has
// sent is read.
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
