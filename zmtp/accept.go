package zmtp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"zmtpd/zmtp/wire"
)

// handshake brings the connection of p up to its traffic and returns what came behind. The end of
// the owner ends it. But a peer to which something was sent behind the greeting may take the
// handshake for complete and have sent messages, so it gets answerTime.
func (s *Socket) handshake(p *Peer) (first []byte, err error) {
	var committed atomic.Bool
	hurried := make(chan struct{})
	stop := context.AfterFunc(p.owner.ctx, func() {
		defer close(hurried)
		until := time.Unix(1, 0)
		if committed.Load() {
			until = time.Now().Add(answerTime)
		}
		p.conn.SetDeadline(until)
	})
	first, err = s.exchange(p, &committed)
	if !stop() {
		<-hurried
		if err != nil {
			err = &PeerClosedError{Reason: wire.LocalClose, Stage: "handshake", Err: err}
		}
	}
	if err == nil {
		err = p.conn.SetDeadline(time.Time{})
	}
	return first, err
}

// exchange is the handshake up to its time limit. It sets committed before it sends something
// behind the greeting.
func (s *Socket) exchange(p *Peer, committed *atomic.Bool) (first []byte, err error) {
	conn := p.conn
	live := s.live.Load()
	deadline := time.Now().Add(live.HandshakeTimeout)
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, ioError("handshake", err)
	}
	m := s.cfg.Mechanism(localMetadata(s.local, s.cfg.RoutingID, s.cfg.Metadata))
	h := newHandshake(s.local, m, live.MaxMessageSize)
	in := &inlet{conn: conn, buf: make([]byte, 0, 512)}
	written := 0
	if session, ok := conn.(Session); ok {
		if err := openSession(p.owner.ctx, session, m.Name(), deadline); err != nil {
			return nil, ioError("handshake", err)
		}
		h.skipGreeting()
		written = wire.GreetingSize // whatever is sent is sent behind it
	}
	out := h.start(nil)
	for {
		var used int
		var progress Progress
		out, used, progress, err = h.feed(out, in.buf)
		in.buf = in.buf[:copy(in.buf, in.buf[used:])]
		if err == nil && progress == NeedsAuth {
			// The answer may take a while; the peer gets the rest of the greeting now.
			if _, err := conn.Write(out); err != nil {
				return nil, ioError("handshake", err)
			}
			out, progress, err = s.authorize(p, h, in, out[:0], deadline)
			if err == nil && progress == Continue {
				continue // what came meanwhile comes next
			}
		}
		sent := len(out) > 0
		if sent {
			written += len(out)
			committed.Store(written > wire.GreetingSize)
			if _, werr := conn.Write(out); werr != nil && err == nil {
				err = ioError("handshake", werr)
			}
			out = out[:0]
		}
		if err != nil {
			if sent {
				lingerClose(conn)
			}
			return nil, err
		}
		if progress == Ready {
			p.greeting, p.metadata = h.peer, m.Metadata()
			p.sealer, p.opener = m.Traffic()
			return in.buf, nil
		}
		if err := in.read(); err != nil {
			return nil, ioError("handshake", err)
		}
	}
}

// openSession is Session.Open with a deadline.
func openSession(ctx context.Context, s Session, mechanism string, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := s.Open(ctx, mechanism)
	if errors.Is(err, context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return err
}

// lingerClose lets a peer read the ERROR that it was sent: a close with unread input would be a
// reset, which takes back what is under way.
func lingerClose(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		conn.SetReadDeadline(time.Now().Add(lastLook))
		io.Copy(io.Discard, io.LimitReader(conn, maxHandshakeFrame))
	}
}

// inlet is what was read of a connection during its handshake and not yet used.
type inlet struct {
	conn net.Conn
	buf  []byte
}

// read reads at least one byte more.
func (in *inlet) read() error {
	if len(in.buf) == cap(in.buf) {
		in.buf = append(make([]byte, 0, 2*cap(in.buf)), in.buf...)
	}
	n, err := in.conn.Read(in.buf[len(in.buf):cap(in.buf)])
	in.buf = in.buf[:len(in.buf)+n]
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// authorize lets the mechanism ask whether the peer may come in, and watches the peer meanwhile:
// one that hangs up is not waited for, and one that sends what it may not send yet is refused, as
// in libzmq.
func (s *Socket) authorize(p *Peer, h *handshake, in *inlet, out []byte,
	deadline time.Time) ([]byte, Progress, error) {
	ctx, cancel := context.WithDeadline(p.owner.ctx, deadline)
	defer cancel()
	answered := make(chan struct{})
	var progress Progress
	var err error
	go func() {
		defer close(answered)
		out, progress, err = h.mechanism.(Authorizer).Authorize(ctx, out, p.Remote())
		in.conn.SetReadDeadline(time.Unix(1, 0)) // ends the reading below
	}()
	rerr := h.early(in.buf)
	for rerr == nil {
		if rerr = in.read(); rerr == nil {
			rerr = h.early(in.buf)
		}
	}
	select {
	case <-answered:
		if errors.Is(rerr, os.ErrDeadlineExceeded) {
			rerr = nil
		}
	default:
		cancel()
		<-answered
	}
	switch {
	case rerr != nil && !errors.Is(rerr, os.ErrDeadlineExceeded):
		return out[:0], Continue, ioError("handshake", rerr)
	case err == nil && !time.Now().Before(deadline):
		return out[:0], Continue, ioError("handshake", os.ErrDeadlineExceeded)
	case err != nil:
		return out, Continue, err
	}
	if progress == Ready {
		if err = checkMetadata(h.local, h.mechanism.Metadata()); err != nil {
			return out[:0], Continue, err
		}
	}
	// The end of the owner may have come in between; then the next read fails.
	return out, progress, errors.Join(err, in.conn.SetReadDeadline(deadline))
}
