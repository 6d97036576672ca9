package capture

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Packet is one packet of a capture.
type Packet struct {
	Time time.Time
	Link uint16 // LINKTYPE_ value of tcpdump.org
	Data []byte // what was captured of it, valid until the next packet is read
	// Tagged says that the interface has removed a VLAN tag (IEEE 802.1Q): VLANType, which is
	// 0x8100 mostly, and VLAN, which has the priority in its upper four bits.
	Tagged         bool
	VLANType, VLAN uint16
}

// Source gives packets. The error is io.EOF only between packets.
type Source interface {
	Next() (Packet, error)
}

// gopacket's readers of files are not suitable: they allocate the size that a header claims (4 GiB
// for a header of 28 bytes), and keep 8 bits of the link type, of which SLL2 needs 9.

// Magic numbers, as they read in big-endian order.
const (
	magicGzip      = 0x1f8b
	magicZstd      = 0x28b52ffd
	magicMicro     = 0xa1b2c3d4
	magicMicroSwap = 0xd4c3b2a1
	magicNano      = 0xa1b23c4d
	magicNanoSwap  = 0x4d3cb2a1
	magicNG        = 0x0a0d0d0a
)

const (
	// fileBuffer is the size of the buffer from which packets are read in place: every packet and
	// block that is accepted fits.
	fileBuffer = 1 << 20

	// maxZstdWindow bounds the memory that a file compressed with zstd takes. It is what zstd
	// -19 needs.
	maxZstdWindow = 8 << 20
)

// OpenFile finds out the format of a file, pcap or pcapng, which may be compressed with gzip or
// zstd, and reads its header. It reads the file as a stream and does not close it. After the end
// of the file it holds no resources.
func OpenFile(r io.Reader) (Source, error) {
	b := bufio.NewReaderSize(r, fileBuffer)
	magic, err := b.Peek(4)
	if err != nil {
		return nil, fileError("the first four bytes", err)
	}
	var plain io.Reader
	if binary.BigEndian.Uint16(magic) == magicGzip {
		if plain, err = gzip.NewReader(b); err != nil {
			return nil, fmt.Errorf("capture: gzip header: %w", err)
		}
	} else if binary.BigEndian.Uint32(magic) == magicZstd {
		// Concurrency 1 decodes on the reader's goroutine: there is nothing to close.
		if plain, err = zstd.NewReader(b, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow)); err != nil {
			return nil, fmt.Errorf("capture: zstd header: %w", err)
		}
	}
	if plain != nil {
		b = bufio.NewReaderSize(plain, fileBuffer)
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

// take returns the next n bytes, which are valid until the next read. At the end of the file it
// returns what there is, with io.EOF.
func take(r *bufio.Reader, n int) ([]byte, error) {
	b, err := r.Peek(n)
	if err == nil {
		_, err = r.Discard(n)
	}
	return b, err
}

// fileError wraps an error in the reading of what. The end of the file becomes io.ErrUnexpectedEOF.
func fileError(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("capture: the file ends inside %s: %w", what, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("capture: reading %s: %w", what, err)
}
