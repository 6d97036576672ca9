package capture

import (
	"encoding/binary"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Link types that are decoded here, since they are frequent or gopacket lacks them
// (tcpdump.org/linktypes.html). gopacket decodes the others.
const (
	linkNull     = 0
	linkEthernet = 1
	linkRawBSD   = 12
	linkRawOpen  = 14
	linkRaw      = 101
	linkLoop     = 108
	linkSLL      = 113
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276
)

const (
	etherIPv4     = 0x0800
	etherIPv6     = 0x86dd
	etherVLAN     = 0x8100
	etherQinQ     = 0x88a8
	etherQinQ1    = 0x9100
	etherMPLS     = 0x8847
	etherPPPoE    = 0x8864
	headerEther   = 14
	offsetTypeSLL = 14
)

// cutLink cuts the link header off a packet. It returns nil unless an IP packet follows; the first
// four bits of that are its version.
func cutLink(link uint16, b []byte) []byte {
	switch link {
	case linkRaw, linkRawBSD, linkRawOpen, linkIPv4, linkIPv6:
		return b
	case linkNull, linkLoop:
		// The address family, with the numbers and the byte order of the capturing machine.
		return after(b, 4)
	case linkEthernet:
		return cutEther(b, headerEther-2, headerEther)
	case linkSLL:
		return cutEther(b, offsetTypeSLL, offsetTypeSLL+2)
	case linkSLL2:
		return cutEther(b, 0, 20)
	}
	return cutOther(link, b)
}

// cutEther takes off a header of n bytes with an EtherType at offset typ, and the VLAN tags behind
// it.
func cutEther(b []byte, typ, n int) []byte {
	if len(b) < n {
		return nil
	}
	whole, t := b, binary.BigEndian.Uint16(b[typ:])
	b = b[n:]
	for t == etherVLAN || t == etherQinQ || t == etherQinQ1 {
		if len(b) < 4 {
			return nil
		}
		t, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	switch t {
	case etherIPv4, etherIPv6:
		return b
	case etherMPLS, etherPPPoE:
		if n == headerEther {
			return cutOther(linkEthernet, whole)
		}
	}
	return nil
}

// cutOther lets gopacket decode the packet. It returns the innermost IP packet.
func cutOther(link uint16, b []byte) (ip []byte) {
	if link > 255 { // gopacket's LinkType has 8 bits
		return nil
	}
	// gopacket's decoders may panic on malformed headers; NewPacket recovers.
	p := gopacket.NewPacket(b, layers.LinkType(link), gopacket.NoCopy)
	for _, l := range p.Layers() {
		switch l.LayerType() {
		case layers.LayerTypeIPv4, layers.LayerTypeIPv6:
			ip = append(append([]byte(nil), l.LayerContents()...), l.LayerPayload()...)
		}
	}
	return ip
}

func after(b []byte, n int) []byte {
	if len(b) < n {
		return nil
	}
	return b[n:]
}
