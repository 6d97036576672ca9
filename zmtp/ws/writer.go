package ws

import (
	"io"
	"math/rand/v2"
	"sync"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/ws/frame"
)

// maxHeartbeat is the size of the longest PING or PONG.
const maxHeartbeat = 1 + len(wire.CmdPing) + 2 + wire.MaxPingContext

// writer turns frames of ZMTP into WebSocket frames, each of which it writes whole.
type writer struct {
	out   io.Writer
	mask  bool // this side is the client
	bare  bool // READY becomes the routing id
	pings *pings

	head  []byte // the header of a frame, as far as it has come
	held  []byte // a command that may have to be changed, with its header
	body  int64  // what is left of the body of a frame
	keep  bool   // the body goes to held
	at    int64  // how much of the payload was written
	key   frame.MaskKey
	buf   []byte
	marks []mark // where frames end that are whole in buf
}

// mark says that the first out bytes of the output are the first in bytes of the input.
type mark struct{ in, out int }

// Write implements io.Writer. The number of bytes that it returns with an error counts whole frames
// only.
func (w *writer) Write(b []byte) (n int, err error) {
	w.buf, w.marks = w.buf[:0], w.marks[:0]
	for rest := b; len(rest) > 0; {
		m, err := w.translate(rest)
		if err != nil {
			return 0, err
		}
		rest = rest[m:]
		if w.between() {
			w.marks = append(w.marks, mark{len(b) - len(rest), len(w.buf)})
		}
	}
	written, err := w.out.Write(w.buf)
	if err == nil {
		return len(b), nil
	}
	for _, m := range w.marks {
		if m.out <= written {
			n = m.in
		}
	}
	return n, err
}

// between reports whether the output ends with a whole frame.
func (w *writer) between() bool { return w.body == 0 && len(w.head) == 0 }

// translate appends the WebSocket form of a piece at the front of b to w.buf, and returns how long
// the piece is.
func (w *writer) translate(b []byte) (int, error) {
	if w.body > 0 {
		n := int(min(int64(len(b)), w.body))
		w.body -= int64(n)
		if w.keep {
			w.held = append(w.held, b[:n]...)
			if w.body == 0 {
				w.command()
			}
			return n, nil
		}
		w.put(b[:n])
		return n, nil
	}
	before := len(w.head)
	w.head = append(w.head, b[:min(len(b), wire.MaxHeaderSize-before)]...)
	flags, size, n, err := wire.ParseHeader(w.head)
	if err != nil || n == 0 {
		return len(b), err // of the own write loop, so all that there is belongs to the header
	}
	w.body = size
	w.keep = flags&wire.Command != 0 && (w.bare || size <= int64(maxHeartbeat))
	if w.keep {
		w.held = append(w.held[:0], w.head[:n]...)
	} else {
		w.begin(flags, int(size))
	}
	w.head = w.head[:0]
	if w.keep && size == 0 {
		w.command()
	}
	return n - before, nil
}

// command appends the command in w.held: a heartbeat as a control frame, a READY that the peer does
// not expect as the routing id in it, all others as they are.
func (w *writer) command() {
	flags, size, n, _ := wire.ParseHeader(w.held)
	body := w.held[n:]
	w.keep = false
	name, data, _ := wire.ParseCommand(body)
	switch string(name) {
	case wire.CmdPing:
		w.control(frame.Ping, nil)
	case wire.CmdPong:
		w.control(frame.Pong, w.pings.payload())
	case wire.CmdReady:
		if w.bare {
			w.bare = false
			m, _ := wire.ParseMetadata(data)
			id, _ := m.Get(wire.PropIdentity)
			w.begin(0, len(id))
			w.put(id)
			return
		}
		fallthrough
	default:
		w.begin(flags, int(size))
		w.put(body)
	}
}

// begin appends what precedes the body of a binary frame.
func (w *writer) begin(flags wire.Flags, size int) {
	var f byte
	if flags&wire.More != 0 {
		f |= frame.More
	}
	if flags&wire.Command != 0 {
		f |= frame.Command
	}
	w.header(frame.Binary, 1+size)
	w.put([]byte{f})
}

// control appends a control frame.
func (w *writer) control(op frame.Opcode, payload []byte) {
	w.header(op, len(payload))
	w.put(payload)
}

// header appends the header of a frame, with a new key if this side masks.
func (w *writer) header(op frame.Opcode, size int) {
	w.at = 0
	if !w.mask {
		w.buf = frame.AppendHeader(w.buf, op, size, nil)
		return
	}
	k := rand.Uint32()
	w.key = frame.MaskKey{byte(k), byte(k >> 8), byte(k >> 16), byte(k >> 24)}
	w.buf = frame.AppendHeader(w.buf, op, size, &w.key)
}

// put appends a piece of a payload.
func (w *writer) put(b []byte) {
	w.buf = append(w.buf, b...)
	if w.mask {
		w.key.Apply(w.at, w.buf[len(w.buf)-len(b):])
	}
	w.at += int64(len(b))
}

// pings has the payload of the last ping, which a pong repeats. A pong may answer only the last of
// several pings (RFC 6455, section 5.5.3).
type pings struct {
	mu   sync.Mutex
	last []byte
}

func (p *pings) got(payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = append(p.last[:0], payload...)
}

func (p *pings) payload() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]byte(nil), p.last...)
}
