package capture

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// pcap reads the classic format (draft-ietf-opsawg-pcap).
type pcap struct {
	r     *bufio.Reader
	order binary.ByteOrder
	unit  int64 // of the second half of a time stamp, in nanoseconds
	link  uint16
}

func newPcap(r *bufio.Reader, order binary.ByteOrder, unit int64) (*pcap, error) {
	var head [24]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fileError("the header of the file", err)
	}
	if major := order.Uint16(head[4:]); major != 2 {
		return nil, fmt.Errorf("capture: pcap format of version %d, only 2 is known", major)
	}
	// The upper half of the last word is about checksums of the link layer.
	return &pcap{r: r, order: order, unit: unit, link: uint16(order.Uint32(head[20:]))}, nil
}

// Next implements Source.
func (f *pcap) Next() (Packet, error) {
	head, err := take(f.r, 16)
	if len(head) == 0 && err == io.EOF {
		return Packet{}, err
	} else if err != nil {
		return Packet{}, fileError("the header of a packet", err)
	}
	sec, frac := f.order.Uint32(head), f.order.Uint32(head[4:])
	size := f.order.Uint32(head[8:])
	if size > maxPacket {
		return Packet{}, fmt.Errorf("capture: packet of %d bytes, the limit is %d", size, maxPacket)
	}
	b, err := take(f.r, int(size))
	if err != nil {
		return Packet{}, fileError("a packet", err)
	}
	return Packet{Time: time.Unix(int64(sec), int64(frac)*f.unit).UTC(), Link: f.link,
		Data: b}, nil
}
