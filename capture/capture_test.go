package capture

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"zmtpd/zmtp/wire"
)

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// recording returns a recorded capture as it was before it was compressed.
func recording(tb tester, name string) []byte {
	tb.Helper()
	f, err := os.Open("testdata/" + name + ".pcap.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// readAll returns all events of a file and the error at its end.
func readAll(tb tester, file []byte, opts Options) ([]Event, Stats, error) {
	tb.Helper()
	r, err := NewReader(bytes.NewReader(file), opts)
	if err != nil {
		return nil, Stats{}, err
	}
	events, err := collect(tb, r)
	return events, r.Stats(), err
}

// collect returns the events of a Reader and checks that nothing is left behind.
func collect(tb tester, r *Reader) (events []Event, err error) {
	tb.Helper()
	for ev, e := range r.Events(context.Background()) {
		if err = e; e == nil {
			events = append(events, ev.Clone())
		}
	}
	if r.buffered != 0 || r.waiting != 0 {
		tb.Errorf("%d and %d bytes are still accounted for", r.buffered, r.waiting)
	}
	return events, err
}

// mustRead returns all events of a file that is good.
func mustRead(tb tester, file []byte, opts Options) []Event {
	tb.Helper()
	events, _, err := readAll(tb, file, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return events
}

// line describes an event without its time, with long data cut.
func line(ev Event) string {
	short := func(b []byte) string {
		if len(b) > 24 {
			return fmt.Sprintf("%d:%.8q", len(b), b)
		}
		return fmt.Sprintf("%q", b)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", ev.Session.Server.Port(), ev.Kind)
	if ev.From != NoSide {
		fmt.Fprintf(&b, " %s", ev.From)
	}
	switch ev.Kind {
	case Greeting:
		fmt.Fprintf(&b, " %d.%d %s", ev.Greeting.Major, ev.Greeting.Minor, ev.Greeting.Mechanism)
	case Metadata:
		for _, p := range ev.Metadata {
			fmt.Fprintf(&b, " %s=%s", p.Name, p.Value)
		}
	case Message:
		for part := range ev.Message.Parts() {
			b.WriteString(" " + short(part))
		}
	case Command:
		fmt.Fprintf(&b, " %s %s", ev.Name, short(ev.Data))
	case Upgrade:
		b.WriteString(" " + ev.Name)
	case Encrypted:
		fmt.Fprintf(&b, " %d", ev.Size)
	case Gap, Resumed:
		fmt.Fprintf(&b, " %d", ev.Missing)
	case Problem:
		fmt.Fprintf(&b, " %v", ev.Err)
	case Closed:
		fmt.Fprintf(&b, " %s", ev.Closed)
	}
	return b.String()
}

func lines(events []Event) []string {
	all := make([]string, len(events))
	for i, ev := range events {
		all[i] = line(ev)
	}
	return all
}

// diff fails the test at the first difference.
func diff(tb tester, got, want []string) {
	tb.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			tb.Fatalf("%d: nothing, want %s", i, want[i])
		case i >= len(want):
			tb.Fatalf("%d: %s, want nothing", i, got[i])
		case got[i] != want[i]:
			tb.Fatalf("%d: %s\nwant %s", i, got[i], want[i])
		}
	}
}

// tcpSegment is a segment of a made-up connection; up is from client to server.
type tcpSegment struct {
	up            bool
	seq           uint32
	syn, fin, rst bool
	ack           uint32
	zeroWindow    bool
	payload       []byte
}

var (
	clientEnd = netip.MustParseAddrPort("192.0.2.1:40000")
	serverEnd = netip.MustParseAddrPort("192.0.2.2:5557")
)

// packet returns the segment as an Ethernet packet between the endpoints.
func (s tcpSegment) packet(tb tester, client, server netip.AddrPort) []byte {
	return s.serialize(tb, client, server, &layers.Ethernet{
		SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6),
		EthernetType: layers.EthernetTypeIPv4,
	})
}

// serialize returns the segment as a packet with the given layers below IP.
func (s tcpSegment) serialize(tb tester, client, server netip.AddrPort,
	below ...gopacket.SerializableLayer) []byte {
	from, to := client, server
	if !s.up {
		from, to = to, from
	}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Seq: s.seq,
		SYN: s.syn, FIN: s.fin, RST: s.rst, ACK: s.ack != 0 || s.syn && !s.up, Ack: s.ack,
		Window: 65535,
	}
	if s.zeroWindow {
		tcp.Window = 0
	}
	var ip gopacket.SerializableLayer
	if from.Addr().Is4() {
		l := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP,
			SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice(),
		}
		tcp.SetNetworkLayerForChecksum(l)
		ip = l
	} else {
		l := &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP,
			SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice(),
		}
		tcp.SetNetworkLayerForChecksum(l)
		ip = l
	}
	b := gopacket.NewSerializeBuffer()
	all := append(below[:len(below):len(below)], ip, tcp, gopacket.Payload(s.payload))
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true,
		ComputeChecksums: true}, all...); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// pcapFile makes a file of the packets, a millisecond apart.
func pcapFile(tb tester, link layers.LinkType, packets ...[]byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, link); err != nil {
		tb.Fatal(err)
	}
	for i, p := range packets {
		ci := gopacket.CaptureInfo{
			Timestamp:     time.Unix(1700000000, int64(i)*1e6),
			CaptureLength: len(p), Length: len(p),
		}
		if err := w.WritePacket(ci, p); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Bytes()
}

// file makes a file of segments between clientEnd and serverEnd.
func file(tb tester, segments ...tcpSegment) []byte {
	tb.Helper()
	packets := make([][]byte, len(segments))
	for i, s := range segments {
		packets[i] = s.packet(tb, clientEnd, serverEnd)
	}
	return pcapFile(tb, layers.LinkTypeEthernet, packets...)
}

// Sequence numbers of the SYNs of made-up connections.
const upISN, downISN = 1000, 2_000_000_000

// opening is the two SYNs.
func opening() []tcpSegment {
	return []tcpSegment{{up: true, seq: upISN, syn: true}, {seq: downISN, syn: true}}
}

// up and down are data at an offset of their direction.
func up(at int, b []byte) tcpSegment {
	return tcpSegment{up: true, seq: upISN + 1 + uint32(at), payload: b}
}

func down(at int, b []byte) tcpSegment {
	return tcpSegment{seq: downISN + 1 + uint32(at), payload: b}
}

// hello is greeting and READY of a NULL connection.
func hello(socket wire.SocketType) []byte {
	b := wire.AppendGreeting(nil, "NULL", false)
	return wire.AppendCommand(b, wire.CmdReady, wire.AppendProperty(nil, wire.PropSocketType,
		[]byte(socket)))
}

// pushed is what the client of a PUSH/PULL connection sends, with the given messages of one part.
func pushed(messages ...string) []byte {
	b := hello(wire.PUSH)
	for _, m := range messages {
		b = wire.AppendFrame(b, 0, []byte(m))
	}
	return b
}
