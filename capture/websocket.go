package capture

import (
	"bufio"
	"bytes"
	"fmt"
	"net/textproto"
	"strings"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/ws/frame"
)

// ZMTP over WebSocket (RFC 45): behind an HTTP upgrade, which names the mechanism, each frame of
// ZMTP is one binary frame of WebSocket (RFC 6455) that begins with a byte of flags. It becomes a
// frame of ZMTP again, and dissect.go sees no difference. Like libzmq (ws_decoder.cpp), no
// direction may use fragments, text or extensions.

const (
	// maxUpgrade bounds an HTTP request or response in bytes.
	maxUpgrade = 16 << 10

	requestStart  = "GET "
	responseStart = "HTTP/1."
	// bareProtocol is the subprotocol without a mechanism. Behind a slash the others name it.
	bareProtocol = "ZWS2.0"
	// maxProtocol bounds a subprotocol in bytes. Names of mechanisms have up to 20 (RFC 37).
	maxProtocol = 64
)

// maxRoutingID is the size of the longest routing id in bytes (RFC 37).
const maxRoutingID = 255

// startsUpgrade reports whether a direction begins as an HTTP request or response does.
func startsUpgrade(b []byte) bool {
	for _, start := range [...]string{requestStart, responseStart} {
		if n := min(len(b), len(start)); n > 0 && string(b[:n]) == start[:n] {
			return true
		}
	}
	return false
}

// agreement is what an HTTP upgrade has led to.
type agreement struct {
	offer     string // the first subprotocol of RFC 45 in the request
	made      bool
	mechanism string
	bare      bool // instead of the handshake of a mechanism each side sends its routing id
}

// mechanismOf returns the mechanism that a subprotocol names.
func mechanismOf(protocol string) (mechanism string, bare, ok bool) {
	rest, ok := strings.CutPrefix(protocol, bareProtocol)
	if rest == "" {
		return mechanismNull, true, ok
	}
	mechanism, ok = strings.CutPrefix(rest, "/")
	return mechanism, false, ok
}

// webSocket is the state of a direction behind its upgrade.
type webSocket struct {
	masked bool
	bare   bool   // the routing id comes next
	part   []byte // a frame as far as it has come: header and flags, or all of it
	left   int64  // bytes of the current frame that are still to come
	key    frame.MaskKey
	at     int64 // of the next byte in the payload
	drop   bool  // the rest of the frame is not looked at
	lost   bool  // the boundaries of frames are not known

	begun bool   // frames begin with early
	early []byte // not yet taken apart
}

// arrived takes the next bytes of a direction, which it may change.
func (r *Reader) arrived(s *session, side int, run []byte) error {
	h := &s.half[side]
	if h.ws == nil || h.ws.lost {
		if err := r.dissect(s, side, run); err != nil || h.ws == nil || !h.ws.begun {
			return err
		}
		run = h.ws.early
		h.ws.begun, h.ws.early = false, nil
	}
	return r.frames(s, side, run)
}

// upgrade parses an HTTP request or response.
func (r *Reader) upgrade(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > maxUpgrade {
			err = r.fail(s, side, wire.Errorf(wire.NotZMTP, "an HTTP header of more than %d bytes",
				maxUpgrade))
		}
		return b, false, err
	}
	end += 4
	in := textproto.NewReader(bufio.NewReader(bytes.NewReader(b[:end])))
	first, _ := in.ReadLine()
	header, err := in.ReadMIMEHeader()
	if err != nil {
		return b, false, r.fail(s, side, wire.Errorf(wire.NotZMTP, "an HTTP header: %.100v", err))
	}
	var protocols []string
	for _, list := range header["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(list, ",") {
			protocols = append(protocols, strings.TrimSpace(p))
		}
	}
	if strings.HasPrefix(first, requestStart) {
		return r.request(s, side, b[end:], protocols)
	}
	return r.response(s, side, b[end:], first, protocols)
}

// request takes the request of a client, behind which rest follows.
func (r *Reader) request(s *session, side int, rest []byte, protocols []string) ([]byte, bool,
	error) {
	for _, p := range protocols {
		if _, _, ok := mechanismOf(p); ok && s.agreed.offer == "" && len(p) <= maxProtocol {
			s.agreed.offer = strings.Clone(p) // p refers to the whole header
		}
	}
	if s.agreed.offer == "" {
		return rest, false, r.fail(s, side, wire.Errorf(wire.NotZMTP,
			"an HTTP request that offers no subprotocol %s", bareProtocol))
	}
	s.half[side].stage = upgraded
	return rest, true, r.upgradeStep(s, side, protocols)
}

// response takes the response of a server, behind which rest follows.
func (r *Reader) response(s *session, side int, rest []byte, status string,
	protocols []string) ([]byte, bool, error) {
	_, code, _ := strings.Cut(status, " ")
	protocol := strings.Join(protocols, ",")
	mechanism, bare, ok := mechanismOf(protocol)
	if !strings.HasPrefix(code, "101") || !ok {
		return rest, false, r.fail(s, side, wire.Errorf(wire.NotZMTP,
			"the server answers %.100q, with the subprotocol %.50q", status, protocol))
	}
	if err := r.upgradeStep(s, side, protocols); err != nil {
		return rest, false, err
	}
	if err := r.agree(s, mechanism, bare); err != nil {
		return rest, false, err
	}
	if s.half[side].stage == dead {
		return rest, false, nil
	}
	r.beginFrames(s, side, rest)
	// The client may have sent frames that were captured before this.
	return nil, false, r.continueClient(s, 1-side)
}

func (r *Reader) upgradeStep(s *session, side int, protocols []string) error {
	if err := r.open(s); err != nil {
		return err
	}
	name := strings.Join(protocols, ",")
	return r.step(s, Event{Kind: Upgrade, From: s.side(side), Name: name[:min(len(name), 255)]})
}

// agree notes what the two sides have agreed on.
func (r *Reader) agree(s *session, mechanism string, bare bool) error {
	switch mechanism {
	case mechanismNull, mechanismPlain, mechanismCurve:
		s.agreed.made, s.agreed.mechanism, s.agreed.bare = true, strings.Clone(mechanism), bare
		return nil
	}
	return r.failBoth(s, fmt.Errorf("%w %.20q", ErrMechanism, mechanism))
}

// continueClient goes on with a side that has waited for the response.
func (r *Reader) continueClient(s *session, side int) error {
	h := &s.half[side]
	switch {
	case h.stage == upgraded:
		h.need = 0
		return r.arrived(s, side, nil)
	case h.stage == lost && h.ws == nil:
		r.lose(s, side) // it now knows what it has lost
	}
	return nil
}

// awaitResponse holds what a client sends before the response is there. Since clients wait for it,
// much of that shows that the response was not captured.
func (r *Reader) awaitResponse(s *session, side int, b []byte) (rest []byte, more bool, err error) {
	if !s.agreed.made && len(b) > maxUpgrade {
		err = r.assume(s)
	}
	if s.agreed.made {
		r.beginFrames(s, side, b)
		return nil, false, nil
	}
	return b, false, err
}

// assume takes the client's first offer for agreed on: servers take the first one that they know.
func (r *Reader) assume(s *session) error {
	mechanism, bare, _ := mechanismOf(s.agreed.offer)
	return r.agree(s, mechanism, bare)
}

func (r *Reader) newWebSocket(s *session, side int) *webSocket {
	return &webSocket{masked: s.side(side) == Client,
		part: make([]byte, 0, frame.MaxHeader+1+maxRoutingID)}
}

// beginFrames begins the frames of a direction with rest.
func (r *Reader) beginFrames(s *session, side int, rest []byte) {
	h := &s.half[side]
	h.ws, h.stage = r.newWebSocket(s, side), handshake
	h.greeting = wire.Greeting{Major: 3, Minor: 1, Mechanism: s.agreed.mechanism}
	h.ws.bare, h.ws.begun, h.ws.early = s.agreed.bare, true, bytes.Clone(rest)
}

// frames takes WebSocket frames apart.
func (r *Reader) frames(s *session, side int, b []byte) error {
	h := &s.half[side]
	for len(b) > 0 && h.stage != dead {
		w := h.ws
		if w.left > 0 {
			piece := b[:min(w.left, int64(len(b)))]
			b = b[len(piece):]
			w.left -= int64(len(piece))
			w.unmask(piece)
			if w.drop {
				continue
			}
			if err := r.dissect(s, side, piece); err != nil {
				return err
			}
			continue
		}
		before := len(w.part)
		w.part = append(w.part, b[:min(len(b), cap(w.part)-before)]...)
		f, n, err := frame.ParseHeader(w.part, w.masked)
		if err != nil {
			return r.fail(s, side, err)
		}
		whole := n + 1 // with the flags
		if f.Op != frame.Binary || w.bare && f.Size <= maxRoutingID+1 {
			whole = n + int(f.Size)
		}
		if n == 0 || len(w.part) < whole {
			return nil
		}
		b = b[whole-before:]
		payload := w.part[n:whole]
		w.key, w.at, w.drop, w.part = f.Key, 0, false, w.part[:0]
		w.unmask(payload)
		if f.Op == frame.Binary {
			err = r.binaryFrame(s, side, f.Size, payload)
		} else {
			err = r.controlFrame(s, side, f.Op, payload)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// binaryFrame begins a frame of ZMTP. payload begins with its flags.
func (r *Reader) binaryFrame(s *session, side int, size int64, payload []byte) error {
	w := s.half[side].ws
	flags, err := frame.ParseFlags(payload[0])
	if err != nil {
		return r.fail(s, side, err)
	}
	if w.bare {
		if flags != 0 || int64(len(payload)) < size {
			return r.fail(s, side, wire.Errorf(wire.MalformedReady,
				"the first frame is no routing id: flags %#02x, %d bytes", payload[0], size))
		}
		w.bare = false
		return r.dissect(s, side, wire.AppendCommand(nil, wire.CmdReady,
			wire.AppendProperty(nil, wire.PropIdentity, payload[1:])))
	}
	w.left = size - 1
	return r.dissect(s, side, wire.AppendHeader(r.header[:0], flags, int(size-1)))
}

// controlFrame takes a heartbeat, or the announcement that the sender will close.
func (r *Reader) controlFrame(s *session, side int, op frame.Opcode, payload []byte) error {
	switch op {
	case frame.Ping:
		return r.command(s, side, []byte(wire.CmdPing), append([]byte{0, 0}, payload...))
	case frame.Pong:
		return r.command(s, side, []byte(wire.CmdPong), payload)
	}
	return r.command(s, side, []byte(CmdClose), payload)
}

// unmask takes the next bytes of a payload.
func (w *webSocket) unmask(b []byte) {
	if w.masked {
		w.key.Apply(w.at, b)
	}
	w.at += int64(len(b))
}

// jump takes bytes that are missing. It returns false if they may contain a boundary.
func (w *webSocket) jump(missing int64) bool {
	if w.lost || len(w.part) > 0 || missing > w.left {
		w.lost, w.part, w.left = true, w.part[:0], 0
		return false
	}
	w.left -= missing
	w.at += missing
	return true
}

// loseFrames takes the loss of boundaries in a direction that is over WebSocket. It returns true if
// those of WebSocket are known: then it goes on with the next frame.
func (r *Reader) loseFrames(s *session, side int) bool {
	h := &s.half[side]
	switch {
	case h.ws != nil:
	case s.agreed.made:
		h.ws = r.newWebSocket(s, side)
		h.ws.lost = true
		h.greeting = wire.Greeting{Major: 3, Minor: 1, Mechanism: s.agreed.mechanism}
	default:
		return false
	}
	if h.ws.lost {
		return false
	}
	h.ws.drop = true
	r.free(h)
	r.loseMessage(h)
	h.stage, h.inside, h.rest = skipping, h.greeting.Mechanism != mechanismCurve, 0
	return true
}

// frameEndWebSocket is frameEnd for a direction over WebSocket.
func (q question) frameEndWebSocket(b []byte, i int) int {
	f, n, err := frame.ParseHeader(b[i:], q.masked)
	switch {
	case err != nil || f.Op == frame.Binary && f.Size > q.limit+1:
		return -1
	case n == 0:
		return len(b) + 1
	case f.Op == frame.Binary && i+n < len(b) && b[i+n]^f.Key[0] > frame.Command:
		return -1
	case n > frame.HeaderSize(f.Size, q.masked):
		return -1
	}
	return int(min(int64(i+n)+f.Size, int64(len(b))+1))
}
