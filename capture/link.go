package capture

import "encoding/binary"

// Link types that can carry IP (tcpdump.org/linktypes.html).
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
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	etherVLAN  = 0x8100
	etherQinQ  = 0x88a8
	etherQinQ1 = 0x9100
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
		return cutEther(b, 12, 14)
	case linkSLL:
		return cutEther(b, 14, 16)
	case linkSLL2:
		return cutEther(b, 0, 20)
	}
	return nil
}

// cutEther takes off a header of n bytes with an EtherType at offset typ, and the VLAN tags behind
// it.
func cutEther(b []byte, typ, n int) []byte {
	if len(b) < n {
		return nil
	}
	t := binary.BigEndian.Uint16(b[typ:])
	b = b[n:]
	for t == etherVLAN || t == etherQinQ || t == etherQinQ1 {
		if len(b) < 4 {
			return nil
		}
		t, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	if t != etherIPv4 && t != etherIPv6 {
		return nil
	}
	return b
}

func after(b []byte, n int) []byte {
	if len(b) < n {
		return nil
	}
	return b[n:]
}
