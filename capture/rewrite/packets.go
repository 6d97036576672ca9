package rewrite

import (
	"errors"
	"io"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"zmtpd/capture"
)

// Packets copies the packets of source that keep accepts to w, as pcapng. Packets keep their link
// types. The error is that of source, or of w.
func Packets(w io.Writer, source capture.Source, keep func(capture.Packet) bool) (n int,
	err error) {
	var ng *pcapgo.NgWriter
	interfaces := map[uint16]int{}
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
		if p.Link > 255 {
			return n, errors.New("capture: packets of this link type cannot be written as pcapng")
		}
		id, ok := interfaces[p.Link]
		if !ok {
			intf := pcapgo.DefaultNgInterface
			intf.LinkType = layers.LinkType(p.Link)
			if ng == nil {
				ng, err = pcapgo.NewNgWriterInterface(w, intf, pcapgo.DefaultNgWriterOptions)
			} else {
				id, err = ng.AddInterface(intf)
			}
			if err != nil {
				return n, err
			}
			interfaces[p.Link] = id
		}
		if err := ng.WritePacket(gopacket.CaptureInfo{Timestamp: p.Time, InterfaceIndex: id,
			CaptureLength: len(p.Data), Length: len(p.Data)}, p.Data); err != nil {
			return n, err
		}
		n++
	}
	if ng == nil {
		return 0, errors.New("capture: no packets are selected")
	}
	return n, ng.Flush()
}
