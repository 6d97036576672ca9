package zmtp

import (
	"context"
	"fmt"
	"maps"
	"net"

	"zmtpd/zmtp/wire"
)

// StreamOptions are the options of a Stream beside Config. The zero value is libzmq's default.
type StreamOptions struct {
	// Silent turns off the messages with which the application learns that a connection was made
	// or has ended (ZMQ_STREAM_NOTIFY off).
	Silent bool
}

// Stream talks to peers that do not speak ZMTP, over TCP or Unix sockets (ZMQ_STREAM). It receives
// messages of two parts: the id of the connection, of five bytes, and some bytes that came, at most
// 8192; an empty second part says that the connection was made, or has ended. What it sends has the
// same form: an empty second part closes the connection.
//
// Send waits while the queue of the connection is full, and returns ErrNoPeer for an id that no
// connection has. Config.Mechanism and the heartbeats have no effect.
type Stream struct {
	*Socket
	receiver
	sender
	opt    StreamOptions
	routes routes[string]
	ids    idMaker
}

// NewStream returns a Stream socket.
func NewStream(cfg Config, options ...StreamOptions) *Stream {
	opt := oneOption(options)
	s := &Stream{opt: opt, ids: newIDMaker()}
	cfg.Mechanism, cfg.HeartbeatInterval, cfg.RoutingID, cfg.Metadata = nil, 0, nil, nil
	all := maps.Clone(transports)
	maps.Copy(all, cfg.Transports)
	cfg.Transports = make(map[string]Transport)
	for scheme, t := range all {
		cfg.Transports[scheme] = rawTransport{t}
	}
	s.Socket = NewSocket(streamType, (*streamPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	s.sender = newSender(s.Socket, (*streamPattern)(s), twoParts)
	s.routes.socket = s.Socket
	return s
}

// streamType is not on the wire.
const streamType SocketType = "STREAM"

// errStream is returned for a message that is not an id and a body.
var errStream error = &sentinel{"zmtp: a STREAM sends messages of two parts, the id of a " +
	"connection and bytes", ErrMessage}

func twoParts(m Message) error {
	if m.NumParts() != 2 {
		return errStream
	}
	return nil
}

// Serve is Socket.Serve.
func (s *Stream) Serve(l net.Listener) (bound string, err error) {
	return s.serve(rawListener{l}, servedEndpoint(l))
}

type streamPattern Stream

func (s *streamPattern) Attach(p *Peer) error {
	r := &route[string]{id: s.ids.next(s.routes.has), outbox: p.outbox, peer: p}
	s.routes.add(r, false)
	p.Value = r
	p.inPipe.envelope = wire.AppendFrame(nil, wire.More, []byte(r.id))
	s.notify(p)
	return nil
}

// notify tells the application that a connection has been made or has ended.
func (s *streamPattern) notify(p *Peer) {
	if !s.opt.Silent {
		s.tell(p, probe)
	}
}

func (s *streamPattern) Receive(p *Peer, b *Batch) error {
	s.deliver(p, b)
	return nil
}

func (s *streamPattern) Detach(p *Peer, _ error) {
	r := p.Value.(*route[string])
	s.routes.remove(r)
	if !r.replaced.Load() { // the application has not closed it
		s.notify(p)
	}
}

// room implements distributor.
func (s *streamPattern) room() *gate { return &s.routes.opened }

// trySend implements distributor.
func (s *streamPattern) trySend(m Message) error {
	id, rest := m.CutPart()
	if rest.Size() == 0 {
		return s.hangUp(string(id))
	}
	_, err := s.routes.send(string(id), func(o *outbox) bool { return o.offerMessage(rest) })
	return err
}

// trySendBatch implements distributor.
func (s *streamPattern) trySendBatch(b *Batch, first int) (n int, err error) {
	for i := first; i < b.Len(); i++ {
		// A message may refer to the batch only while the caller holds it.
		m := b.Message(i)
		if err := s.trySend(NewMessage(m.Part(0), m.Part(1))); err != nil {
			return i - first, err
		}
	}
	return b.Len() - first, nil
}

// hangUp closes a connection once what waits for it is sent. The application gets no message about
// that end.
func (s *streamPattern) hangUp(id string) error {
	s.routes.mu.Lock()
	r := s.routes.byID[id]
	s.routes.mu.Unlock()
	if r == nil {
		return ErrNoPeer
	}
	r.replaced.Store(true)
	s.routes.remove(r)
	r.peer.finish()
	return nil
}

// rawTransport makes connections without ZMTP of those of another transport.
type rawTransport struct{ Transport }

// Listen implements Transport.
func (t rawTransport) Listen(ctx context.Context, address string, cfg *Config) (net.Listener,
	string, error) {
	l, bound, err := t.Transport.Listen(ctx, address, cfg)
	if err != nil {
		return nil, "", err
	}
	return rawListener{l}, bound, nil
}

// Dialer implements Transport.
func (t rawTransport) Dialer(address string, cfg *Config) (func(context.Context) (net.Conn, error),
	error) {
	dial, err := t.Transport.Dialer(address, cfg)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return newRawConn(conn), nil
	}, nil
}

type rawListener struct{ net.Listener }

// Accept implements net.Listener.
func (l rawListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newRawConn(conn), nil
}

// rawChunk is how many bytes one message of a Stream has at most (libzmq, in_batch_size).
const rawChunk = 8192

// rawConn makes a Session of a connection whose peer does not speak ZMTP: each read becomes a
// frame, and of frames that are written only the body goes out. It plays the READY of the peer, and
// drops that of this side. Read and Write are used by one goroutine each.
type rawConn struct {
	net.Conn
	chunk []byte // framed, not read yet
	buf   []byte

	header []byte // of the frame that is written, as far as it has come
	body   int64  // what is left of its body
	drop   bool   // the frame is a command
}

func newRawConn(conn net.Conn) *rawConn {
	return &rawConn{Conn: conn, chunk: wire.AppendCommand(nil, wire.CmdReady, nil),
		buf: make([]byte, wire.MaxHeaderSize+rawChunk)}
}

// Open implements Session.
func (*rawConn) Open(context.Context, string) (SessionTraits, error) {
	return SessionTraits{}, nil
}

// NetConn returns the connection below.
func (c *rawConn) NetConn() net.Conn { return c.Conn }

// CloseWrite closes this end.
func (c *rawConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("zmtp: %T cannot close its sending end alone", c.Conn)
}

// Read implements net.Conn.
func (c *rawConn) Read(b []byte) (n int, err error) {
	if len(c.chunk) == 0 {
		// The header goes before the body, whose size is known afterwards.
		body := c.buf[wire.MaxHeaderSize:]
		n, err = c.Conn.Read(body)
		if n == 0 {
			return 0, err
		}
		header := wire.AppendHeader(make([]byte, 0, wire.MaxHeaderSize), 0, n)
		start := wire.MaxHeaderSize - len(header)
		copy(c.buf[start:], header)
		c.chunk = c.buf[start : wire.MaxHeaderSize+n]
	}
	n = copy(b, c.chunk)
	c.chunk = c.chunk[n:]
	return n, nil // an error comes again
}

// Write implements net.Conn.
func (c *rawConn) Write(b []byte) (n int, err error) {
	for n < len(b) {
		if c.body == 0 {
			c.header = append(c.header, b[n])
			n++
			flags, size, header, err := wire.ParseHeader(c.header)
			if err != nil {
				return n, err
			}
			if header > 0 {
				c.body, c.drop = size, flags&wire.Command != 0
				c.header = c.header[:0]
			}
			continue
		}
		part := b[n:min(int64(len(b)), int64(n)+c.body)]
		m := len(part)
		if !c.drop {
			m, err = c.Conn.Write(part)
		}
		n += m
		c.body -= int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
