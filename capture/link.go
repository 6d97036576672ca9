package capture

import "encoding/binary"

// Link types (tcpdump.org/linktypes.html). Packets of others are skipped.
const (
	linkNull     = 0
	linkEthernet = 1
	linkPPP      = 9
	linkFDDI     = 10
	linkRawBSD   = 12
	linkRawOpen  = 14
	linkRaw      = 101
	linkLoop     = 108
	linkSLL      = 113
	linkPFLog    = 117
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

// Protocols of PPP (iana.org/assignments/ppp-numbers).
const (
	pppIPv4 = 0x21
	pppIPv6 = 0x57
	pppMPLS = 0x281
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
	case linkPPP:
		return cutPPP(b)
	case linkFDDI:
		return cutFDDI(b)
	case linkPFLog:
		return cutPFLog(b)
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
	switch t {
	case etherIPv4, etherIPv6:
		return b
	case etherMPLS:
		return cutMPLS(b)
	case etherPPPoE:
		return cutPPP(after(b, 6))
	}
	return nil
}

// cutMPLS takes off a stack of labels (RFC 3032).
func cutMPLS(b []byte) []byte {
	for len(b) >= 4 {
		bottom := b[2]&1 != 0
		if b = b[4:]; bottom {
			return b
		}
	}
	return nil
}

// cutPPP takes off a PPP header (RFC 1661). Address and control, which are ff 03, may be missing,
// and the protocol may have one byte, which is odd.
func cutPPP(b []byte) []byte {
	if len(b) >= 2 && b[0] == 0xff && b[1] == 3 {
		b = b[2:]
	}
	if len(b) < 2 {
		return nil
	}
	protocol, b := binary.BigEndian.Uint16(b), b[1:]
	if protocol&0x100 != 0 {
		protocol >>= 8
	} else {
		b = b[1:]
	}
	switch protocol {
	case pppIPv4, pppIPv6:
		return b
	case pppMPLS:
		return cutMPLS(b)
	}
	return nil
}

// cutFDDI takes off a header of FDDI with one of SNAP, whose organization 0 has EtherTypes
// (RFC 1390).
func cutFDDI(b []byte) []byte {
	const fddi, snap = 13, "\xaa\xaa\x03\x00\x00\x00"
	if len(b) < fddi+len(snap) || string(b[fddi:fddi+len(snap)]) != snap {
		return nil
	}
	return cutEther(b, fddi+len(snap), fddi+len(snap)+2)
}

// cutPFLog takes off a header of OpenBSD's packet filter. Its first byte is its length without
// padding to 4 bytes.
func cutPFLog(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return after(b, (int(b[0])+3)&^3)
}

func after(b []byte, n int) []byte {
	if len(b) < n {
		return nil
	}
	return b[n:]
}
