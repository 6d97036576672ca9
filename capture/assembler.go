package capture

import (
	"slices"
	"time"
)

// The TCP reassembly of one direction. Offsets are int64, so nothing wraps around. A segment in
// order is passed on where it lies; only what waits for a missing segment is copied.
//
// gopacket's reassembly is not used: it counts in 32 bits and takes what lies beyond a wrap for
// retransmissions, keeps pages of connections that have ended, copies each segment twice, and does
// not tell how many bytes are missing at the beginning.

// held is a segment that waits for the ones before it.
type held struct {
	at  int64
	b   []byte
	cut int // bytes behind b that were not captured
}

func (w held) end() int64 { return w.at + int64(len(w.b)+w.cut) }

// flow is the state of reassembly.
type flow struct {
	seen    bool
	origin  uint32 // sequence number of offset 0
	isn     uint32 // of the SYN
	syn     bool   // the SYN was seen
	started bool   // next is known
	first   int64  // once started, where the direction begins, as far as it is dissected
	next    int64  // what comes next in order; before started, the first offset seen
	high    int64  // the end of what was seen
	fin     int64  // of the FIN, or 0

	waits []held    // by offset
	bytes int64     // of waits
	since time.Time // when what is missing was noticed
}

// offset returns the offset of a sequence number, taken to be within 2 GiB of what comes next.
func (f *flow) offset(seq uint32) int64 {
	if !f.seen {
		f.seen, f.origin = true, seq-uint32(f.next)
	}
	return f.next + int64(int32(seq-f.origin-uint32(f.next)))
}

func (f *flow) finished() bool { return f.fin != 0 && f.next >= f.fin }

// payload takes a part of a direction that is not dead. cut bytes behind b were not captured.
func (r *Reader) payload(s *session, side int, at int64, b []byte, cut int) error {
	h := &s.half[side]
	if !h.started {
		if err := r.hold(s, side, held{at, b, cut}); err != nil {
			return err
		}
		if len(h.waits) < maxEarly && !startsSession(h.waits[0].b) {
			return nil
		}
		return r.startWithoutSYN(s, side)
	}
	if at > h.next {
		if err := r.hold(s, side, held{at, b, cut}); err != nil {
			return err
		}
		return r.checkHole(s, side)
	}
	if err := r.inOrder(s, side, held{at, b, cut}); err != nil {
		return err
	}
	return r.drain(s, side)
}

// hold keeps a copy of a segment.
func (r *Reader) hold(s *session, side int, w held) error {
	h := &s.half[side]
	size := int64(len(w.b))
	for h.started && len(h.waits) > 0 && (len(h.waits) >= r.limit.held ||
		h.bytes+size > r.limit.waiting || r.waiting+size > r.limit.waitingTotal) {
		if err := r.skipHole(s, side); err != nil || h.stage == dead {
			return err
		}
		if w.at <= h.next {
			return r.inOrder(s, side, w)
		}
	}
	if size > r.limit.waitingTotal-r.waiting {
		return nil // others hold it all; this segment will be a gap
	}
	i := len(h.waits)
	for i > 0 && h.waits[i-1].at > w.at {
		i--
	}
	if i > 0 && h.waits[i-1].at == w.at && h.waits[i-1].end() >= w.end() &&
		len(h.waits[i-1].b) >= len(w.b) {
		return nil // once more
	}
	if len(h.waits) == 0 {
		h.since = r.now
	}
	w.b = append(r.pool.get(len(w.b)), w.b...)
	h.waits = slices.Insert(h.waits, i, w)
	h.bytes += size
	r.waiting += size
	return nil
}

// inOrder passes on what is new of a segment that does not begin behind what comes next.
func (r *Reader) inOrder(s *session, side int, w held) error {
	h := &s.half[side]
	if w.end() <= h.next {
		return nil
	}
	if old := h.next - w.at; old >= int64(len(w.b)) {
		w.cut -= int(old) - len(w.b)
		w.b = nil
	} else {
		w.b = w.b[old:]
	}
	if len(w.b) > 0 {
		h.next += int64(len(w.b))
		if err := r.arrived(s, side, w.b); err != nil || h.stage == dead {
			return err
		}
	}
	if w.cut == 0 || len(h.waits) > 0 && h.waits[0].at <= h.next {
		return nil // another copy has the rest
	}
	h.next += int64(w.cut)
	return r.gap(s, side, int64(w.cut), ErrSnapLen)
}

// drain passes on the segments that have become in order.
func (r *Reader) drain(s *session, side int) error {
	h := &s.half[side]
	for len(h.waits) > 0 && h.waits[0].at <= h.next && h.stage != dead {
		w := h.waits[0]
		h.waits = slices.Delete(h.waits, 0, 1)
		h.bytes -= int64(len(w.b))
		r.waiting -= int64(len(w.b))
		h.since = r.now
		err := r.inOrder(s, side, w)
		r.pool.put(w.b)
		if err != nil {
			return err
		}
	}
	return nil
}

// checkHole skips the missing segment if it will not come.
func (r *Reader) checkHole(s *session, side int) error {
	h := &s.half[side]
	if len(h.waits) == 0 || s.half[1-side].acked < h.waits[0].at {
		return nil // the receiver waits for it, too
	}
	if len(h.waits) < maxHeldAcked && r.now.Sub(h.since) < maxSecondsHole*time.Second {
		return nil
	}
	return r.skipHole(s, side)
}

// skipHole takes the first missing segment for lost.
func (r *Reader) skipHole(s *session, side int) error {
	h := &s.half[side]
	missing := h.waits[0].at - h.next
	h.next = h.waits[0].at
	if err := r.gap(s, side, missing, ErrGap); err != nil {
		return err
	}
	return r.drain(s, side)
}

// startWithoutSYN begins with the first segment that was seen of a direction.
func (r *Reader) startWithoutSYN(s *session, side int) error {
	h := &s.half[side]
	if h.started || len(h.waits) == 0 {
		return nil
	}
	h.started, h.next, h.first = true, h.waits[0].at, h.waits[0].at
	if err := r.begin(s); err != nil || s.phase == ended {
		return err
	}
	if !startsSession(h.waits[0].b) {
		h.stage = lost
	}
	return r.drain(s, side)
}

// flush ends the reassembly of a direction: nothing that is missing will come any more.
func (r *Reader) flush(s *session, side int) error {
	h := &s.half[side]
	if err := r.startWithoutSYN(s, side); err != nil {
		return err
	}
	for len(h.waits) > 0 && h.stage != dead {
		if err := r.skipHole(s, side); err != nil {
			return err
		}
	}
	return nil
}

// dropHeld frees the segments that wait.
func (r *Reader) dropHeld(h *half) {
	for _, w := range h.waits {
		r.pool.put(w.b)
	}
	r.waiting -= h.bytes
	h.waits, h.bytes = nil, 0
}

// pool keeps buffers for their next use, so that a capture in which nothing changes allocates
// nothing.
type pool [][]byte

// get returns an empty buffer with room for n bytes, unless that is much.
func (p *pool) get(n int) []byte {
	if last := len(*p) - 1; last >= 0 && n <= maxPooled {
		b := (*p)[last]
		*p = (*p)[:last]
		return b[:0]
	}
	return nil
}

func (p *pool) put(b []byte) {
	if cap(b) > 0 && cap(b) <= maxPooled && len(*p) < maxPool {
		*p = append(*p, b)
	}
}
