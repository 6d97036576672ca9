package capture

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// segment is a TCP segment.
type segment struct {
	src, dst           netip.AddrPort
	seq, ackSeq        uint32
	window             uint16
	syn, ack, fin, rst bool
	payload            []byte // as much as was captured
	missing            int    // bytes of the payload that were not captured
}

// IP protocols (iana.org/assignments/protocol-numbers).
const (
	protoHopByHop    = 0
	protoTCP         = 6
	protoRouting     = 43
	protoFragment    = 44
	protoAH          = 51
	protoDestination = 60
)

// errNotTCP is the only error of decode, so that packets of others cost nothing.
var errNotTCP = errors.New("no whole TCP header over IP")

// decode returns the segment in an IP packet. Its payload aliases b. Other protocols, fragments,
// and malformed or incomplete headers are errors.
func decode(b []byte) (segment, error) {
	if len(b) == 0 {
		return segment{}, errNotTCP
	}
	switch b[0] >> 4 {
	case 4:
		return decodeIPv4(b)
	case 6:
		return decodeIPv6(b)
	}
	return segment{}, errNotTCP
}

func decodeIPv4(b []byte) (segment, error) {
	if len(b) < 20 {
		return segment{}, errNotTCP
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		total = len(b) // segmentation was left to the device
	}
	// The third word has the flag "more fragments" and the offset.
	if head < 20 || head > len(b) || total < head || b[9] != protoTCP ||
		binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return segment{}, errNotTCP
	}
	return decodeTCP(b[head:min(total, len(b))], total-head,
		netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])))
}

func decodeIPv6(b []byte) (segment, error) {
	if len(b) < 40 {
		return segment{}, errNotTCP
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	size, next := int(binary.BigEndian.Uint16(b[4:])), b[6]
	b = b[40:]
	if size == 0 {
		size = len(b) // a jumbogram, or segmentation was left to the device
	}
	b = b[:min(size, len(b))]
	for next != protoTCP {
		if len(b) < 8 {
			return segment{}, errNotTCP
		}
		n := 8
		switch next {
		case protoHopByHop, protoRouting, protoDestination:
			n = (int(b[1]) + 1) * 8
		case protoAH:
			n = (int(b[1]) + 2) * 4
		case protoFragment:
			if binary.BigEndian.Uint16(b[2:])&0xfff9 != 0 {
				return segment{}, errNotTCP
			}
		default:
			return segment{}, errNotTCP
		}
		if n > len(b) {
			return segment{}, errNotTCP
		}
		next, b, size = b[0], b[n:], size-n
	}
	return decodeTCP(b, size, src, dst)
}

// decodeTCP decodes a segment that had size bytes, of which b was captured.
func decodeTCP(b []byte, size int, src, dst netip.Addr) (segment, error) {
	if len(b) < 20 {
		return segment{}, errNotTCP
	}
	head, flags := int(b[12]>>4)*4, b[13]
	if head < 20 || head > len(b) {
		return segment{}, errNotTCP
	}
	return segment{
		src:    netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)),
		dst:    netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])),
		seq:    binary.BigEndian.Uint32(b[4:]),
		ackSeq: binary.BigEndian.Uint32(b[8:]),
		window: binary.BigEndian.Uint16(b[14:]),
		fin:    flags&1 != 0, syn: flags&2 != 0, rst: flags&4 != 0, ack: flags&16 != 0,
		payload: b[head:],
		missing: size - len(b),
	}, nil
}
