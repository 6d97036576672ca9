package zmtp

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// route leads to the peer that has an id.
type route[K comparable] struct {
	id K
	*outbox
	peer   *Peer // nil while nobody is connected
	parked bool  // the outbox belongs to an endpoint and outlives its peers
	// another has the id now, and the peer is ignored
	replaced atomic.Bool
}

// routes finds the peer for a message by the id that the application puts before it (RFC 28).
type routes[K comparable] struct {
	socket *Socket
	opened gate // when a send that would have blocked should be tried again

	mu   sync.Mutex
	byID map[K]*route[K]
}

// add lets r take part if no other has its id. With handover it takes the place of the other, which
// add returns. It reports whether r takes part.
func (rs *routes[K]) add(r *route[K], handover bool) (other *route[K], ok bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	other = rs.byID[r.id]
	if other != nil && !handover && !other.isClosed() {
		return nil, false
	}
	if rs.byID == nil {
		rs.byID = make(map[K]*route[K])
	}
	rs.byID[r.id] = r
	r.onRoom = rs.opened.open
	rs.opened.open() // a poller may wait for a peer
	return other, true
}

// remove ends r, unless another has taken its id.
func (rs *routes[K]) remove(r *route[K]) {
	rs.mu.Lock()
	if rs.byID[r.id] == r {
		delete(rs.byID, r.id)
	}
	rs.mu.Unlock()
	rs.opened.open() // a sender that waits for room learns that there is no peer
}

// meet notes the peer of a parked route, nil when it is lost.
func (rs *routes[K]) meet(r *route[K], p *Peer) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.peer = p
}

// find returns the outbox for the peer that has id, nil if none has it, and the peer, nil if it is
// not connected.
func (rs *routes[K]) find(id K) (*outbox, *Peer) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byID[id]
	if r == nil || r.isClosed() {
		return nil, nil
	}
	return r.outbox, r.peer
}

// has reports whether a peer has this id.
func (rs *routes[K]) has(id K) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.byID[id] != nil
}

// send calls offer with the outbox of the peer that has id. The error is ErrNoPeer if there is
// none, and ErrWouldBlock if its outbox had no room, which wakes those that wait when it has.
func (rs *routes[K]) send(id K, offer func(*outbox) bool) (*Peer, error) {
	if rs.socket.closing.Load() {
		return nil, ErrClosed
	}
	o, p := rs.find(id)
	switch {
	case o == nil:
		return nil, ErrNoPeer
	case offer(o):
		return p, nil
	case o.isClosed():
		return nil, ErrNoPeer
	}
	return p, ErrWouldBlock
}

// idMaker makes routing ids for peers that have none, as libzmq does (router.cpp, identify_peer).
// No peer can have chosen such an id, since it begins with a zero.
type idMaker struct{ last *atomic.Uint32 }

func newIDMaker() idMaker {
	m := idMaker{new(atomic.Uint32)}
	m.last.Store(rand.Uint32())
	return m
}

// next returns an id for which taken returns false.
func (m idMaker) next(taken func(string) bool) string {
	for {
		id := string(binary.BigEndian.AppendUint32([]byte{0}, m.last.Add(1)))
		if !taken(id) {
			return id
		}
	}
}
