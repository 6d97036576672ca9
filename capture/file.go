package capture

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// packet is one packet of a file.
type packet struct {
	time time.Time
	link uint16 // LINKTYPE_ value of tcpdump.org
	data []byte // what was captured of it, valid until the next one is read
}

// packetFile reads a file of one format. gopacket's readers are not suitable: they allocate the
// size that a header claims (4 GiB for a header of 28 bytes), and keep 8 bits of the link type, of
// which SLL2 needs 9.
type packetFile interface {
	// next returns the next packet. The error is io.EOF only between packets.
	next() (packet, error)
}

// Magic numbers, as they read in big-endian order.
const (
	magicGzip      = 0x1f8b
	magicMicro     = 0xa1b2c3d4
	magicMicroSwap = 0xd4c3b2a1
	magicNano      = 0xa1b23c4d
	magicNanoSwap  = 0x4d3cb2a1
	magicNG        = 0x0a0d0d0a
)

// openFile finds out the format of the file.
func openFile(r io.Reader) (packetFile, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, err := b.Peek(4)
	if err != nil {
		return nil, fileError("the first four bytes", err)
	}
	if binary.BigEndian.Uint16(magic) == magicGzip {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("capture: gzip header: %w", err)
		}
		b = bufio.NewReaderSize(z, 64<<10)
		if magic, err = b.Peek(4); err != nil {
			return nil, fileError("the first four bytes", err)
		}
	}
	switch m := binary.BigEndian.Uint32(magic); m {
	case magicMicro:
		return newPcap(b, binary.BigEndian, 1000)
	case magicMicroSwap:
		return newPcap(b, binary.LittleEndian, 1000)
	case magicNano:
		return newPcap(b, binary.BigEndian, 1)
	case magicNanoSwap:
		return newPcap(b, binary.LittleEndian, 1)
	case magicNG:
		return &pcapng{r: b}, nil
	default:
		return nil, fmt.Errorf("capture: neither pcap nor pcapng: the file begins with %08x", m)
	}
}

// fileError wraps an error in the reading of what. The end of the file becomes io.ErrUnexpectedEOF.
func fileError(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("capture: the file ends inside %s: %w", what, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("capture: reading %s: %w", what, err)
}

// grow returns b or a larger slice, with length n and undefined content.
func grow(b []byte, n int) []byte {
	if n > cap(b) {
		return make([]byte, n, max(n, 2*cap(b)))
	}
	return b[:n]
}
