package ws

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"zmtpd/zmtp/wire"
)

// reader turns the WebSocket frames that come into frames of ZMTP.
type reader struct {
	in     *bufio.Reader
	masked bool // the peer is a client
	bare   bool // the peer's first frame is its routing id, in the place of READY
	pings  *pings

	ahead  []byte // of ZMTP, to be read before anything else
	memory [maxHeader + maxControl]byte
	body   int64 // what is left of the payload of a binary frame
	at     int64 // how much of the payload has been read
	key    maskKey
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
		r.key.apply(r.at, b)
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
		b, _ := r.in.Peek(min(r.in.Buffered(), maxHeader+maxControl))
		h, n, err := parseHeader(b, r.masked)
		if err != nil {
			return err
		}
		if n == 0 {
			need = len(b) + 1
			continue
		}
		whole := n + 1 // the flags
		if h.op != opBinary {
			whole = n + int(h.size)
		}
		if len(b) < whole {
			need = whole
			continue
		}
		payload := append(r.memory[:0], b[n:whole]...)
		r.in.Discard(whole)
		if r.masked {
			h.key.apply(0, payload)
		}
		if h.op == opBinary {
			return r.begin(h, payload[0])
		}
		return r.control(h.op, payload)
	}
}

// begin begins a binary frame.
func (r *reader) begin(h header, flags byte) error {
	if flags&^(flagMore|flagCommand) != 0 {
		return malformed("reserved bits in the flags %#02x of a frame", flags)
	}
	r.key, r.at, r.body = h.key, 1, h.size-1
	if r.bare {
		return r.routingID(flags)
	}
	var f wire.Flags
	if flags&flagMore != 0 {
		f |= wire.More
	}
	if flags&flagCommand != 0 {
		f |= wire.Command
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
		return malformed("no routing id of at most %d bytes as its first frame", maxRoutingID)
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
func (r *reader) control(op opcode, payload []byte) error {
	switch op {
	case opPing:
		r.pings.got(payload)
		r.ahead = wire.AppendPing(r.memory[:0], 0)
	case opPong:
		r.ahead = wire.AppendPong(r.memory[:0], nil)
	case opClose:
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
