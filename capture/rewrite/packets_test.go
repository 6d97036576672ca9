package rewrite

import (
	"bytes"
	"encoding/hex"
	"io"
	"testing"
	"time"

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
	} {
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Write(capture.Packet{Link: 276}); err == nil {
		t.Error("a packet of link type 276 was written")
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
