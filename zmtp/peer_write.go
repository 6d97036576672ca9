package zmtp

import (
	"errors"
	"net"
	"os"
	"time"
)

const (
	// maxWrite is about how many bytes one write takes, so that the outbox's count follows what the kernel accepts.
	maxWrite = 256 << 10
	// writeSlice is how long one write may take, at most, before its progress is counted.
	writeSlice = 100 * time.Millisecond
)

// writeLoop writes what the outbox holds until the connection ends, or the outbox is closed and empty.
func (p *Peer) writeLoop() {
	var w writer
	defer func() { p.memory.Release(w.counted) }()
	for {
		taken, control := p.outbox.take(w.taken[:0], maxWrite)
		w.taken = taken
		if len(taken) == 0 {
			if p.outbox.finished() {
				p.closeWrite()
				return
			}
			select {
			case <-p.outbox.ready:
			case <-p.done:
				return
			}
			continue
		}
		n, err := w.write(p, taken)
		if err == nil {
			p.outbox.done(taken, control)
			continue
		}
		p.fail(ioError("traffic", err))
		lost := 0
		if p.parked || p.takeBack != nil {
			lost = p.outbox.restore(taken, control, n)
		} else {
			lost = p.outbox.done(taken, control)
		}
		if lost > 0 {
			p.Drop(DropConnectionLost, lost)
		}
		return
	}
}

// closeWrite tells the peer that nothing more will come, so that it can take what is under way before it closes.
func (p *Peer) closeWrite() {
	if c, ok := p.conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	p.conn.SetReadDeadline(time.Now().Add(drainIdle))
}

// writer holds the memory that the write loop uses again.
type writer struct {
	taken   []chunk
	vec     [][]byte
	sealed  []byte
	counted int64     // bytes of sealed that the memory budget knows of
	until   time.Time // the connection's write deadline
}

// write writes all chunks and returns how many of their bytes the kernel took.
func (w *writer) write(p *Peer, taken []chunk) (n int, err error) {
	if p.sealer != nil {
		return w.writeSealed(p, taken)
	}
	w.vec = w.vec[:0]
	for i := range taken {
		w.vec = append(w.vec, taken[i].b)
	}
	return w.flush(p)
}

// flush writes w.vec and returns how many bytes the kernel took.
func (w *writer) flush(p *Peer) (n int, err error) {
	// WriteTo consumes the slice that it is given, w.vec keeps the array. It uses writev only on a bare *net.TCPConn or
	// *net.UnixConn.
	rest := net.Buffers(w.vec)
	defer func() { clear(w.vec) }()
	for {
		// A deadline is good for several writes: to set it costs as much as a small write's copy.
		if now := time.Now(); w.until.Sub(now) < writeSlice/2 {
			w.until = now.Add(writeSlice)
			p.conn.SetWriteDeadline(w.until)
		}
		m, err := rest.WriteTo(p.conn)
		n += int(m)
		p.outbox.progress(int(m))
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		select {
		case <-p.done:
			return n, err
		default:
		}
	}
}
