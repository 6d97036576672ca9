package capture

import (
	"container/list"
	"fmt"
	"net/netip"

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
	phase  phase
	client int      // which endpoint sent the first SYN, or the first packet
	syn    bool     // whether a SYN was seen
	public *Session // nil until Select has been asked
	half   [2]half  // what each endpoint sends
	held   bool     // the assembler knows it

	encrypted bool // its traffic is, and that was an event
}

// half is one direction of a session.
type half struct {
	// TCP. Offsets count the bytes of the direction from an arbitrary origin.
	seen    bool
	origin  uint32 // sequence number of offset 0
	isn     uint32 // of the SYN, once started
	started bool   // the SYN was seen
	next    int64  // what comes next in order; before started, the first offset seen
	early   int    // segments before the SYN
	cut     int64  // where bytes are missing because of the snapshot length, or 0
	fin     int64  // of the FIN, or 0

	// ZMTP, see dissect.go.
	stage    stage
	err      error // why stage is dead, to be told if the session turns out to be ZMTP
	greeting wire.Greeting
	decoder  wire.Decoder
	buf      []byte // not yet dissected
}

func newSession(id uint64, key connKey, first int, offset int64) *session {
	s := &session{id: id, key: key, client: first}
	for side := range s.half {
		s.half[side].next = offset
	}
	return s
}

// offset returns the offset of a sequence number, taken to be within 2 GiB of what comes next.
func (h *half) offset(seq uint32) int64 {
	if !h.seen {
		h.seen, h.origin = true, seq-uint32(h.next)
	}
	return h.next + int64(int32(seq-h.origin-uint32(h.next)))
}

// replacedBy reports whether a SYN from side begins a new connection.
func (s *session) replacedBy(side int, seq uint32) bool {
	h := &s.half[side]
	switch {
	case h.started:
		return seq != h.isn
	case s.half[1-side].started:
		return false // it is the second SYN of this one
	case s.phase == ended:
		return true
	}
	// A SYN may arrive after the data behind it, but only within 1 MiB.
	d := int64(int32(seq - h.origin - uint32(h.next)))
	return h.seen && (d < -1<<20 || d > 1<<20)
}

// track follows the TCP state of the connection and dissects the payload of a segment.
func (r *Reader) track(s *session, side int, seg segment) error {
	h := &s.half[side]
	at := h.offset(seg.seq)
	if seg.syn {
		if err := r.start(s, side, at, seg); err != nil || s.phase == ended {
			return err
		}
		at++
	}
	end := at + int64(len(seg.payload)+seg.missing)
	if cut := max(h.next, at+int64(len(seg.payload))); cut < end && (h.cut == 0 || cut < h.cut) {
		h.cut = cut
	}
	if seg.fin && h.fin == 0 {
		h.fin = end
	}
	switch {
	case h.stage == dead:
		h.next = max(h.next, end)
	case len(seg.payload) > 0 || seg.missing > 0:
		if err := r.payload(s, side, at, seg.payload); err != nil || s.phase == ended {
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

func (h *half) finished() bool { return h.fin != 0 && h.next >= h.fin }

// start takes a SYN.
func (r *Reader) start(s *session, side int, at int64, seg segment) error {
	h := &s.half[side]
	if h.started {
		return nil // once more
	}
	h.started, h.isn, h.next = true, seg.seq, at+1
	if !s.syn {
		s.syn, s.client = true, side
		if seg.ack {
			s.client = 1 - side
		}
		if !r.wanted(s) {
			return r.leave(s)
		}
	}
	if h.stage == dead {
		return nil
	}
	s.held = true
	if err := r.asm.feed(s.id, side, at, nil, true); err != nil {
		return err
	}
	return r.delivered(s, side)
}

// wanted asks Select about the session once.
func (r *Reader) wanted(s *session) bool {
	if s.public == nil {
		s.public = &Session{ID: s.id, Client: s.key[s.client], Server: s.key[1-s.client]}
		return r.opts.Select == nil || r.opts.Select(s.public.Client, s.public.Server)
	}
	return true
}

// leave ends a session without events.
func (r *Reader) leave(s *session) error {
	r.stats.OtherSessions++
	return r.bury(s)
}

// payload takes a part of a direction that is not dead.
func (r *Reader) payload(s *session, side int, at int64, b []byte) error {
	h := &s.half[side]
	if !h.started {
		if h.early++; h.early > maxEarly {
			return r.fail(s, side, ErrNoStart)
		}
	}
	if h.started && at < h.next { // once more
		b, at = b[min(h.next-at, int64(len(b))):], h.next
	}
	if at != h.next && at>>32 != (at+int64(len(b)))>>32 || at>>32 != h.next>>32 {
		return r.fail(s, side, ErrGap) // see assembler
	}
	if len(b) > 0 {
		s.held = true
		if err := r.asm.feed(s.id, side, at, b, false); err != nil {
			return err
		}
		if err := r.delivered(s, side); err != nil {
			return err
		}
	}
	if h.cut != 0 && h.next == h.cut && h.stage != dead {
		return r.fail(s, side, ErrSnapLen)
	}
	return nil
}

// delivered dissects what the assembler has in order.
func (r *Reader) delivered(s *session, side int) error {
	h := &s.half[side]
	if !r.asm.any || h.stage == dead {
		return nil
	}
	switch skipped := r.asm.skipped; {
	case skipped < 0:
		return r.fail(s, side, ErrNoStart)
	case skipped > 0:
		return r.fail(s, side, fmt.Errorf("%w: %d bytes", ErrGap, skipped))
	}
	h.next += int64(len(r.asm.run))
	return r.dissect(s, side, r.asm.run)
}

// end ends a session. Missing segments will not come any more.
func (r *Reader) end(s *session, why CloseReason) error {
	if s.phase == ended {
		return nil
	}
	for _, side := range []int{s.client, 1 - s.client} {
		if err := r.giveUp(s, side); err != nil || s.phase == ended {
			return err
		}
	}
	if s.phase == watched {
		return r.leave(s)
	}
	if err := r.emit(s, Event{Kind: Closed, Closed: why}); err != nil {
		return err
	}
	return r.bury(s)
}

// giveUp makes a Problem of a direction in which data wait for a missing segment.
func (r *Reader) giveUp(s *session, side int) error {
	if !s.held || s.half[side].stage == dead {
		return nil
	}
	if _, err := r.asm.flush(s.id, side); err != nil {
		return err
	}
	return r.delivered(s, side)
}

// bury frees all memory of a session that has ended.
func (r *Reader) bury(s *session) error {
	s.phase = ended
	for side := range s.half {
		if err := r.kill(s, side); err != nil {
			return err
		}
	}
	if !s.held {
		return nil
	}
	s.held = false
	return r.asm.release(s.id)
}

// kill frees the memory of a direction. From now on its segments are only counted.
func (r *Reader) kill(s *session, side int) error {
	s.half[side].stage = dead
	r.free(&s.half[side])
	if !s.held {
		return nil
	}
	return r.asm.discard(s.id, side)
}

func (r *Reader) free(h *half) {
	r.buffered -= int64(cap(h.buf))
	h.buf = nil
}
