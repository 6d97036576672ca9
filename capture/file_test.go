package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/klauspost/compress/zstd"
)

// rewrite makes a file of the same packets with gopacket's writers.
func rewrite(t *testing.T, file []byte, format string) []byte {
	t.Helper()
	r, err := pcapgo.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var write func(gopacket.CaptureInfo, []byte) error
	flush := func() error { return nil }
	switch format {
	case "pcap":
		w := pcapgo.NewWriter(&out)
		write, err = w.WritePacket, w.WriteFileHeader(65535, r.LinkType())
	case "pcap-nano":
		w := pcapgo.NewWriterNanos(&out)
		write, err = w.WritePacket, w.WriteFileHeader(65535, r.LinkType())
	case "pcapng":
		var w *pcapgo.NgWriter
		if w, err = pcapgo.NewNgWriter(&out, r.LinkType()); err == nil {
			write, flush = w.WritePacket, w.Flush
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, ci, err := r.ReadPacketData()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := write(ci, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compressed(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstdCompressed(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// swapped returns a pcap file of the other byte order.
func swapped(b []byte) []byte {
	b = bytes.Clone(b)
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	for i := 8; i < 24; i += 4 {
		slices.Reverse(b[i : i+4])
	}
	for at := 24; at < len(b); {
		size := int(binary.LittleEndian.Uint32(b[at+8:]))
		for i := at; i < at+16; i += 4 {
			slices.Reverse(b[i : i+4])
		}
		at += 16 + size
	}
	return b
}

// The format of the file makes no difference.
func TestFormats(t *testing.T) {
	file := recording(t, "cluster")
	want := mustRead(t, file, Options{})
	for name, other := range map[string][]byte{
		"pcap":      rewrite(t, file, "pcap"),
		"nano":      rewrite(t, file, "pcap-nano"),
		"swapped":   swapped(file),
		"pcapng":    rewrite(t, file, "pcapng"),
		"pcap.gz":   compressed(t, file),
		"pcapng.gz": compressed(t, rewrite(t, file, "pcapng")),
		"pcap.zst":  zstdCompressed(t, file),
	} {
		t.Run(name, func(t *testing.T) {
			got := mustRead(t, other, Options{})
			diff(t, lines(got), lines(want))
			for i := range got {
				if !got[i].Time.Equal(want[i].Time) {
					t.Fatalf("%d: time is %v, want %v", i, got[i].Time, want[i].Time)
				}
			}
		})
	}
}

// ngBlock makes a pcapng block.
func ngBlock(order binary.AppendByteOrder, typ uint32, body []byte) []byte {
	body = append(body, make([]byte, -len(body)&3)...)
	b := order.AppendUint32(nil, typ)
	b = order.AppendUint32(b, uint32(12+len(body)))
	b = append(b, body...)
	return order.AppendUint32(b, uint32(12+len(body)))
}

func ngSectionBlock(order binary.AppendByteOrder) []byte {
	b := order.AppendUint32(nil, ngByteOrder)
	b = order.AppendUint16(b, 1)
	b = order.AppendUint16(b, 0)
	b = order.AppendUint64(b, 1<<64-1)
	return ngBlock(order, ngSection, b)
}

// ngInterfaceBlock makes an interface description; options are code, length and value.
func ngInterfaceBlock(order binary.AppendByteOrder, link uint16, options ...[]byte) []byte {
	b := order.AppendUint16(nil, link)
	b = order.AppendUint16(b, 0)
	b = order.AppendUint32(b, 0)
	for _, option := range options {
		b = append(b, option...)
	}
	return ngBlock(order, ngInterface, b)
}

func ngOption(order binary.AppendByteOrder, code uint16, value []byte) []byte {
	b := order.AppendUint16(nil, code)
	b = order.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

func ngPacketBlock(order binary.AppendByteOrder, id uint32, stamp uint64, data []byte) []byte {
	b := order.AppendUint32(nil, id)
	b = order.AppendUint32(b, uint32(stamp>>32))
	b = order.AppendUint32(b, uint32(stamp))
	b = order.AppendUint32(b, uint32(len(data)))
	b = order.AppendUint32(b, uint32(len(data)))
	return ngBlock(order, ngEnhancedPacket, append(b, data...))
}

// All that pcapng has and gopacket does not write: both byte orders in one file, interfaces with
// other links, resolutions and offsets, the three kinds of packets, blocks of no interest.
func TestPcapng(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	old := le.AppendUint16(nil, 1)
	old = le.AppendUint16(old, 7)
	old = le.AppendUint32(old, 0)
	old = le.AppendUint32(old, 3<<10)
	old = le.AppendUint32(old, 3)
	old = le.AppendUint32(old, 3)
	old = append(old, "old"...)
	simple := append(le.AppendUint32(nil, 6), "simple"...)
	file := slices.Concat(
		ngSectionBlock(le),
		ngInterfaceBlock(le, 1, ngOption(le, 2, []byte("eth0"))),
		ngInterfaceBlock(le, linkSLL2, ngOption(le, 9, []byte{0x80 | 10}), ngOption(le, 0, nil),
			[]byte("beyond")),
		ngPacketBlock(le, 0, 1_500_000, []byte("one")),
		ngBlock(le, 0x0bad, []byte("of no interest")),
		ngPacketBlock(le, 1, 2<<10|512, []byte("two")),
		ngBlock(le, ngOldPacket, old),
		ngBlock(le, ngSimplePacket, simple),
		ngSectionBlock(be),
		ngInterfaceBlock(be, linkRaw, ngOption(be, 9, []byte{9}), ngOption(be, 14,
			be.AppendUint64(nil, 1000))),
		ngPacketBlock(be, 0, 5_000_000_001, []byte("four")),
	)
	f, err := OpenFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Packet{
		{Time: time.Unix(1, 5e8), Link: 1, Data: []byte("one")},
		{Time: time.Unix(2, 5e8), Link: linkSLL2, Data: []byte("two")},
		{Time: time.Unix(3, 0), Link: linkSLL2, Data: []byte("old")},
		{Time: time.Time{}, Link: 1, Data: []byte("simple")},
		{Time: time.Unix(1005, 1), Link: linkRaw, Data: []byte("four")},
	} {
		got, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !got.Time.Equal(want.Time) || got.Link != want.Link ||
			!bytes.Equal(got.Data, want.Data) {
			t.Errorf("packet %d is %v, want %v", i, got, want)
		}
	}
	if _, err := f.Next(); err != io.EOF {
		t.Errorf("error is %v", err)
	}
}

// A file that ends early gives what it has, and says so unless it ends between packets.
func TestFileEndsEarly(t *testing.T) {
	whole := file(t, slices.Concat(opening(), []tcpSegment{up(0, pushed("one", "two"))})...)
	for name, file := range map[string][]byte{"pcap": whole, "pcapng": rewrite(t, whole, "pcapng")} {
		good := 0
		for n := range file {
			_, _, err := readAll(t, file[:n], Options{})
			if err == nil {
				good++
			} else if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s with %d bytes: %v", name, n, err)
			}
		}
		if good < 3 || good > 5 {
			t.Errorf("%s ends between packets or blocks %d times", name, good)
		}
	}
	events, _, err := readAll(t, append(bytes.Clone(whole), 1), Options{})
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(events) == 0 ||
		events[len(events)-1].Kind != Closed {
		t.Errorf("%v before %v", lines(events), err)
	}
	for name, b := range map[string][]byte{"gzip": compressed(t, whole),
		"zstd": zstdCompressed(t, whole)} {
		if _, _, err := readAll(t, b[:60], Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s cut off: %v", name, err)
		}
	}
}

// Sizes and counts in a file are refused before memory is there for them.
func TestHostileFiles(t *testing.T) {
	le := binary.LittleEndian
	section, eth := ngSectionBlock(le), ngInterfaceBlock(le, 1)
	huge := func(typ uint32, total uint32) []byte {
		return le.AppendUint32(le.AppendUint32(nil, typ),
			total)
	}
	lying := ngPacketBlock(le, 0, 0, make([]byte, 8))
	le.PutUint32(lying[8+12:], 9)
	header := pcapFile(t, layers.LinkTypeEthernet)
	badVersion := bytes.Clone(header)
	badVersion[4] = 3
	for name, file := range map[string][]byte{
		"empty":        {},
		"text":         []byte("this is no capture"),
		"gzip of text": compressed(t, []byte("this is no capture")),
		"zstd":         {0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"zstd of text": zstdCompressed(t, []byte("this is no capture")),
		"gzip":         {0x1f, 0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"pcap version": badVersion,
		"pcap packet": append(bytes.Clone(header), 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff,
			0xff, 0, 0, 0, 0),
		"pcapng order": append(le.AppendUint32(huge(ngSection, 28), 0x11223344),
			make([]byte, 16)...),
		"pcapng section size": append(le.AppendUint32(huge(ngSection, 16), ngByteOrder),
			make([]byte, 16)...),
		"pcapng block 0":     append(bytes.Clone(section), huge(77, 0)...),
		"pcapng block odd":   append(bytes.Clone(section), huge(77, 13)...),
		"pcapng block huge":  append(bytes.Clone(section), huge(77, 1<<31)...),
		"pcapng packet huge": slices.Concat(section, eth, huge(ngEnhancedPacket, 1<<29)),
		"pcapng packet lies": slices.Concat(section, eth, lying),
		"pcapng packet short": slices.Concat(section, eth, ngBlock(le, ngEnhancedPacket,
			make([]byte, 16))),
		"pcapng simple short": slices.Concat(section, eth, ngBlock(le, ngSimplePacket, nil)),
		"pcapng simple lies": slices.Concat(section, eth, ngBlock(le, ngSimplePacket,
			[]byte{5, 0, 0, 0})),
		"pcapng no interface": slices.Concat(section, ngPacketBlock(le, 0, 0, nil)),
		"pcapng simple without": slices.Concat(section,
			ngBlock(le, ngSimplePacket, make([]byte, 4))),
		"pcapng interface": slices.Concat(section, ngBlock(le, ngInterface, make([]byte, 4))),
		"pcapng option": slices.Concat(section,
			ngInterfaceBlock(le, 1, []byte{2, 0, 9, 0})),
		"pcapng resolution 10": slices.Concat(section, ngInterfaceBlock(le, 1,
			ngOption(le, 9, []byte{64}))),
		"pcapng resolution 2": slices.Concat(section, ngInterfaceBlock(le, 1,
			ngOption(le, 9, []byte{0xc0}))),
		"pcapng interfaces": slices.Concat(section, bytes.Repeat(eth, maxInterfaces+1)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := readAll(t, file, Options{})
		runtime.ReadMemStats(&after)
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: error is %v", name, err)
		}
		// A Reader takes some 1 MB, its buffer, and another one for a compressed file.
		if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
			t.Errorf("%s: took %d bytes", name, took)
		}
	}
}

// Every link type leads to the same segments.
func TestLinkTypes(t *testing.T) {
	segments := slices.Concat(opening(), []tcpSegment{
		down(0, hello("PULL")), up(0, pushed("one")), {up: true, seq: upISN + 1 +
			uint32(len(pushed("one"))), fin: true},
	})
	ether := func(typ layers.EthernetType) gopacket.SerializableLayer {
		return &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6),
			DstMAC:       make(net.HardwareAddr, 6),
			EthernetType: typ}
	}
	raw := func(header string) gopacket.SerializableLayer { return gopacket.Payload(header) }
	vlan := func(id uint16, typ layers.EthernetType) gopacket.SerializableLayer {
		return &layers.Dot1Q{VLANIdentifier: id, Type: typ}
	}
	client6, server6 := netip.MustParseAddrPort("[2001:db8::1]:40000"),
		netip.MustParseAddrPort("[2001:db8::2]:5557")
	for _, test := range []struct {
		name  string
		link  uint16
		v6    bool
		below []gopacket.SerializableLayer
	}{
		{"ethernet", linkEthernet, false,
			[]gopacket.SerializableLayer{ether(layers.EthernetTypeIPv4)}},
		{"ethernet6", linkEthernet, true,
			[]gopacket.SerializableLayer{ether(layers.EthernetTypeIPv6)}},
		{"vlan", linkEthernet, false, []gopacket.SerializableLayer{ether(layers.EthernetTypeDot1Q),
			vlan(7, layers.EthernetTypeIPv4)}},
		{"qinq", linkEthernet, true, []gopacket.SerializableLayer{ether(layers.EthernetTypeQinQ),
			vlan(7, layers.EthernetTypeDot1Q), vlan(8, layers.EthernetTypeIPv6)}},
		{"null", linkNull, false, []gopacket.SerializableLayer{raw("\x02\x00\x00\x00")}},
		{"null6", linkNull, true, []gopacket.SerializableLayer{raw("\x1e\x00\x00\x00")}},
		{"loop", linkLoop, false, []gopacket.SerializableLayer{raw("\x00\x00\x00\x02")}},
		{"sll", linkSLL, false,
			[]gopacket.SerializableLayer{raw("\x00\x00\x03\x04\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00")}},
		{"sll2", linkSLL2, true,
			[]gopacket.SerializableLayer{raw("\x86\xdd\x00\x00\x00\x00\x00\x01\x03\x04\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00")}},
		{"raw", linkRaw, false, nil},
		{"raw6", linkRaw, true, nil},
		// Those that gopacket decodes.
		{"ppp", uint16(layers.LinkTypePPP), false,
			[]gopacket.SerializableLayer{raw("\xff\x03\x00\x21")}},
		{"ppp6", uint16(layers.LinkTypePPP), true, []gopacket.SerializableLayer{raw("\x00\x57")}},
		{"pppoe", linkEthernet, false, []gopacket.SerializableLayer{ether(etherPPPoE),
			&layers.PPPoE{Version: 1, Type: 1, SessionId: 1},
			&layers.PPP{PPPType: layers.PPPTypeIPv4}}},
		{"mpls", linkEthernet, true, []gopacket.SerializableLayer{ether(etherMPLS),
			&layers.MPLS{Label: 16, StackBottom: true, TTL: 64}}},
		{"fddi", uint16(layers.LinkTypeFDDI), false, []gopacket.SerializableLayer{
			raw("\x50" + strings.Repeat("\x00", 12) + "\xaa\xaa\x03\x00\x00\x00\x08\x00")}},
		{"ipv4", linkIPv4, false, nil},
		{"ipv6", linkIPv6, true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, server := clientEnd, serverEnd
			if test.v6 {
				client, server = client6, server6
			}
			var packets [][]byte
			for _, s := range segments {
				packets = append(packets, s.serialize(t, client, server, test.below...))
			}
			b := pcapFile(t, layers.LinkTypeEthernet, packets...)
			binary.LittleEndian.PutUint16(b[20:], test.link)
			events := mustRead(t, b, Options{})
			diff(t, lines(events), []string{
				"5557 opened", "5557 greeting server 3.1 NULL",
				"5557 metadata server Socket-Type=PULL",
				"5557 greeting client 3.1 NULL", "5557 metadata client Socket-Type=PUSH",
				`5557 message client "one"`, "5557 closed end_of_file",
			})
			if s := events[0].Session; s.Client != client || s.Server != server {
				t.Errorf("%v to %v, want %v to %v", s.Client, s.Server, client, server)
			}
		})
	}
}

func TestSkipped(t *testing.T) {
	good := up(0, nil).packet(t, clientEnd, serverEnd)
	change := func(at int, b ...byte) []byte {
		p := bytes.Clone(good)
		copy(p[at:], b)
		return p
	}
	packets := [][]byte{
		change(12, 0x08, 0x06),   // ARP
		change(14, 0x55),         // IP 5
		change(14+9, 17),         // UDP
		change(14+6, 0x20),       // first fragment
		change(14+6, 0x00, 0x10), // later fragment
		change(14+20+12, 0x40),   // TCP header of 16 bytes
		change(14, 0x4f),         // IP header of 60 bytes
		change(14+2, 0x00, 0x10), // 16 bytes of IP
	}
	for n := range 14 + 20 + 20 { // cut off in a header
		packets = append(packets, good[:n])
	}
	_, stats, err := readAll(t, pcapFile(t, layers.LinkTypeEthernet, packets...), Options{})
	if err != nil || stats.Skipped != uint64(len(packets)) {
		t.Errorf("%+v, %v", stats, err)
	}
	unknown := pcapFile(t, layers.LinkTypeIEEE802_11, good)
	if _, stats, err := readAll(t, unknown, Options{}); err != nil || stats.Skipped != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
}
