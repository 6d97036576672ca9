package capture

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"time"
)

// Types of blocks that matter here (draft-ietf-opsawg-pcapng).
const (
	ngSection        = magicNG
	ngInterface      = 1
	ngOldPacket      = 2
	ngSimplePacket   = 3
	ngEnhancedPacket = 6
)

const (
	ngByteOrder = 0x1a2b3c4d
	// ngRoom is what a block may have beside its packet: fixed fields and options.
	ngRoom = 64 << 10
)

// pcapng reads the format of Wireshark and dumpcap. The zero value with a reader is at the
// beginning of a section.
type pcapng struct {
	r          *bufio.Reader
	order      binary.ByteOrder
	interfaces []ngInterfaceInfo // of the section
}

type ngInterfaceInfo struct {
	link    uint16
	snapLen uint32
	units   uint64 // of a time stamp in a second
	offset  int64  // seconds to add
}

// Next implements Source.
func (f *pcapng) Next() (Packet, error) {
	for {
		typ, body, err := f.block()
		if err != nil {
			return Packet{}, err
		}
		switch typ {
		case ngInterface:
			err = f.addInterface(body)
		case ngEnhancedPacket, ngOldPacket:
			return f.packet(typ, body)
		case ngSimplePacket:
			return f.simplePacket(body)
		}
		if err != nil {
			return Packet{}, err
		}
	}
}

// block reads the next block. The body of one that is of no interest is skipped and nil.
func (f *pcapng) block() (typ uint32, body []byte, err error) {
	var head [12]byte
	if _, err := io.ReadFull(f.r, head[:8]); err == io.EOF {
		return 0, nil, err
	} else if err != nil {
		return 0, nil, fileError("the header of a block", err)
	}
	// The type of a section header reads the same in both byte orders.
	if binary.BigEndian.Uint32(head[:]) == ngSection {
		if _, err := io.ReadFull(f.r, head[8:12]); err != nil {
			return 0, nil, fileError("a section header", err)
		}
		return ngSection, nil, f.section(head)
	}
	typ = f.order.Uint32(head[:])
	size, err := bodySize(f.order.Uint32(head[4:]), 12)
	if err != nil {
		return 0, nil, err
	}
	switch typ {
	case ngInterface, ngOldPacket, ngSimplePacket, ngEnhancedPacket:
		if size > maxPacket+ngRoom {
			return 0, nil, fmt.Errorf("capture: block of %d bytes, the limit is %d", size,
				maxPacket+ngRoom)
		}
		// The length of the block stands behind it once more.
		if body, err = take(f.r, size+4); err != nil {
			return 0, nil, fileError("a block", err)
		}
		return typ, body[:size], nil
	}
	return typ, nil, f.skip(size + 4)
}

// section begins a section, of which block has read the first 12 bytes.
func (f *pcapng) section(head [12]byte) error {
	switch uint32(ngByteOrder) {
	case binary.BigEndian.Uint32(head[8:]):
		f.order = binary.BigEndian
	case binary.LittleEndian.Uint32(head[8:]):
		f.order = binary.LittleEndian
	default:
		return fmt.Errorf("capture: byte order mark of a pcapng section is %x", head[8:])
	}
	size, err := bodySize(f.order.Uint32(head[4:]), 28)
	if err != nil {
		return err
	}
	var fixed [12]byte
	if _, err := io.ReadFull(f.r, fixed[:]); err != nil {
		return fileError("a section header", err)
	}
	if major := f.order.Uint16(fixed[:]); major != 1 {
		return fmt.Errorf("capture: pcapng format of version %d, only 1 is known", major)
	}
	f.interfaces = f.interfaces[:0]
	return f.skip(size + 4)
}

// bodySize returns the size of what is left of a block, padding included, but for overhead bytes of
// it.
func bodySize(total uint32, overhead uint32) (int, error) {
	if total < overhead || total%4 != 0 || total > 1<<30 {
		return 0, fmt.Errorf("capture: pcapng block with a length of %d bytes", total)
	}
	return int(total - overhead), nil
}

func (f *pcapng) skip(n int) error {
	if _, err := f.r.Discard(n); err != nil {
		return fileError("a block", err)
	}
	return nil
}

// addInterface takes an interface description block.
func (f *pcapng) addInterface(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("capture: interface description of %d bytes, want 8", len(b))
	}
	if len(f.interfaces) == maxInterfaces {
		return fmt.Errorf("capture: more than %d interfaces", maxInterfaces)
	}
	info := ngInterfaceInfo{link: f.order.Uint16(b), snapLen: f.order.Uint32(b[4:]), units: 1e6}
	for b = b[8:]; len(b) >= 4; {
		code, size := f.order.Uint16(b), int(f.order.Uint16(b[2:]))
		padded := (size + 3) &^ 3
		if code == 0 {
			break
		}
		if padded > len(b)-4 {
			return fmt.Errorf("capture: option of %d bytes in an interface description with %d left", size,
				len(b)-4)
		}
		value := b[4 : 4+size]
		b = b[4+padded:]
		switch {
		case code == 9 && size == 1: // if_tsresol
			units, err := resolution(value[0])
			if err != nil {
				return err
			}
			info.units = units
		case code == 14 && size == 8: // if_tsoffset
			info.offset = int64(f.order.Uint64(value))
		}
	}
	f.interfaces = append(f.interfaces, info)
	return nil
}

// resolution returns the units of a second that if_tsresol stands for.
func resolution(b byte) (uint64, error) {
	exponent := int(b & 0x7f)
	if b&0x80 != 0 && exponent < 64 {
		return 1 << exponent, nil
	}
	if b&0x80 != 0 || exponent > 19 {
		return 0, fmt.Errorf("capture: resolution of time stamps %#02x is beyond 64 bits", b)
	}
	units := uint64(1)
	for range exponent {
		units *= 10
	}
	return units, nil
}

// packet takes an enhanced packet block, or the obsolete packet block, which has 16 bits each of
// interface and drops.
func (f *pcapng) packet(typ uint32, b []byte) (Packet, error) {
	if len(b) < 20 {
		return Packet{}, fmt.Errorf("capture: packet block of %d bytes, want 20", len(b))
	}
	id := f.order.Uint32(b)
	if typ == ngOldPacket {
		id = uint32(f.order.Uint16(b))
	}
	info, err := f.iface(id)
	if err != nil {
		return Packet{}, err
	}
	stamp := uint64(f.order.Uint32(b[4:]))<<32 | uint64(f.order.Uint32(b[8:]))
	size := f.order.Uint32(b[12:])
	if uint64(size) > uint64(len(b)-20) {
		return Packet{}, fmt.Errorf("capture: packet of %d bytes in a block with %d", size,
			len(b)-20)
	}
	return Packet{Time: info.time(stamp), Link: info.link, Data: b[20 : 20+size]}, nil
}

// simplePacket takes a simple packet block, which has no time and is of the first interface.
func (f *pcapng) simplePacket(b []byte) (Packet, error) {
	if len(b) < 4 {
		return Packet{}, fmt.Errorf("capture: simple packet block of %d bytes, want 4", len(b))
	}
	info, err := f.iface(0)
	if err != nil {
		return Packet{}, err
	}
	size := f.order.Uint32(b)
	if info.snapLen > 0 {
		size = min(size, info.snapLen)
	}
	if uint64(size) > uint64(len(b)-4) {
		return Packet{}, fmt.Errorf("capture: packet of %d bytes in a block with %d", size,
			len(b)-4)
	}
	return Packet{Link: info.link, Data: b[4 : 4+size]}, nil
}

func (f *pcapng) iface(id uint32) (ngInterfaceInfo, error) {
	if uint64(id) >= uint64(len(f.interfaces)) {
		return ngInterfaceInfo{}, fmt.Errorf("capture: packet of interface %d, the section has %d",
			id,
			len(f.interfaces))
	}
	return f.interfaces[id], nil
}

// time returns what a time stamp of the interface stands for.
func (i ngInterfaceInfo) time(stamp uint64) time.Time {
	sec, rest := stamp/i.units, stamp%i.units
	hi, lo := bits.Mul64(rest, 1e9)
	nsec, _ := bits.Div64(hi, lo, i.units)
	return time.Unix(int64(sec)+i.offset, int64(nsec)).UTC()
}
