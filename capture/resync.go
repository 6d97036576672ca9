package capture

import (
	"bytes"
	"encoding/binary"

	"zmtpd/zmtp/wire"
)

// Behind a gap the boundaries of frames have to be found again. If the gap lies within a frame
// whose header is known, they are known. Otherwise the stream is searched.
//
// Every offset of a window may be a boundary. From each of them a chain of frames follows, until
// one has an impossible header. The true boundaries are a chain that never ends so. Chains that
// reach the same offset go on together. So once all chains that are left go on together, they have
// met the true one.
//
// That holds if the first half of the window has a true boundary. It has none within a frame that
// is larger, and there a false chain may survive: strings behind their length look like frames. So
// the chain has to look like messages, too, in the second half of the window (shape). The first of
// them are not reported.

const (
	// searchFirst and searchWindow are the sizes of the first and the largest window in bytes.
	searchFirst  = 4 << 10
	searchWindow = 256 << 10

	// The last header of the chain has to be in the last part of the window: one that a false chain
	// hits at random mostly announces a size that nothing in the window can confute.
	searchTail = 8

	// Messages that have to follow, in a session that is known to be ZMTP and in one that is not.
	messagesKnown   = 4
	messagesUnknown = 8
	// framesUnsure are the first frames of them, which are not reported.
	framesUnsure = 2

	// A chain that does not meet the longest one is ignored if that has so many times its frames.
	ignoreRatio = 16
)

// gap takes bytes that are missing at h.next.
func (r *Reader) gap(s *session, side int, missing int64, why error) error {
	h := &s.half[side]
	if s.phase == opened {
		r.stats.Gaps++
		r.stats.MissingBytes += uint64(missing)
		ev := Event{Kind: Gap, From: s.side(side), Missing: missing, Err: why}
		if err := r.emit(s, ev); err != nil {
			return err
		}
	}
	if s.half[1-side].stage == upgraded && !s.agreed.made { // the response is missing
		if err := r.assume(s); err != nil {
			return err
		}
	}
	if h.ws != nil && !h.ws.jump(missing) {
		r.lose(s, side)
		return nil
	}
	switch h.stage {
	case dead:
		return nil
	case traffic:
		r.loseMessage(h)
		if h.beginSkip(h.buf) && h.rest >= missing {
			h.rest -= missing
			r.free(h)
			return nil
		}
	case skipping:
		if len(h.buf) == 0 && h.rest >= missing {
			h.rest -= missing
			return nil
		}
	}
	r.lose(s, side)
	return nil
}

// lose forgets where the boundaries are.
func (r *Reader) lose(s *session, side int) {
	if r.loseFrames(s, side) {
		return
	}
	h, other := &s.half[side], &s.half[1-side]
	if h.stage != lost {
		h.skipped = 0
	}
	h.rest = 0
	if h.syn && h.ws == nil { // the greeting consists of no frames, and its end is known
		h.rest = max(0, h.first+wire.GreetingSize-h.next)
	}
	h.skipped += int64(len(h.buf))
	r.free(h)
	r.loseMessage(h)
	h.stage, h.tried = lost, 0
	if h.greeting.Major == 0 {
		h.greeting.Mechanism = other.greeting.Mechanism
	}
}

// skipMessage gives up the unfinished message in b.
func (r *Reader) skipMessage(s *session, side int, b []byte) error {
	h := &s.half[side]
	if h.beginSkip(b) {
		r.free(h)
		return nil
	}
	r.lose(s, side)
	return nil
}

// beginSkip gives up the message at the start of b, which ends within it or within a frame whose
// header is in b. It returns false if it does not know where the frame ends.
func (h *half) beginSkip(b []byte) bool {
	inside := false
	for at := 0; at < len(b); {
		flags, size, n, err := wire.ParseHeader(b[at:])
		if err != nil || n == 0 {
			return false
		}
		if flags&wire.Command == 0 {
			inside = flags&wire.More != 0
		}
		if size > int64(len(b)-at-n) {
			h.stage, h.inside, h.decoder = skipping, inside, wire.Decoder{}
			h.rest = size - int64(len(b)-at-n)
			return true
		}
		at += n + int(size)
	}
	return false
}

// skip skips the rest of a message.
func (h *half) skip(b []byte) (rest []byte, more bool) {
	for {
		n := min(h.rest, int64(len(b)))
		b = b[n:]
		if h.rest -= n; h.rest > 0 {
			return nil, false
		}
		if !h.inside {
			h.stage = traffic
			return b, len(b) > 0
		}
		flags, size, head, err := wire.ParseHeader(b)
		if err != nil {
			h.stage, h.skipped, h.tried, h.rest = lost, 0, 0, 0
			return b, true
		}
		if head == 0 {
			return b, false
		}
		b, h.rest = b[head:], size
		if flags&wire.Command == 0 {
			h.inside = flags&wire.More != 0
		}
	}
}

// resume searches the boundaries of frames in b.
func (r *Reader) resume(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	h := &s.half[side]
	if h.rest > 0 { // of the greeting
		n := min(h.rest, int64(len(b)))
		h.rest -= n
		h.skipped += n
		b = b[n:]
	}
	if h.need = min(max(searchFirst, 2*h.tried), searchWindow); len(b) < h.need {
		return b, false, nil
	}
	if at, ok := r.search.boundary(b, r.question(s, side)); ok {
		return r.resumed(s, side, b, at)
	}
	if len(b) >= searchWindow {
		if s.phase != opened {
			r.kill(s, side) // probably another protocol
			if s.half[1-side].stage == dead {
				r.stats.NoStart++
				r.bury(s)
			}
			return b, false, nil
		}
		half := len(b) / 2
		h.skipped += int64(half)
		b = b[half:]
	}
	h.tried = len(b)
	h.need = min(2*h.tried, searchWindow)
	return b, false, nil
}

// lastSearch searches in a direction that has ended, so that its end is a boundary.
func (r *Reader) lastSearch(s *session, side int) error {
	h := &s.half[side]
	q := r.question(s, side)
	q.ended = true
	at, ok := r.search.boundary(h.buf, q)
	if !ok {
		return nil
	}
	rest, more, err := r.resumed(s, side, h.buf, at)
	if err != nil || !more {
		return err
	}
	_, err = r.items(s, side, rest)
	return err
}

// resumed goes on at a boundary. The frames of a message that began before are skipped.
func (r *Reader) resumed(s *session, side int, b []byte, at int) ([]byte, bool, error) {
	h := &s.half[side]
	if err := r.open(s); err != nil {
		return b, false, err
	}
	if err := r.emit(s, Event{Kind: Resumed, From: s.side(side),
		Missing: h.skipped + int64(at)}); err != nil {
		return b, false, err
	}
	if h.greeting.Major == 0 && isSealed(b[at:]) {
		h.greeting.Mechanism = mechanismCurve
	}
	h.skipped, h.tried, h.rest = 0, 0, 0
	h.stage, h.inside = skipping, true
	if h.greeting.Mechanism == mechanismCurve {
		h.stage, h.inside = traffic, false // the boundaries of messages are inside
	}
	if h.ws != nil {
		h.ws.lost, h.ws.begun, h.ws.early = false, true, bytes.Clone(b[at:])
		return nil, false, nil
	}
	return b[at:], true, nil
}

// shape is what the messages of a direction have in common.
type shape struct {
	any    bool
	parts  int // their number; 0 if it differs
	prefix [16]byte
	same   int // bytes at the start of the first part
}

// learn takes a message in wire form.
func (p *shape) learn(b []byte, parts int) {
	_, size, n, err := wire.ParseHeader(b)
	if err != nil {
		return
	}
	first := b[n : n+int(min(size, int64(len(p.prefix))))]
	if !p.any {
		p.any, p.parts, p.same = true, parts, copy(p.prefix[:], first)
		return
	}
	if p.parts != parts {
		p.parts = 0
	}
	p.same = min(p.same, len(first))
	for p.same > 0 && string(p.prefix[:p.same]) != string(first[:p.same]) {
		p.same--
	}
}

// certain reports whether messages that look so are no coincidence. known is what the earlier ones
// looked like, if they are known.
func (p *shape) certain(known *shape) bool {
	const enough = 4 // bytes
	if known.any && (known.parts != 0 && known.parts != p.parts || p.same < known.same ||
		string(p.prefix[:known.same]) != string(known.prefix[:known.same])) {
		return false
	}
	return p.any && (p.parts > 1 || known.same >= enough)
}

// question says what is searched.
type question struct {
	limit  int64 // of a message, in bytes
	known  bool  // it is ZMTP
	curve  bool  // all frames are those of CURVE
	ws     bool  // the frames are those of WebSocket, masked or not
	masked bool
	ended  bool // the last frame ends with the window
	shape  *shape
}

func (r *Reader) question(s *session, side int) question {
	h := &s.half[side]
	if h.ws != nil {
		return question{limit: r.limit.message, ws: true, masked: h.ws.masked}
	}
	return question{limit: r.limit.message, known: s.phase == opened,
		curve: h.greeting.Mechanism == mechanismCurve, shape: &h.shape}
}

// convinced reports whether the chain of frames in b, whose offsets are in next, is one of messages
// and commands.
func (q question) convinced(b []byte, next []int32, at int) bool {
	if q.ws {
		frames := 0
		for ; at < len(b) && int(next[at]) < len(b); at = int(next[at]) {
			frames++
		}
		return frames >= messagesUnknown
	}
	var seen shape
	start, parts, messages, commands := -1, 0, 0, 0 // start: where the message begins, if known
	for at < len(b) && int(next[at]) < len(b) || q.ended && at < len(b) {
		flags := wire.Flags(b[at])
		end := int(next[at])
		switch {
		case flags&wire.Command != 0:
			commands++
		case flags&wire.More != 0:
			parts++
		default:
			if start >= 0 {
				seen.learn(b[start:end], parts+1)
				messages++
			}
			start, parts = end, 0
		}
		at = end
	}
	need := messagesUnknown
	switch {
	case q.curve && q.known:
		return true
	case q.ended && q.known:
		need = 1
	case q.known:
		need = messagesKnown
	}
	return messages >= need && seen.certain(q.shape) || messages == 0 && commands >= need
}

// search has the memory for a search, which is kept.
type search struct {
	// next is the offset of the frame behind the one that begins at an offset; that of the end of
	// the window if it ends there or beyond, or impossible.
	next []int32
	// frames is the number of frames of the chain that are not empty and are followed by a header,
	// at most maxFrames.
	frames []uint16
	// meets is where the chain meets the longest one; impossible if it does not.
	meets []int32
}

const (
	impossible = -1
	maxFrames  = 1<<16 - 1
)

// boundary returns the offset of a boundary in b.
func (s *search) boundary(b []byte, q question) (int, bool) {
	n := len(b)
	if n == 0 {
		return 0, false
	}
	if cap(s.next) < n {
		s.next, s.meets = make([]int32, n), make([]int32, n)
		s.frames = make([]uint16, n)
	}
	next, frames, meets := s.next[:n], s.frames[:n], s.meets[:n]
	for i := n - 1; i >= 0; i-- {
		end := q.frameEnd(b, i)
		switch {
		case end < 0, end > n && q.ended, end < n && next[end] == impossible:
			next[i], frames[i] = impossible, 0
		case end < n:
			next[i], frames[i] = int32(end), frames[end]
			if end > i+2 {
				frames[i] = min(frames[end], maxFrames-1) + 1
			}
		default:
			next[i], frames[i] = int32(n), 0
			if q.ended {
				frames[i] = 1
			}
		}
	}
	first := (n + 1) / 2
	if q.ended {
		first = n
	}
	best := 0
	for i := range first {
		if frames[i] > frames[best] {
			best = i
		}
	}
	if next[best] == impossible || frames[best] == 0 {
		return 0, false
	}
	for i := range meets {
		meets[i] = impossible
	}
	last := best
	for i := best; i < n; i = int(next[i]) {
		meets[i], last = int32(i), i
	}
	if !q.ended && last < n-n/searchTail {
		return 0, false
	}
	at := best
	for i := n - 1; i >= 0; i-- {
		if next[i] == impossible || meets[i] == int32(i) {
			continue
		}
		if int(next[i]) < n {
			meets[i] = meets[next[i]]
		}
		if i >= first {
			continue
		}
		if meets[i] != impossible {
			at = max(at, int(meets[i]))
		} else if int(frames[best]) < ignoreRatio*(1+int(frames[i])) {
			return 0, false
		}
	}
	for !q.ended && at < first {
		at = int(next[at])
	}
	if at >= n || !q.convinced(b, next, at) {
		return 0, false
	}
	if q.curve || q.ws {
		return at, true
	}
	for unsure := 0; unsure < framesUnsure && at < n; at = int(next[at]) {
		if int(next[at]) > at+2 {
			unsure++
		}
	}
	return at, at < n
}

// frameEnd returns where the frame at an offset ends, len(b) or more if that is not in b, or -1 if
// no frame begins there. libzmq and all others write a size in the shortest form.
func (q question) frameEnd(b []byte, i int) int {
	if q.ws {
		return q.frameEndWebSocket(b, i)
	}
	flags := wire.Flags(b[i])
	if flags&^(wire.More|wire.Long|wire.Command) != 0 {
		return -1
	}
	n, size := 2, int64(0)
	if flags&wire.Long != 0 {
		n = wire.MaxHeaderSize
	}
	if i+n > len(b) {
		return len(b) + 1
	}
	if flags&wire.Long == 0 {
		size = int64(b[i+1])
	} else if u := binary.BigEndian.Uint64(b[i+1:]); u < 256 || u > uint64(q.limit) {
		return -1
	} else {
		size = int64(u)
	}
	body := b[i+n:]
	body = body[:min(int64(len(body)), size)]
	switch {
	case q.curve:
		if size < sealedMin || len(body) >= len(sealedName) &&
			string(body[:len(sealedName)]) != sealedName {
			return -1
		}
	case flags&wire.Command != 0:
		if flags&wire.More != 0 || size == 0 || size > wire.MaxCommandSize || !isCommand(body) {
			return -1
		}
	}
	return int(min(int64(i+n)+size, int64(len(b))+1))
}

// isCommand reports whether the body of a frame, which may be cut off, begins with the name of a
// command, of the handshake or behind it.
func isCommand(body []byte) bool {
	if len(body) == 0 {
		return true
	}
	for _, name := range [...]string{wire.CmdPing, wire.CmdPong, wire.CmdSubscribe, wire.CmdCancel,
		"JOIN", "LEAVE", wire.CmdError, wire.CmdReady, cmdHello, cmdWelcome, cmdInitiate} {
		if int(body[0]) != len(name) {
			continue
		}
		seen := min(len(body)-1, len(name))
		if string(body[1:1+seen]) == name[:seen] {
			return true
		}
	}
	return false
}
