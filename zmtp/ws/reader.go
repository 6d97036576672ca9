package ws

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/ws/frame"
)

// reader turns the WebSocket frames that come into frames of ZMTP.
type reader struct {
	in     *bufio.Reader
	masked bool // the peer is a client
	bare   bool // the peer's first frame is its routing id, in the place of READY
	pings  *pings

	ahead  []byte // of ZMTP, to be read before anything else
	memory [frame.MaxHeader + frame.MaxControl]byte
	body   int64 // what is left of the payload of a binary frame
	at     int64 // how much of the payload has been read
	key    frame.MaskKey
	err    error
}

// Read implements io.Reader. It returns what has arrived, and waits only if that is nothing.
func (r *reader) Read(b []byte) (n int, err error) {
	for n < len(b) {
		switch {
		case len(r.ahead) > 0:
			m := copy(b[n:], r.ahead)
			r.ahead = r.ahead[m:]
			n += m
			continue
		case r.err != nil:
			return n, r.err
		case n > 0 && r.in.Buffered() == 0:
			return n, nil
		}
		if r.body == 0 {
			err = r.next(n > 0)
			if err == nil && len(r.ahead) == 0 {
				return n, nil // only a piece of a header has arrived
			}
		} else {
			var m int
			m, err = r.in.Read(b[n:min(int64(len(b)), int64(n)+r.body)])
			r.take(b[n : n+m])
			n += m
		}
		if err != nil {
			return n, r.ended(err)
		}
	}
	return n, nil
}

// take unmasks b, the next piece of the payload.
func (r *reader) take(b []byte) {
	if r.masked {
		r.key.Apply(r.at, b)
	}
	r.at += int64(len(b))
	r.body -= int64(len(b))
}

// ended keeps an error that is final. A timeout is not.
func (r *reader) ended(err error) error {
	if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
		return err
	}
	if err == io.EOF && (r.body > 0 || r.in.Buffered() > 0) {
		err = io.ErrUnexpectedEOF
	}
	r.err = err
	return err
}

// next parses the next frame up to its body. With poll it does nothing if that has not arrived.
func (r *reader) next(poll bool) error {
	need := 2
	for {
		if poll && r.in.Buffered() < need {
			return nil
		}
		if _, err := r.in.Peek(need); err != nil {
			return err
		}
		b, _ := r.in.Peek(min(r.in.Buffered(), frame.MaxHeader+frame.MaxControl))
		h, n, err := frame.ParseHeader(b, r.masked)
		if err != nil {
			return err
		}
		if n == 0 {
			need = len(b) + 1
			continue
		}
		whole := n + 1 // the flags
		if h.Op != frame.Binary {
			whole = n + int(h.Size)
		}
		if len(b) < whole {
			need = whole
			continue
		}
		payload := append(r.memory[:0], b[n:whole]...)
		r.in.Discard(whole)
		if r.masked {
			h.Key.Apply(0, payload)
		}
		if h.Op == frame.Binary {
			return r.begin(h, payload[0])
		}
		return r.control(h.Op, payload)
	}
}

// begin begins a binary frame.
func (r *reader) begin(h frame.Header, flags byte) error {
	f, err := frame.ParseFlags(flags)
	if err != nil {
		return err
	}
	r.key, r.at, r.body = h.Key, 1, h.Size-1
	if r.bare {
		return r.routingID(flags)
	}
	r.ahead = wire.AppendHeader(r.memory[:0], f, int(r.body))
	return nil
}

// maxRoutingID is the size of the longest routing id (RFC 37).
const maxRoutingID = 255

// routingID reads the frame that begins a connection without mechanism (RFC 45), and puts the READY
// of a peer of unknown type in its place.
func (r *reader) routingID(flags byte) error {
	if flags != 0 || r.body > maxRoutingID {
		return wire.Errorf(wire.MalformedFrame,
			"the first frame is no routing id of at most %d bytes", maxRoutingID)
	}
	id := make([]byte, r.body)
	if _, err := io.ReadFull(r.in, id); err != nil {
		return err
	}
	r.take(id)
	r.bare = false
	r.ahead = wire.AppendCommand(nil, wire.CmdReady,
		wire.AppendProperty(nil, wire.PropIdentity, id))
	return nil
}

// control acts on a control frame: heartbeats become those of ZMTP.
func (r *reader) control(op frame.Opcode, payload []byte) error {
	switch op {
	case frame.Ping:
		r.pings.got(payload)
		r.ahead = wire.AppendPing(r.memory[:0], 0)
	case frame.Pong:
		r.ahead = wire.AppendPong(r.memory[:0], nil)
	case frame.Close:
		return closed(payload)
	}
	return nil
}

// closed is the end that a close frame announces: io.EOF unless its code says that something was
// wrong.
func closed(payload []byte) error {
	if len(payload) < 2 {
		return io.EOF
	}
	switch code := binary.BigEndian.Uint16(payload); code {
	case closeNormal, closeGoingAway:
		return io.EOF
	default:
		return fmt.Errorf("the peer closed the WebSocket with code %d %q", code, payload[2:])
	}
}

// Codes of a close frame (RFC 6455, section 7.4.1).
const (
	closeNormal    = 1000
	closeGoingAway = 1001
)
