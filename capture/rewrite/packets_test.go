package rewrite

import (
	"bytes"
	"encoding/hex"
	"io"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"zmtpd/capture"
)

// A VLAN tag that the interface has removed is in the file, and packets of several link types keep
// theirs.
func TestPackets(t *testing.T) {
	ether, err := hex.DecodeString("020000000009" + "020000000001" + "0800" + "4500")
	if err != nil {
		t.Fatal(err)
	}
	raw := []byte{0x45, 0, 0, 20}
	at := time.Unix(1700000000, 123456789).UTC()
	var file bytes.Buffer
	w := NewPackets(&file)
	for _, p := range []capture.Packet{
		{Time: at, Link: 1, Data: ether},
		{Time: at, Link: 1, Data: ether, Tagged: true, VLANType: 0x88a8, VLAN: 3<<13 | 5},
		{Time: at, Link: 101, Data: raw, Tagged: true, VLANType: 0x8100, VLAN: 5},
		{Time: at, Link: 276, Data: ether[:15]},
	} {
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	source, err := capture.OpenFile(&file)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []capture.Packet{
		{Link: 1, Data: ether},
		{Link: 1, Data: append(append(bytes.Clone(ether[:12]), 0x88, 0xa8, 0x60, 5),
			ether[12:]...)},
		{Link: 101, Data: raw},
		{Link: 276, Data: ether[:15]},
	} {
		p, err := source.Next()
		if err != nil || p.Link != want.Link || !bytes.Equal(p.Data, want.Data) ||
			!p.Time.Equal(at) {
			t.Errorf("%d: %+v, %v, want %+v", i, p, err, want)
		}
	}
	if _, err := source.Next(); err != io.EOF {
		t.Error(err)
	}
}

// A file without packets is a capture too.
func TestNoPackets(t *testing.T) {
	for name, w := range map[string]func(io.Writer) interface{ Flush() error }{
		"Packets": func(w io.Writer) interface{ Flush() error } { return NewPackets(w) },
		"Null":    func(w io.Writer) interface{ Flush() error } { return NewNull(w) },
	} {
		var file bytes.Buffer
		if err := w(&file).Flush(); err != nil {
			t.Fatal(err)
		}
		source, err := capture.OpenFile(&file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := source.Next(); err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Other readers understand the files.
func TestGopacketReads(t *testing.T) {
	at := time.Unix(1700000000, 123456789).UTC()
	var file bytes.Buffer
	w := NewPackets(&file)
	for i := range 5 {
		link := uint16([]layers.LinkType{layers.LinkTypeEthernet, layers.LinkTypeRaw}[i%2])
		p := capture.Packet{Time: at, Link: link, Data: []byte("packet"[:i+1])}
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{WantMixedLinkType: true,
		ErrorOnMismatchingLinkType: false})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		data, info, err := r.ReadPacketData()
		if err != nil || string(data) != "packet"[:i+1] || info.InterfaceIndex != i%2 ||
			!info.Timestamp.Equal(at) {
			t.Errorf("%d: %q, %+v, %v", i, data, info, err)
		}
	}
}
