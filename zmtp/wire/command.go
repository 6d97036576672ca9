package wire

import "encoding/binary"

// Names of the commands (RFC 37, RFC 26).
const (
	CmdReady     = "READY"
	CmdError     = "ERROR"
	CmdSubscribe = "SUBSCRIBE"
	CmdCancel    = "CANCEL"
	CmdPing      = "PING"
	CmdPong      = "PONG"
)

// MaxPingContext is the number of bytes of a PING's context that a PONG repeats (RFC 37).
const MaxPingContext = 16

// MaxPingTTL is the largest TTL that libzmq can take, in tenths of a second: it multiplies the TTL
// by 100 in 16 bits (stream_engine_base.cpp).
const MaxPingTTL = 655

// ParseCommand splits the body of a command frame into name and data, which refer to body. The name
// may be empty.
func ParseCommand(body []byte) (name, data []byte, err error) {
	if len(body) == 0 {
		return nil, nil, Errorf(MalformedCommand, "empty command frame")
	}
	n := int(body[0])
	if n > len(body)-1 {
		return nil, nil, Errorf(MalformedCommand, "command name of %d bytes in a body of %d bytes",
			n, len(body))
	}
	return body[1 : 1+n], body[1+n:], nil
}

// AppendCommand appends a whole command frame.
func AppendCommand(dst []byte, name string, data []byte) []byte {
	dst = AppendHeader(dst, Command, 1+len(name)+len(data))
	dst = append(dst, byte(len(name)))
	dst = append(dst, name...)
	return append(dst, data...)
}

// AppendSubscription appends a subscription or its cancellation in the form of the peer's version:
// a command for 3.1, a message whose first byte is 1 or 0 for 3.0.
func AppendSubscription(dst []byte, v30, subscribe bool, topic []byte) []byte {
	if v30 {
		dst = AppendHeader(dst, 0, 1+len(topic))
		if subscribe {
			dst = append(dst, 1)
		} else {
			dst = append(dst, 0)
		}
		return append(dst, topic...)
	}
	if subscribe {
		return AppendCommand(dst, CmdSubscribe, topic)
	}
	return AppendCommand(dst, CmdCancel, topic)
}

// Subscription reports whether a command of this name is a SUBSCRIBE, for which on is true, or a
// CANCEL. The data of both is the topic. Peers of ZMTP 3.0 send messages instead.
func Subscription(name []byte) (on, ok bool) {
	switch string(name) {
	case CmdSubscribe:
		return true, true
	case CmdCancel:
		return false, true
	}
	return false, false
}

// AppendPing appends a PING. The TTL is in tenths of a second and cut to MaxPingTTL.
func AppendPing(dst []byte, ttl int) []byte {
	var data [2]byte
	binary.BigEndian.PutUint16(data[:], uint16(min(max(ttl, 0), MaxPingTTL)))
	return AppendCommand(dst, CmdPing, data[:])
}

// ParsePing splits the data of a PING into the TTL in tenths of a second, 0 for none, and the
// context, which refers to data.
func ParsePing(data []byte) (ttl int, context []byte, err error) {
	if len(data) < 2 {
		return 0, nil, Errorf(MalformedPing, "PING with %d bytes of TTL, want 2", len(data))
	}
	return int(binary.BigEndian.Uint16(data)), data[2:], nil
}

// AppendPong appends the PONG to a PING with that context, which is cut to MaxPingContext as in
// libzmq.
func AppendPong(dst []byte, context []byte) []byte {
	return AppendCommand(dst, CmdPong, context[:min(len(context), MaxPingContext)])
}

// AppendError appends an ERROR command. The reason is cut to 255 bytes.
func AppendError(dst []byte, reason string) []byte {
	reason = reason[:min(len(reason), 255)]
	data := append(make([]byte, 0, 1+len(reason)), byte(len(reason)))
	return AppendCommand(dst, CmdError, append(data, reason...))
}

// ParseError returns the reason in the data of an ERROR command. Like libzmq it ignores bytes
// behind it.
func ParseError(data []byte) (string, error) {
	if len(data) == 0 || int(data[0]) > len(data)-1 {
		return "", Errorf(MalformedError, "ERROR whose reason overruns it")
	}
	return string(data[1 : 1+int(data[0])]), nil
}

// ErrorFromCommand turns the data of an ERROR command that ended a handshake into an error, a
// [*Error] in any case.
func ErrorFromCommand(data []byte) error {
	reason, err := ParseError(data)
	if err != nil {
		return err
	}
	e := Errorf(PeerError, "the peer answered ERROR %q", reason)
	switch reason {
	case "300", "400", "500":
		e.Status = int(reason[0]-'0') * 100
	}
	return e
}
