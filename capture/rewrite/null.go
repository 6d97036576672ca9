// Package rewrite writes what is in a capture as another capture: sessions as if they had not been
// encrypted, for tools that cannot decrypt, or the packets of some sessions as they are.
package rewrite

import (
	"encoding/binary"
	"io"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"zmtpd/capture"
	"zmtpd/zmtp/wire"
)

// maxSegment bounds the payload of a packet in bytes.
const maxSegment = 32 << 10

// Null writes sessions as TCP connections with the NULL mechanism. The times are those of the
// events, and the endpoints are those of the sessions. What could not be decoded is left out.
type Null struct {
	w        *pcapgo.NgWriter
	sessions map[uint64]*stream
	buf      []byte
	packet   []byte
}

// stream is a connection that is written.
type stream struct {
	next    [2]uint32 // sequence numbers of client and server
	greeted [2]bool
}

// NewNull returns a Null that writes pcapng to w.
func NewNull(w io.Writer) (*Null, error) {
	// Packets begin with IP.
	ng, err := pcapgo.NewNgWriter(w, layers.LinkTypeRaw)
	if err != nil {
		return nil, err
	}
	return &Null{w: ng, sessions: map[uint64]*stream{}}, nil
}

// Flush writes what is buffered.
func (n *Null) Flush() error { return n.w.Flush() }

// Write takes an event. Those of a session have to come from its first one on.
func (n *Null) Write(ev *capture.Event) error {
	s := n.sessions[ev.Session.ID]
	if s == nil {
		s = &stream{}
		n.sessions[ev.Session.ID] = s
		for _, f := range []struct {
			side  capture.Side
			flags byte
		}{
			{capture.Client, flagSYN},
			{capture.Server, flagSYN | flagACK},
			{capture.Client, flagACK},
		} {
			if err := n.segment(s, ev, f.side, f.flags, nil); err != nil {
				return err
			}
		}
	}
	b := n.buf[:0]
	switch ev.Kind {
	case capture.Metadata:
		b = n.greet(s, ev.From, b)
		b = wire.AppendCommand(b, wire.CmdReady, wire.AppendMetadata(nil, ev.Metadata))
	case capture.Message:
		b = n.ready(s, ev, b)
		b = append(b, ev.Message.Wire()...)
	case capture.Command:
		switch ev.Name {
		case "HELLO", "WELCOME", "INITIATE", wire.CmdReady:
			return nil // of another mechanism
		case capture.CmdClose:
			return nil // of WebSocket
		case wire.CmdError:
			b = n.greet(s, ev.From, b)
		default:
			b = n.ready(s, ev, b)
		}
		b = wire.AppendCommand(b, ev.Name, ev.Data)
	case capture.Closed:
		delete(n.sessions, ev.Session.ID)
		for _, side := range []capture.Side{capture.Client, capture.Server} {
			if err := n.segment(s, ev, side, flagFIN|flagACK, nil); err != nil {
				return err
			}
		}
		return nil
	default:
		return nil
	}
	n.buf = b
	for len(b) > 0 {
		part := b[:min(len(b), maxSegment)]
		if err := n.segment(s, ev, ev.From, flagACK|flagPSH, part); err != nil {
			return err
		}
		b = b[len(part):]
	}
	return nil
}

// greet appends the greeting of a side.
func (n *Null) greet(s *stream, side capture.Side, b []byte) []byte {
	if s.greeted[side-1] {
		return b
	}
	s.greeted[side-1] = true
	return wire.AppendGreeting(b, "NULL", false)
}

// ready appends greeting and READY of a side whose handshake is not in the capture.
func (n *Null) ready(s *stream, ev *capture.Event, b []byte) []byte {
	if s.greeted[ev.From-1] {
		return b
	}
	return wire.AppendCommand(n.greet(s, ev.From, b), wire.CmdReady,
		wire.AppendProperty(nil, wire.PropSocketType, []byte(ev.Session.Peer(ev.From).Type)))
}

// Flags of a TCP header (RFC 9293).
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
)

// segment writes a packet with a segment.
func (n *Null) segment(s *stream, ev *capture.Event, side capture.Side, flags byte,
	payload []byte) error {
	from, to, i := ev.Session.Client, ev.Session.Server, int(side-1)
	if side == capture.Server {
		from, to = to, from
	}
	b := appendIP(n.packet[:0], from.Addr(), to.Addr(), 20+len(payload))
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint32(b, s.next[i])
	b = binary.BigEndian.AppendUint32(b, s.next[1-i])
	b = append(b, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	b = append(b, payload...)
	sum := checksum(pseudoSum(from.Addr(), to.Addr(), len(b)-at), b[at:])
	binary.BigEndian.PutUint16(b[at+16:], sum)
	n.packet = b
	s.next[i] += uint32(len(payload))
	if flags&(flagSYN|flagFIN) != 0 {
		s.next[i]++
	}
	return n.w.WritePacket(gopacket.CaptureInfo{Timestamp: ev.Time, CaptureLength: len(b),
		Length: len(b)}, b)
}

// appendIP appends an IP header for a TCP segment of size bytes.
func appendIP(b []byte, from, to netip.Addr, size int) []byte {
	const hops, tcp = 64, 6
	if from.Is4() {
		at := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+size))
		b = append(b, 0, 0, 0x40, 0, hops, tcp, 0, 0)
		b = append(append(b, from.AsSlice()...), to.AsSlice()...)
		binary.BigEndian.PutUint16(b[at+10:], checksum(0, b[at:]))
		return b
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = append(b, tcp, hops)
	return append(append(b, from.AsSlice()...), to.AsSlice()...)
}

func pseudoSum(from, to netip.Addr, size int) uint32 {
	sum := uint32(size) + 6
	for _, a := range [][]byte{from.AsSlice(), to.AsSlice()} {
		for i := 0; i < len(a); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(a[i:]))
		}
	}
	return sum
}

// checksum returns the Internet checksum (RFC 1071).
func checksum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
