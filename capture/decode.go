package capture

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// segment is a TCP segment.
type segment struct {
	src, dst           netip.AddrPort
	seq                uint32
	syn, ack, fin, rst bool
	payload            []byte // as much as was captured
	missing            int    // bytes of the payload that were not captured
}

// decoder decodes IP packets. It is reused because gopacket's layers are large.
type decoder struct {
	ip4 layers.IPv4
	ip6 layers.IPv6
	tcp layers.TCP
}

var errNotTCP = errors.New("no TCP over IP")

// decode returns the segment in an IP packet. Its payload aliases b. Other protocols, fragments,
// and malformed or incomplete headers are errors.
func (d *decoder) decode(b []byte) (s segment, err error) {
	// gopacket's decoders may panic on malformed headers.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed packet: %v", p)
		}
	}()
	if len(b) == 0 {
		return s, errNotTCP
	}
	var src, dst []byte
	var body []byte
	var size int // of the TCP segment with its header, as IP says
	switch b[0] >> 4 {
	case 4:
		if err := d.ip4.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			return s, err
		}
		if d.ip4.Protocol != layers.IPProtocolTCP || d.ip4.Flags&layers.IPv4MoreFragments != 0 ||
			d.ip4.FragOffset != 0 {
			return s, errNotTCP
		}
		src, dst, body = d.ip4.SrcIP, d.ip4.DstIP, d.ip4.Payload
		size = int(d.ip4.Length) - 4*int(d.ip4.IHL)
	case 6:
		if err := d.ip6.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			return s, err
		}
		if d.ip6.NextHeader != layers.IPProtocolTCP {
			return s, errNotTCP
		}
		src, dst, body = d.ip6.SrcIP, d.ip6.DstIP, d.ip6.Payload
		size = int(d.ip6.Length)
	default:
		return s, errNotTCP
	}
	if err := d.tcp.DecodeFromBytes(body, gopacket.NilDecodeFeedback); err != nil {
		return s, err
	}
	from, _ := netip.AddrFromSlice(src)
	to, _ := netip.AddrFromSlice(dst)
	return segment{
		src: netip.AddrPortFrom(from, uint16(d.tcp.SrcPort)),
		dst: netip.AddrPortFrom(to, uint16(d.tcp.DstPort)),
		seq: d.tcp.Seq, syn: d.tcp.SYN, ack: d.tcp.ACK, fin: d.tcp.FIN, rst: d.tcp.RST,
		payload: d.tcp.Payload,
		missing: max(0, size-len(body)),
	}, nil
}
