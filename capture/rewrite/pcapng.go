package rewrite

import (
	"bufio"
	"encoding/binary"
	"io"
	"time"
)

// pcapng writes packets in the format pcapng (draft-ietf-opsawg-pcapng), with times in nanoseconds.
type pcapng struct {
	w          *bufio.Writer
	begun      bool
	interfaces map[uint16]uint32 // ids by link type
	block      []byte            // that is being written
}

const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 6

	byteOrder     = 0x1a2b3c4d
	optResolution = 9 // of times, as the exponent of 1/10 s
)

// newPcapng returns a pcapng whose buffer goes to w.
func newPcapng(w io.Writer) *pcapng {
	return &pcapng{w: bufio.NewWriter(w), interfaces: map[uint16]uint32{}}
}

// write writes a packet of a link type. The first packet of a link type describes an interface.
func (p *pcapng) write(link uint16, at time.Time, data []byte) error {
	id, ok := p.interfaces[link]
	if !ok {
		if err := p.section(); err != nil {
			return err
		}
		id = uint32(len(p.interfaces))
		p.interfaces[link] = id
		p.begin(blockInterface)
		p.uint16(link)
		p.uint16(0) // reserved
		p.uint32(0) // packets are not cut
		p.uint16(optResolution)
		p.uint16(1)
		p.block = append(p.block, 9, 0, 0, 0)
		p.uint32(0) // end of options
		if err := p.end(); err != nil {
			return err
		}
	}
	ns := uint64(at.UnixNano())
	p.begin(blockPacket)
	p.uint32(id)
	p.uint32(uint32(ns >> 32))
	p.uint32(uint32(ns))
	p.uint32(uint32(len(data))) // captured
	p.uint32(uint32(len(data))) // on the wire
	p.block = append(p.block, data...)
	return p.end()
}

// section begins the file, if that is not done.
func (p *pcapng) section() error {
	if p.begun {
		return nil
	}
	p.begun = true
	p.begin(blockSection)
	p.uint32(byteOrder)
	p.uint16(1) // the version of the format is 1.0
	p.uint16(0)
	p.uint32(0xffffffff) // the length of the section is unknown
	p.uint32(0xffffffff)
	return p.end()
}

// flush writes what is buffered. A file without packets is valid too.
func (p *pcapng) flush() error {
	if err := p.section(); err != nil {
		return err
	}
	return p.w.Flush()
}

// begin begins a block; end fills in its length.
func (p *pcapng) begin(typ uint32) {
	p.block = p.block[:0]
	p.uint32(typ)
	p.uint32(0)
}

func (p *pcapng) end() error {
	for len(p.block)%4 != 0 {
		p.block = append(p.block, 0)
	}
	size := uint32(len(p.block) + 4)
	binary.LittleEndian.PutUint32(p.block[4:], size)
	p.uint32(size)
	_, err := p.w.Write(p.block)
	return err
}

func (p *pcapng) uint16(v uint16) { p.block = binary.LittleEndian.AppendUint16(p.block, v) }

func (p *pcapng) uint32(v uint32) { p.block = binary.LittleEndian.AppendUint32(p.block, v) }
