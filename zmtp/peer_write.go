package zmtp

import (
	"errors"
	"os"
	"time"

	"zmtpd/zmtp/internal/netsock"
	"zmtpd/zmtp/wire"
)

const (
	// maxWrite is about how many bytes one write takes, so that the outbox's count is close to what
	// the kernel has accepted.
	maxWrite = 256 << 10
	// writeSlice is the time after which the progress of a write that is under way is counted.
	writeSlice = 100 * time.Millisecond
	// writePiece is how many bytes are written at once to a connection whose writes cannot be
	// interrupted.
	writePiece = 16 << 10
)

// writeLoop writes what the outbox holds until a write fails, the connection ends, or the outbox is
// closed and empty. It returns when the read loop has ended.
func (p *Peer) writeLoop() {
	p.findInlet()
	w := newWriter(p)
	defer func() { p.memory.Release(w.counted) }()
	for {
		taken, control := p.outbox.take(w.taken[:0], maxWrite, p.holdsBack)
		w.taken = taken
		if len(taken) == 0 {
			if p.outbox.finished() {
				p.closeWrite()
				p.linger(false)
				return
			}
			var again <-chan time.Time
			if p.backlog.holding.Load() {
				again = time.After(calmPause)
			}
			select {
			case <-p.outbox.ready:
			case <-again:
			case <-p.done:
				return
			}
			continue
		}
		n, err := w.write(taken)
		if err != nil {
			p.writeFailed(taken, control, n, ioError("traffic", err))
			return
		}
		p.outbox.done(taken, control)
	}
}

// writeFailed ends the sending after a failed write, which took n bytes of taken. The read loop
// goes on: data that the peer has sent before is still in the kernel, even after a reset.
func (p *Peer) writeFailed(taken []chunk, control, n int, err error) {
	p.ended(err)
	lost := 0
	if p.parked || p.takeBack != nil {
		lost = p.outbox.restore(taken, control, n)
	} else {
		p.outbox.close(false) // before done makes room, which nothing should take any more
		lost = p.outbox.done(taken, control)
	}
	if lost > 0 {
		p.Drop(DropConnectionLost, lost)
	}
	p.stopSending()
	p.linger(true)
}

// stopSending ends the sending on this connection. The messages that wait stay in the outbox of the
// endpoint, are taken back by the load balancer, or are lost. It is called by the write loop or
// after its end.
func (p *Peer) stopSending() {
	if p.mute {
		return
	}
	p.mute = true
	switch {
	case p.parked:
		p.outbox.hangUp()
	case p.takeBack != nil:
		p.takeBack()
	default:
		if lost := p.outbox.close(true); lost > 0 {
			p.Drop(DropConnectionLost, lost)
		}
	}
}

// closeWrite closes our end of the connection. The peer can read what is under way before it closes
// its end.
func (p *Peer) closeWrite() {
	if c, ok := p.conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}

const (
	// answerTime is how long a peer may be silent, after we have closed our end or a write has
	// failed, until the connection is closed.
	answerTime = 2 * time.Second
	// Pauses between two checks of what the peer's host has acknowledged.
	minPoll = time.Millisecond
	maxPoll = 100 * time.Millisecond
)

// linger waits after the last write until the read loop has ended. It ends the read loop when the
// peer's host has acknowledged everything and the peer is silent without closing its end. An
// earlier close could discard what is under way: our kernel answers data of the peer on a closed
// connection with RST and drops the rest. After a failed write linger waits only for data from the
// peer.
func (p *Peer) linger(failed bool) {
	quiet, read := time.Now(), p.backlog.read.Load()
	timer := time.NewTimer(minPoll)
	defer timer.Stop()
	for pause := minPoll; ; pause = min(2*pause, maxPoll) {
		timer.Reset(pause)
		select {
		case <-p.over:
			return
		case <-timer.C:
		}
		now := p.backlog.read.Load()
		switch {
		case now != read, !p.backlog.waiting.Load(), !failed && !p.delivered():
			quiet, read = time.Now(), now
		case time.Since(quiet) >= answerTime:
			p.suspect(&PeerClosedError{Reason: wire.LocalClose, Stage: "traffic"})
			quiet = time.Now()
		}
	}
}

// delivered reports whether the peer's host has acknowledged everything that was written. Where
// that cannot be known, it reports true only if no message was sent.
func (p *Peer) delivered() bool {
	if _, n, ok := netsock.Queued(p.conn); ok {
		return n == 0
	}
	return p.outbox.traffic().Messages == 0
}

// writer holds the memory that the write loop uses again.
type writer struct {
	p       *Peer
	vector  netsock.Writer // nil if a write that has timed out cannot be continued
	taken   []chunk
	vec     [][]byte
	sealed  []byte
	counted int64     // bytes of sealed that the memory budget knows of
	until   time.Time // the connection's write deadline
}

func newWriter(p *Peer) *writer { return &writer{p: p, vector: netsock.NewWriter(p.conn)} }

// write writes all chunks and returns how many of their bytes the kernel took.
func (w *writer) write(taken []chunk) (n int, err error) {
	if w.p.sealer != nil {
		return w.writeSealed(taken)
	}
	if _, pipe := w.p.handsOver(); pipe != nil {
		return pipe.hand(taken, w.p.outbox.progress)
	}
	w.vec = w.vec[:0]
	for i := range taken {
		w.vec = append(w.vec, taken[i].b)
	}
	return w.flush()
}

// flush writes w.vec and returns how many bytes the kernel took.
func (w *writer) flush() (n int, err error) {
	defer func() { clear(w.vec) }()
	if w.vector != nil {
		return w.flushVector()
	}
	return w.flushPieces()
}

// flushVector writes w.vec with writev, and counts progress at least once in a writeSlice.
func (w *writer) flushVector() (n int, err error) {
	w.vector.Start(w.vec)
	defer w.vector.End()
	for {
		// A deadline is good for several writes: to set it costs as much as a small write's copy.
		if now := time.Now(); w.until.Sub(now) < writeSlice/2 {
			w.until = now.Add(writeSlice)
			w.p.conn.SetWriteDeadline(w.until)
		}
		m, err := w.vector.Flush()
		n += m
		w.p.outbox.progress(m)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		select {
		case <-w.p.done:
			return n, err
		default:
		}
	}
}

// flushPieces writes w.vec to a connection of another kind. It has no deadline: after a write that
// has timed out such a connection may be of no use any more, as those of crypto/tls are. The end of
// the peer closes it.
func (w *writer) flushPieces() (n int, err error) {
	for _, b := range w.vec {
		for len(b) > 0 {
			m, err := w.p.conn.Write(b[:min(len(b), writePiece)])
			n += m
			w.p.outbox.progress(m)
			if err != nil {
				return n, err
			}
			b = b[m:]
		}
	}
	return n, nil
}
