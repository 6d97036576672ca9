package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// answer is what an endpoint reveals.
type answer struct {
	fault     string // in Faults, "" for none
	what      string
	mechanism string // "" if the peer sent no greeting
	socket    string // the type of the socket, "" if it is unknown
}

// counterparts are the socket types to say when probing: one of them fits each type of Zeek's.
var counterparts = []zmtp.SocketType{wire.SUB, wire.PUB, wire.PUSH}

// counterpart returns the type to say first for a socket of type want.
func counterpart(want string) zmtp.SocketType {
	for _, t := range counterparts {
		if t.Accepts(zmtp.SocketType(want)) {
			return t
		}
	}
	return wire.DEALER
}

// probe connects to an endpoint, and looks at the greeting and the handshake of what listens there.
// It sends no message. keys may be nil.
func (d *doctor) probe(ctx context.Context, endpoint, want string, keys *curve.Client) answer {
	first := counterpart(want)
	a := d.probeAs(ctx, endpoint, first, keys)
	// With CURVE a server shows its type only to a socket that fits.
	if a.fault == "keys-refused" && a.socket == "?" {
		for _, t := range counterparts {
			if t == first {
				continue
			}
			if b := d.probeAs(ctx, endpoint, t, keys); b.fault == "" {
				return b
			}
		}
	}
	if a.socket == "?" {
		a.socket = ""
	}
	return a
}

// probeAs is probe with a socket type for this side. The type of the answer is "?" if the peer
// refused the last step of the handshake, which it does for a wrong key and for a wrong type.
func (d *doctor) probeAs(ctx context.Context, endpoint string, local zmtp.SocketType,
	keys *curve.Client) answer {
	ctx, cancel := context.WithTimeout(ctx, d.in.Timeout)
	defer cancel()
	conn, err := d.dial(ctx, endpoint)
	if err != nil {
		return dialFault(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	p := &probing{conn: conn}
	return p.talk(local, keys)
}

// dial connects to a tcp or ipc endpoint.
func (d *doctor) dial(ctx context.Context, endpoint string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(endpoint, "ipc://"); ok {
		return d.in.Machine.Dial(ctx, "unix", path)
	}
	host, port, _ := splitTCP(endpoint)
	if host == "*" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	return d.in.Machine.Dial(ctx, "tcp", net.JoinHostPort(host, port))
}

// dialFault returns the fault of an endpoint that cannot be reached.
func dialFault(err error) answer {
	what := daemon.RootCause(err).Error()
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return answer{fault: "name-unresolved", what: e.Error()}
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return answer{fault: "nobody-listens", what: what}
	}
	return answer{fault: "no-answer", what: what}
}

// probing is one connection.
type probing struct {
	conn net.Conn
	buf  []byte // received and not yet consumed
}

// maxFrame bounds a frame of a handshake, in bytes.
const maxFrame = 64 << 10

// more reads until buf has n bytes.
func (p *probing) more(n int) error {
	for len(p.buf) < n {
		chunk := make([]byte, 4096)
		got, err := p.conn.Read(chunk)
		p.buf = append(p.buf, chunk[:got]...)
		if err != nil && len(p.buf) < n {
			return err
		}
	}
	return nil
}

// frame reads a frame and returns its body, which is valid until the next read.
func (p *probing) frame() ([]byte, error) {
	for {
		_, size, n, err := wire.ParseHeader(p.buf)
		switch {
		case err != nil:
			return nil, err
		case n == 0:
			if err := p.more(len(p.buf) + 1); err != nil {
				return nil, err
			}
		case size > maxFrame:
			return nil, fmt.Errorf("handshake frame of %d bytes", size)
		default:
			if err := p.more(n + int(size)); err != nil {
				return nil, err
			}
			body := p.buf[n : n+int(size)]
			p.buf = p.buf[n+int(size):]
			return body, nil
		}
	}
}

// talk shakes hands as far as it can.
func (p *probing) talk(local zmtp.SocketType, keys *curve.Client) answer {
	greeting, err := p.greet()
	if err != nil {
		return greetingFault(err)
	}
	a := answer{mechanism: greeting.Mechanism}
	metadata := wire.Metadata{{Name: wire.PropSocketType, Value: []byte(local)}}
	switch greeting.Mechanism {
	case "NULL":
		body, err := p.frame()
		if err != nil {
			// The greeting told enough; the peer may wait for us first.
			return a
		}
		name, data, err := wire.ParseCommand(body)
		if err != nil || string(name) != "READY" {
			return a
		}
		if m, err := wire.ParseMetadata(data); err == nil {
			a.socket = socketType(m)
		}
		if local.Accepts(zmtp.SocketType(a.socket)) {
			p.conn.Write(appendReady(nil, metadata))
		}
	case "CURVE":
		if keys != nil {
			p.curve(&a, keys.Mechanism(metadata))
		}
	}
	return a
}

// greet exchanges greetings. Our half names the mechanism of the peer, which it sends as soon as it
// has our version.
func (p *probing) greet() (wire.Greeting, error) {
	const version = wire.SignatureSize + 1
	if _, err := p.conn.Write(wire.AppendGreeting(nil, "NULL", false)[:version]); err != nil {
		return wire.Greeting{}, err
	}
	for {
		g, n, err := wire.ParseGreeting(p.buf)
		switch {
		case err != nil:
			return g, err
		case n > 0:
			p.buf = p.buf[n:]
			_, err = p.conn.Write(wire.AppendGreeting(nil, g.Mechanism, false)[version:])
			return g, err
		}
		if err := p.more(len(p.buf) + 1); err != nil {
			return g, err
		}
	}
}

func greetingFault(err error) answer {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return answer{fault: "not-zmtp", what: e.Detail}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return answer{fault: "not-zmtp", what: "what listens there sends no greeting"}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) {
		return answer{fault: "connection-refused-by-peer",
			what: "the connection was closed before the greeting"}
	}
	return answer{fault: "no-answer", what: err.Error()}
}

// socketType returns the type in metadata.
func socketType(m wire.Metadata) string {
	t, _ := m.Get(wire.PropSocketType)
	return string(t[:min(len(t), 20)])
}

func appendReady(dst []byte, m wire.Metadata) []byte {
	return wire.AppendCommand(dst, "READY", wire.AppendMetadata(nil, m))
}

// curve does the handshake of a CURVE client.
func (p *probing) curve(a *answer, m zmtp.Mechanism) {
	out, progress, err := m.Handshake(nil, nil)
	steps := 0
	for err == nil && progress == zmtp.ProgressContinue {
		if _, err = p.conn.Write(out); err != nil {
			break
		}
		var body []byte
		if body, err = p.frame(); err == nil {
			out, progress, err = m.Handshake(out[:0], body)
			steps++
		}
	}
	switch {
	case err == nil && progress == zmtp.ProgressReady:
		a.socket = socketType(m.Metadata())
	case steps == 0:
		a.fault, a.what = "keys-refused", "the server does not have the secret key to the public "+
			"key that Zeek's nodes know"
	default:
		a.fault, a.socket = "keys-refused", "?"
		a.what = "the server does not admit the client key of Zeek's nodes"
	}
}

// probeTimeout is the default of Input.Timeout.
const probeTimeout = 3 * time.Second
