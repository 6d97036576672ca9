package capture

import (
	"container/list"
	"fmt"
	"net/netip"
	"time"

	"zmtpd/curve/box"
	"zmtpd/zmtp/wire"
)

// connKey has the two endpoints of a TCP connection, the smaller one first.
type connKey [2]netip.AddrPort

// keyOf returns the key and which of its endpoints src is.
func keyOf(src, dst netip.AddrPort) (connKey, int) {
	if src.Compare(dst) <= 0 {
		return connKey{src, dst}, 0
	}
	return connKey{dst, src}, 1
}

type phase uint8

const (
	watched phase = iota // it may be ZMTP
	opened               // it is
	ended                // it has no more events; the entry catches late packets
)

// session is one TCP connection.
type session struct {
	id     uint64
	key    connKey
	place  *list.Element
	began  time.Time // of its first packet
	last   time.Time // of its latest packet
	phase  phase
	client int      // which endpoint sent the first SYN, or the first packet
	syn    bool     // whether a SYN was seen
	public *Session // nil until Select has been asked
	half   [2]half  // what each endpoint sends

	agreed   agreement   // of ZMTP over WebSocket
	keys     sessionKeys // of CURVE
	lastStep string      // of the handshake
}

// half is one direction of a session.
type half struct {
	flow
	acked int64 // what its acknowledgements say of the other direction, as offset there
	zero  bool  // its receive window is closed

	// ZMTP, see dissect.go.
	stage    stage
	err      error // why stage is dead, to be told if the session turns out to be ZMTP
	greeting wire.Greeting
	decoder  wire.Decoder
	buf      []byte // not yet dissected
	need     int    // bytes that buf must have before it is dissected again
	hole     bool   // buf has a command that is to be cut out of a message
	rest     int64  // stage skipping: bytes until the end of the current frame
	inside   bool   // stage skipping: more frames of the message follow
	skipped  int64  // stage lost: bytes that were skipped
	shape    shape  // of the messages so far
	tried    int    // stage lost: bytes of buf that were searched

	ws *webSocket // over WebSocket, behind the upgrade

	opener *box.Opener // of CURVE, if the key is known
	plain  []byte      // decrypted, not yet dissected
	orphan bool        // of CURVE: the beginning of the message that follows is not known
}

func newSession(id uint64, key connKey, first int, offset int64) *session {
	s := &session{id: id, key: key, client: first}
	for side := range s.half {
		s.half[side].next = offset
	}
	return s
}

// replacedBy reports whether a SYN from side begins a new connection.
func (s *session) replacedBy(side int, seq uint32) bool {
	h := &s.half[side]
	switch {
	case h.syn:
		return seq != h.isn
	case s.half[1-side].syn:
		return false // it is the second SYN of this one
	case h.started:
		return h.offset(seq+1) != h.first // else it is late, perhaps behind the end
	case s.phase == ended:
		return true
	}
	// A SYN may arrive after the data behind it, but only within 1 MiB.
	d := int64(int32(seq - h.origin - uint32(h.next)))
	return h.seen && (d < -1<<20 || d > 1<<20)
}

// track follows the TCP state of the connection and dissects the payload of a segment.
func (r *Reader) track(s *session, side int, seg segment) error {
	h, other := &s.half[side], &s.half[1-side]
	at := h.offset(seg.seq)
	if seg.syn {
		if err := r.start(s, side, at, seg); err != nil || s.phase == ended {
			return err
		}
		at++
	}
	end := at + int64(len(seg.payload)+seg.missing)
	if seg.fin && h.fin == 0 {
		h.fin = end
	}
	r.count(s, side, at, end, seg)
	if seg.ack && other.seen {
		h.acked = max(h.acked, other.offset(seg.ackSeq))
		if len(other.waits) > 0 && other.started {
			if err := r.checkHole(s, 1-side); err != nil || s.phase == ended {
				return err
			}
		}
	}
	switch {
	case h.stage == dead:
		h.next = max(h.next, end)
	case end > at:
		err := r.payload(s, side, at, seg.payload, seg.missing)
		if err != nil || s.phase == ended {
			return err
		}
	}
	switch {
	case seg.rst && (!h.started || at >= h.next-1):
		return r.end(s, Reset)
	case s.half[0].finished() && s.half[1].finished():
		return r.end(s, Finished)
	}
	return nil
}

// count keeps the statistics of TCP.
func (r *Reader) count(s *session, side int, at, end int64, seg segment) {
	h := &s.half[side]
	defer func() { h.high = max(h.high, end) }()
	if s.public == nil {
		return
	}
	t := s.public.side(s.side(side))
	t.Packets++
	if size := end - at; size > 0 {
		t.Bytes += uint64(size)
		switch {
		case size == 1 && at == h.high-1: // a keep-alive or a window probe
		case h.started && end <= h.next:
			t.Retransmitted++
			t.RetransmittedBytes += uint64(size)
		case at < h.high:
			t.OutOfOrder++
		}
	}
	switch zero := seg.window == 0 && !seg.syn && !seg.rst; {
	case zero && !h.zero:
		t.ZeroWindows++
		t.ZeroSince = r.now
		if t.FirstZero.IsZero() {
			t.FirstZero = r.now
		}
	case !zero && h.zero:
		t.ZeroTime += r.now.Sub(t.ZeroSince)
		t.ZeroSince = time.Time{}
	}
	h.zero = seg.window == 0 && !seg.syn && !seg.rst
}

// start takes a SYN.
func (r *Reader) start(s *session, side int, at int64, seg segment) error {
	h := &s.half[side]
	if h.syn {
		return nil // once more
	}
	h.syn, h.isn = true, seg.seq
	if !h.started {
		h.started, h.next, h.first = true, at+1, at+1
	}
	if !s.syn {
		s.syn, s.client = true, side
		if seg.ack {
			s.client = 1 - side
		}
		if err := r.begin(s); err != nil || s.phase == ended {
			return err
		}
	}
	if h.stage == dead {
		return nil
	}
	return r.drain(s, side)
}

// begin asks Select about the session once.
func (r *Reader) begin(s *session) error {
	if s.public != nil {
		return nil
	}
	if !s.syn {
		s.client = s.guessClient()
	}
	s.public = &Session{ID: s.id, Client: s.key[s.client], Server: s.key[1-s.client],
		Began: s.began}
	if r.opts.Select != nil && !r.opts.Select(s.public.Client, s.public.Server) {
		return r.leave(s)
	}
	return nil
}

// guessClient returns the client of a connection whose SYNs are missing: it has an ephemeral port,
// if one has, else it sent the first packet.
func (s *session) guessClient() int {
	const ephemeral = 32768 // the first one on Linux
	a, b := s.key[0].Port() >= ephemeral, s.key[1].Port() >= ephemeral
	switch {
	case a && !b:
		return 0
	case b && !a:
		return 1
	}
	return s.client
}

// leave ends a session without events.
func (r *Reader) leave(s *session) error {
	r.stats.OtherSessions++
	r.bury(s)
	return nil
}

// end ends a session. Missing segments will not come any more.
func (r *Reader) end(s *session, why CloseReason) error {
	if s.phase == ended {
		return nil
	}
	for _, side := range []int{s.client, 1 - s.client} {
		if err := r.flush(s, side); err != nil || s.phase == ended {
			return err
		}
		if h := &s.half[side]; h.stage != lost || h.ws != nil || !h.finished() {
			continue
		}
		if err := r.lastSearch(s, side); err != nil {
			return err
		}
	}
	if s.phase == watched {
		if s.half[0].stage == lost || s.half[1].stage == lost {
			r.stats.NoStart++
			r.bury(s)
			return nil
		}
		return r.leave(s)
	}
	closed := Event{Kind: Closed, Closed: why}
	if s.syn && !s.complete() {
		closed.Err = ErrHandshake
		if s.lastStep != "" {
			closed.Err = fmt.Errorf("%w: the last step was %s", ErrHandshake, s.lastStep)
		}
	}
	if err := r.emit(s, closed); err != nil {
		return err
	}
	r.bury(s)
	return nil
}

// complete reports whether the handshake is, as far as can be told.
func (s *session) complete() bool {
	for side := range s.half {
		switch s.half[side].stage {
		case greeting, upgrade, upgraded, handshake:
			return false
		}
	}
	return true
}

// bury frees all memory of a session that has ended.
func (r *Reader) bury(s *session) {
	s.phase = ended
	for side := range s.half {
		r.kill(s, side)
	}
}

// kill frees the memory of a direction. From now on its segments are only counted.
func (r *Reader) kill(s *session, side int) {
	h := &s.half[side]
	r.loseMessage(h)
	h.stage, h.opener, h.plain, h.ws = dead, nil, nil, nil
	r.free(h)
	r.dropHeld(h)
}

// free empties the buffer of a direction.
func (r *Reader) free(h *half) {
	r.buffered -= int64(cap(h.buf))
	r.pool.put(h.buf)
	h.buf, h.need = nil, 0
}
