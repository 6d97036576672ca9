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

// handshake runs the handshake of p and returns the bytes that were read behind it. It ends early
// when the owner of p ends. But a peer that was sent something behind the greeting may consider the
// handshake complete, and may have sent messages: then it has answerTime.
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

// exchange runs the handshake within its time limit. It sets committed before it sends something
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
	var traits SessionTraits
	if session, ok := conn.(Session); ok {
		if traits, err = openSession(p.owner.ctx, session, m.Name(), deadline); err != nil {
			return nil, ioError("handshake", err)
		}
		h.skipGreeting(traits)
		written = wire.GreetingSize // whatever is sent is sent behind it
	}
	out := h.start(nil)
	for {
		var used int
		var progress Progress
		out, used, progress, err = h.feed(out, in.buf)
		in.buf = in.buf[:copy(in.buf, in.buf[used:])]
		if err == nil && progress == ProgressNeedsAuth {
			// The authenticator may take a while; the peer gets the rest of the greeting now.
			if _, err := conn.Write(out); err != nil {
				return nil, ioError("handshake", err)
			}
			out, progress, err = s.authorize(p, h, in, out[:0], deadline)
			if err == nil && progress == ProgressContinue {
				continue // with the bytes that were read meanwhile
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
		if progress == ProgressReady {
			p.greeting, p.metadata = h.peer, m.Metadata()
			p.sealer, p.opener = m.Traffic()
			if traits.OpenHeartbeats && p.sealer != nil {
				p.sealer, p.opener = openSealer{p.sealer}, openOpener{p.opener}
			}
			return in.buf, nil
		}
		if err := in.read(); err != nil {
			return nil, ioError("handshake", err)
		}
	}
}

// openSession is Session.Open with a deadline.
func openSession(ctx context.Context, s Session, mechanism string,
	deadline time.Time) (SessionTraits, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	traits, err := s.Open(ctx, mechanism)
	if errors.Is(err, context.DeadlineExceeded) {
		err = os.ErrDeadlineExceeded
	}
	return traits, err
}

// lingerClose gives the peer time to read the ERROR that it was sent: to close a connection with
// unread input is to reset it, which discards what is under way to the peer.
func lingerClose(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		conn.SetReadDeadline(time.Now().Add(lastLook))
		io.Copy(io.Discard, io.LimitReader(conn, maxHandshakeFrame))
	}
}

// inlet is the input of a handshake: buf has been read and not yet used.
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
		return nil // the next read returns the error again
	}
	return err
}

// authorize runs Authorizer.Authorize and reads from the peer meanwhile. When the peer closes the
// connection, it cancels the request; when the peer sends something that it must not send yet, it
// refuses the peer, as libzmq does.
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
		return out[:0], ProgressContinue, ioError("handshake", rerr)
	case err == nil && !time.Now().Before(deadline):
		return out[:0], ProgressContinue, ioError("handshake", os.ErrDeadlineExceeded)
	case err != nil:
		return out, ProgressContinue, err
	}
	if progress == ProgressReady {
		if err = checkMetadata(h.local, h.mechanism.Metadata()); err != nil {
			return out[:0], ProgressContinue, err
		}
	}
	// If the owner has ended meanwhile, the next read fails.
	return out, progress, errors.Join(err, in.conn.SetReadDeadline(deadline))
}
