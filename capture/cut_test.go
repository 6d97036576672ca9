package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
)

// direction is one direction between two endpoints.
type direction struct{ from, to netip.AddrPort }

// said returns the messages and commands behind the handshake of each direction, in order.
func said(tb tester, file []byte) (map[direction][]string, error) {
	r, err := NewReader(bytes.NewReader(file), Options{})
	if err != nil {
		return nil, err
	}
	got := map[direction][]string{}
	for ev, e := range r.Events(context.Background()) {
		if e != nil {
			err = e
			break
		}
		d := direction{ev.Source(), ev.To()}
		switch {
		case ev.Kind == Message:
			got[d] = append(got[d], string(ev.Message.Wire()))
		case ev.Kind == Command && (ev.Name == wire.CmdPing || ev.Name == wire.CmdSubscribe ||
			ev.Name == wire.CmdCancel):
			got[d] = append(got[d], ev.Name+" "+string(ev.Data))
		}
	}
	if r.buffered != 0 || r.waiting != 0 {
		tb.Fatalf("%d and %d bytes are still accounted for", r.buffered, r.waiting)
	}
	return got, err
}

// checkSaid checks that nothing was found that was not sent.
func checkSaid(tb tester, got, sent map[direction][]string) {
	tb.Helper()
	for d, list := range got {
		rest := sent[d]
		for _, m := range list {
			i := slices.Index(rest, m)
			if i < 0 {
				tb.Fatalf("%v to %v: %.200q was not sent, or not after the one before", d.from,
					d.to, m)
			}
			rest = rest[i+1:]
		}
	}
}

// packetsOf returns the packets of a pcap file in Ethernet.
func packetsOf(tb tester, file []byte) (packets [][]byte) {
	tb.Helper()
	source, err := OpenFile(bytes.NewReader(file))
	if err != nil {
		tb.Fatal(err)
	}
	for {
		p, err := source.Next()
		if err == io.EOF {
			return packets
		}
		if err != nil || p.Link != linkEthernet {
			tb.Fatalf("link type %d, %v", p.Link, err)
		}
		packets = append(packets, bytes.Clone(p.Data))
	}
}

// No cut of a capture makes a message appear that nobody sent: packets that are dropped, repeated,
// shortened or in another order, and a file that ends anywhere.
func TestAnyCut(t *testing.T) {
	for _, name := range []string{"cluster", "libzmq-mix", "cluster-curve"} {
		t.Run(name, func(t *testing.T) {
			packets := packetsOf(t, recording(t, name))
			sent, err := said(t, pcapFile(t, layers.LinkTypeEthernet, packets...))
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				file := pcapFile(t, layers.LinkTypeEthernet, cutPackets(t, packets)...)
				ends := len(file)
				if rapid.Bool().Draw(t, "the file ends early") {
					ends = rapid.IntRange(24, len(file)).Draw(t, "end")
				}
				got, err := said(t, file[:ends])
				if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				checkSaid(t, got, sent)
			})
		})
	}
}

// cutPackets draws what becomes of packets.
func cutPackets(t *rapid.T, packets [][]byte) (out [][]byte) {
	// A generator of its own, since rapid takes long for so many draws.
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	share := rapid.SampledFrom([]int{0, 1, 5, 30}).Draw(t, "percent")
	from := min(rapid.SampledFrom([]int{0, 0, 10, 100}).Draw(t, "first"), len(packets))
	reach := rapid.IntRange(1, 30).Draw(t, "reach")
	late := map[int][][]byte{}
	for i, p := range packets[from:] {
		out = append(out, late[i]...)
		if random.IntN(100) < share {
			switch random.IntN(4) {
			case 0: // lost
				continue
			case 1: // repeated
				out = append(out, p)
			case 2: // shortened
				p = p[:random.IntN(len(p)+1)]
			case 3: // late
				at := i + 1 + random.IntN(reach)
				late[at] = append(late[at], p)
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

// The same for sessions whose messages look like anything: runs of zeros, small numbers, frames.
func TestAnyCutOfAnyMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// A body that consists of frames is a different matter, see resync.go: so it is short.
		framed := wire.AppendFrame(wire.AppendFrame(nil, wire.More, []byte("a")), 0, []byte("bc"))
		bodies := rapid.OneOf(
			rapid.SliceOfN(rapid.Byte(), 0, 300),
			rapid.SliceOfN(rapid.ByteRange(0, 3), 0, 300),
			rapid.Just(make([]byte, 6000)),
			rapid.Just(bytes.Repeat([]byte{1}, 5000)),
			rapid.Just(bytes.Repeat(framed, 20)),
		)
		kinds := rapid.SliceOfN(bodies, 1, 5).Draw(t, "bodies")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "messages"), 0))
		stream := hello(wire.PUSH)
		for range random.IntN(100) {
			for parts := random.IntN(4); parts >= 0; parts-- {
				flags := wire.More
				if parts == 0 {
					flags = 0
				}
				stream = wire.AppendFrame(stream, flags, kinds[random.IntN(len(kinds))])
			}
		}
		segments := established()
		for at := 0; at < len(stream); at += 1448 {
			segments = append(segments, up(at, stream[at:min(at+1448, len(stream))]))
		}
		var packets [][]byte
		for _, s := range segments {
			packets = append(packets, s.packet(t, clientEnd, serverEnd))
		}
		sent, err := said(t, pcapFile(t, layers.LinkTypeEthernet, packets...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := said(t, pcapFile(t, layers.LinkTypeEthernet, cutPackets(t, packets)...))
		if err != nil {
			t.Fatal(err)
		}
		checkSaid(t, got, sent)
	})
}
