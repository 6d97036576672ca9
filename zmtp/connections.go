package zmtp

import (
	"container/list"
	"fmt"
	"net"
	"net/netip"
	"time"

	"zmtpd/zmtp/wire"
)

// silentFor is how long a peer that has never sent anything is safe from being closed to make room
// for another connection.
const silentFor = 10 * time.Second

// connections counts the accepted connections of a socket. Guarded by Socket.mu.
type connections struct {
	total     int
	byAddress map[netip.Addr]int
}

// pending is an accepted connection. Until its handshake is complete it is in Socket.pending. All
// but the first three are guarded by Socket.mu.
type pending struct {
	conn    net.Conn
	owner   *attachment
	address netip.Addr // see host.Of

	pends   bool // it is in Socket.pending
	counted bool
	reason  Reason // why it was closed
	detail  error  // more about reason, may be nil
}

// pend makes c one of the pending connections. Caller holds s.mu.
func (s *Socket) pend(c *pending) *list.Element {
	if s.pendingBy == nil {
		s.pendingBy = make(map[netip.Addr]int)
	}
	c.pends = true
	s.pendingBy[c.address]++
	return s.pending.PushBack(c)
}

// unpend removes a connection from the pending ones. A second call has no effect. Caller holds
// s.mu.
func (s *Socket) unpend(e *list.Element) {
	c := e.Value.(*pending)
	if !c.pends {
		return
	}
	c.pends = false
	s.pending.Remove(e)
	if s.pendingBy[c.address]--; s.pendingBy[c.address] == 0 {
		delete(s.pendingBy, c.address)
	}
}

// hog returns the oldest pending connection of an address that has at least its equal share of
// them, so that an address with many does not push out the connections of others. Caller holds
// s.mu.
func (s *Socket) hog() *list.Element {
	share := (s.pending.Len() + len(s.pendingBy) - 1) / len(s.pendingBy)
	e := s.pending.Front()
	for s.pendingBy[e.Value.(*pending).address] < share {
		e = e.Next() // some address has the average or more
	}
	return e
}

// count counts c as a connection. At a limit, a connection that is of less use makes room; if there
// is none, c is evicted. Caller holds s.mu.
func (s *Socket) count(c *pending, e *list.Element) {
	live, n := s.live.Load(), &s.connections
	address := c.address.IsValid()
	if most := live.MaxConnectionsPerAddress; most > 0 && address &&
		n.byAddress[c.address] >= most && !s.makeRoom(c.address) {
		c.detail = fmt.Errorf("%d connections from %v, the limit for one address", most, c.address)
	} else if most := live.MaxConnections; most > 0 && n.total >= most &&
		!s.makeRoom(netip.Addr{}) {
		c.detail = fmt.Errorf("%d connections, the limit", most)
	}
	if c.detail != nil {
		s.evict(e, wire.TooManyConnections)
		return
	}
	c.counted = true
	n.total++
	if address {
		if n.byAddress == nil {
			n.byAddress = make(map[netip.Addr]int)
		}
		n.byAddress[c.address]++
	}
}

// uncount undoes count. A second call has no effect. Caller holds s.mu.
func (s *Socket) uncount(c *pending) {
	if !c.counted {
		return
	}
	c.counted = false
	s.connections.total--
	if c.address.IsValid() {
		if s.connections.byAddress[c.address]--; s.connections.byAddress[c.address] == 0 {
			delete(s.connections.byAddress, c.address)
		}
	}
}

// makeRoom closes a connection, from the given address if that is valid, and reports whether it
// found one: first one whose handshake is not complete (see hog), then the oldest of the peers that
// have never sent anything. Caller holds s.mu.
func (s *Socket) makeRoom(address netip.Addr) bool {
	if s.pending.Len() > 0 && !address.IsValid() {
		if e := s.hog(); e.Value.(*pending).counted {
			s.evict(e, wire.HandshakeEvicted)
			return true
		}
	}
	for e := s.pending.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*pending); c.counted && (!address.IsValid() || c.address == address) {
			s.evict(e, wire.HandshakeEvicted)
			return true
		}
	}
	var oldest *Peer
	for p := range s.peers {
		if c := p.accepted; c != nil && c.counted && !p.spoke.Load() &&
			(!address.IsValid() || c.address == address) &&
			(oldest == nil || p.since.Before(oldest.since)) {
			oldest = p
		}
	}
	if oldest == nil || time.Since(oldest.since) < silentFor {
		return false
	}
	s.uncount(oldest.accepted)
	oldest.fail(&PeerClosedError{Reason: wire.TooManyConnections, Stage: "traffic",
		Err: fmt.Errorf("it has sent nothing since %v and makes room for another",
			oldest.since.Format(time.RFC3339))})
	return true
}
