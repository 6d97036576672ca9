package rewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"zmtpd/capture"
)

// Packets writes packets as pcapng, with their link types. A VLAN tag that the interface has
// removed is put back.
type Packets struct {
	w          io.Writer
	ng         *pcapgo.NgWriter // nil before the first packet
	interfaces map[uint16]int   // by link type
	tagged     []byte
}

// NewPackets returns a Packets that writes to w.
func NewPackets(w io.Writer) *Packets { return &Packets{w: w, interfaces: map[uint16]int{}} }

// Write writes a packet.
func (w *Packets) Write(p capture.Packet) error {
	id, err := w.link(p.Link)
	if err != nil {
		return err
	}
	data := p.Data
	const linkEthernet, addresses = 1, 12
	if p.Tagged && p.Link == linkEthernet && len(data) >= addresses {
		w.tagged = append(w.tagged[:0], data[:addresses]...)
		w.tagged = binary.BigEndian.AppendUint16(w.tagged, p.VLANType)
		w.tagged = binary.BigEndian.AppendUint16(w.tagged, p.VLAN)
		w.tagged = append(w.tagged, data[addresses:]...)
		data = w.tagged
	}
	return w.ng.WritePacket(gopacket.CaptureInfo{Timestamp: p.Time, InterfaceIndex: id,
		CaptureLength: len(data), Length: len(data)}, data)
}

// link returns the interface for packets of a link type.
func (w *Packets) link(link uint16) (id int, err error) {
	id, ok := w.interfaces[link]
	if ok {
		return id, nil
	}
	if link > 255 { // gopacket's LinkType has 8 bits
		return 0, fmt.Errorf("capture: packets of link type %d cannot be written as pcapng", link)
	}
	intf := pcapgo.DefaultNgInterface
	intf.LinkType = layers.LinkType(link)
	if w.ng == nil {
		w.ng, err = pcapgo.NewNgWriterInterface(w.w, intf, pcapgo.DefaultNgWriterOptions)
	} else {
		id, err = w.ng.AddInterface(intf)
	}
	if err == nil {
		w.interfaces[link] = id
	}
	return id, err
}

// Flush writes what is buffered.
func (w *Packets) Flush() error {
	if w.ng == nil {
		return nil
	}
	return w.ng.Flush()
}

// Copy copies the packets of source that keep accepts to w, as pcapng. The error is that of source,
// or of w.
func Copy(w io.Writer, source capture.Source, keep func(capture.Packet) bool) (n int, err error) {
	out := NewPackets(w)
	for {
		p, err := source.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return n, err
		}
		if !keep(p) {
			continue
		}
		if err := out.Write(p); err != nil {
			return n, err
		}
		n++
	}
	if n == 0 {
		return 0, errors.New("capture: no packets are selected")
	}
	return n, out.Flush()
}

// Tee is a Source that also writes its packets to To, before anybody can change them: a
// capture.Reader decrypts in place.
type Tee struct {
	capture.Source
	To *Packets
}

// Next implements capture.Source.
func (t Tee) Next() (capture.Packet, error) {
	p, err := t.Source.Next()
	if err == nil {
		err = t.To.Write(p)
	}
	return p, err
}
