package capture

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

func TestSplitAtEveryByte(t *testing.T) {
	stream := wire.AppendCommand(pushed("one", strings.Repeat("x", 300)), wire.CmdPing,
		[]byte{0, 1})
	want := append(slices.Clone(openedBoth), `5557 message client "one"`,
		`5557 message client 300:"xxxxxxxx"`,
		`5557 command client PING "\x00\x01"`, "5557 closed end_of_file")
	for n := range stream {
		diff(t, read(t, append(established(), up(0, stream[:n]), up(n, stream[n:]))...), want)
		diff(t, read(t, append(established(), up(n, stream[n:]), up(0, stream[:n]))...), want)
	}
	segments := established()
	for i := range stream {
		segments = append(segments, up(i, stream[i:i+1]))
	}
	diff(t, read(t, segments...), want)
}

// shuffle draws the order in which segments arrive: each at most reach places from its own, some of
// them twice, and some cut anew as retransmissions are.
func shuffle(t *rapid.T, segments []tcpSegment, reach int) []tcpSegment {
	type placed struct {
		s  tcpSegment
		at int
	}
	var all []placed
	for i, s := range segments {
		for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "copies") {
			all = append(all, placed{s, i + rapid.IntRange(0, reach).Draw(t, "delay")})
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return a.at - b.at })
	out := make([]tcpSegment, len(all))
	for i, p := range all {
		out[i] = p.s
	}
	return out
}

// cut draws segments that cover a stream, which may overlap.
func cut(t *rapid.T, b []byte, segment func(at int, b []byte) tcpSegment) (out []tcpSegment) {
	for at := 0; at < len(b); {
		end := min(len(b), at+rapid.SampledFrom([]int{1, 2, 7, 64, 500, 1448, 4000}).
			Draw(t, "size"))
		from := max(0, at-rapid.SampledFrom([]int{0, 0, 0, 1, 10, 3000}).Draw(t, "overlap"))
		out = append(out, segment(from, b[from:end]))
		at = end
	}
	return out
}

// However the streams are segmented, reordered and repeated, what each side says is the same, and
// wherever sequence numbers begin.
func TestAnySegmentation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 0, 300)
		streams := [2][]byte{hello(wire.DEALER), hello(wire.DEALER)}
		want := [2][]string{}
		for side, name := range []string{"client", "server"} {
			want[side] = []string{"5557 greeting " + name + " 3.1 NULL",
				"5557 metadata " + name + " Socket-Type=DEALER"}
			for range rapid.IntRange(0, 8).Draw(t, "messages") {
				b, text := streams[side], ""
				for i, last := 0, rapid.IntRange(0, 3).Draw(t, "last"); i <= last; i++ {
					if rapid.Bool().Draw(t, "command") {
						data := body.Draw(t, "data")
						b = wire.AppendCommand(b, "ANY", data)
						want[side] = append(want[side],
							line(Event{Kind: Command, From: Side(side + 1), Name: "ANY",
								Data: data, Session: &Session{Server: serverEnd}}))
					}
					part := bytes.Repeat(body.Draw(t, "part"),
						rapid.SampledFrom([]int{0, 1, 1, 1, 50}).Draw(t, "times"))
					flags := wire.More
					if i == last {
						flags = 0
					}
					b = wire.AppendFrame(b, flags, part)
					if len(part) > 24 {
						text += fmt.Sprintf(" %d:%.8q", len(part), part)
					} else {
						text += fmt.Sprintf(" %q", part)
					}
				}
				streams[side] = b
				want[side] = append(want[side], "5557 message "+name+text)
			}
		}
		upBase, downBase := rapid.Uint32().Draw(t, "up ISN"), rapid.Uint32().Draw(t, "down ISN")
		segments := cut(t, streams[0], func(at int, b []byte) tcpSegment {
			return tcpSegment{up: true, seq: upBase + 1 + uint32(at), payload: b}
		})
		downs := cut(t, streams[1], func(at int, b []byte) tcpSegment {
			return tcpSegment{seq: downBase + 1 + uint32(at), payload: b}
		})
		segments[len(segments)-1].fin = true
		downs[len(downs)-1].fin = true
		// Both directions in turn, the SYNs first, though they may come late.
		mixed := []tcpSegment{{up: true, seq: upBase, syn: true}, {seq: downBase, syn: true}}
		for len(segments)+len(downs) > 0 {
			if len(downs) == 0 || len(segments) > 0 && rapid.Bool().Draw(t, "up") {
				mixed, segments = append(mixed, segments[0]), segments[1:]
			} else {
				mixed, downs = append(mixed, downs[0]), downs[1:]
			}
		}
		mixed = shuffle(t, mixed, rapid.SampledFrom([]int{0, 2, 10}).Draw(t, "reach"))
		var got [2][]string
		events := mustRead(t, file(t, mixed...), Options{})
		for _, ev := range events {
			switch {
			case ev.Kind == Problem:
				t.Fatalf("%s", line(ev))
			case ev.From != NoSide:
				got[ev.From-1] = append(got[ev.From-1], line(ev))
			}
		}
		for side := range got {
			diff(t, got[side], want[side])
		}
		if first, last := line(events[0]), line(events[len(events)-1]); first != "5557 opened" ||
			last != "5557 closed finished" {
			t.Fatalf("it begins with %s and ends with %s", first, last)
		}
	})
}

// Within a frame whose header was seen a gap costs one message. At the end of the file, or of the
// connection, what was missing will not come.
func TestGapInFrame(t *testing.T) {
	stream := pushed("one", "two", "three")
	split := len(pushed("one")) + 3
	segments := append(established(), up(0, stream[:split]), up(split+2, stream[split+2:]))
	want := append(slices.Clone(openedBoth), `5557 message client "one"`, "5557 gap client 2",
		`5557 message client "three"`)
	diff(t, read(t, segments...), append(slices.Clone(want), "5557 closed end_of_file"))
	rst := tcpSegment{up: true, seq: upISN + 1 + uint32(len(stream)), rst: true}
	diff(t, read(t, append(segments, rst)...), append(slices.Clone(want), "5557 closed reset"))
	// The other direction goes on, and the connection still ends with both FINs.
	diff(t, read(t, append(segments,
		down(len(hello(wire.PULL)), wire.AppendCommand(nil, wire.CmdPing, []byte{0, 0})),
		tcpSegment{up: true, seq: upISN + 1 + uint32(len(stream)), fin: true},
		tcpSegment{seq: downISN + 1 + uint32(len(hello(wire.PULL))) + 8, fin: true},
	)...), slices.Concat(want[:6], []string{`5557 command server PING "\x00\x00"`}, want[6:],
		[]string{"5557 closed end_of_file"}))
}

// manyMessages returns a stream of messages of three parts, and their lines.
func manyMessages(n int) (stream []byte, want []string) {
	stream = pushed()
	for i := range n {
		body := fmt.Appendf(nil, "body %d %s", i, strings.Repeat("x", i%200))
		stream = wire.AppendFrame(stream, wire.More, []byte("topic"))
		stream = wire.AppendFrame(stream, wire.More, fmt.Appendf(nil, "node-%d", i))
		stream = wire.AppendFrame(stream, 0, body)
		m := zmtp.NewMessage([]byte("topic"), fmt.Appendf(nil, "node-%d", i), body)
		want = append(want, line(Event{Kind: Message, From: Client, Message: m,
			Session: &Session{Server: serverEnd}}))
	}
	return stream, want
}

// Behind a larger gap the boundaries of frames are found again.
func TestResumed(t *testing.T) {
	stream, want := manyMessages(1000)
	for _, split := range []int{len(hello(wire.PUSH)), len(hello(wire.PUSH)) + 7, 10_000, 70, 5} {
		for _, missing := range []int{300, 5000} {
			segments := established()
			segments = append(segments, up(0, stream[:split]))
			for at := split + missing; at < len(stream); at += 1000 {
				segments = append(segments, up(at, stream[at:min(at+1000, len(stream))]))
			}
			got := read(t, segments...)
			i := slices.IndexFunc(got, func(l string) bool {
				return strings.HasPrefix(l, "5557 resumed client ")
			})
			if i < 0 {
				t.Fatalf("%d bytes missing at %d: %q", missing, split, got[:min(len(got), 10)])
			}
			rest := got[i+1 : len(got)-1]
			diff(t, rest, want[len(want)-len(rest):])
			if len(rest) < 1000-(split+missing+searchFirst)/50 {
				t.Errorf("%d bytes missing at %d: only %d messages", missing, split, len(rest))
			}
		}
	}
	// The file begins within the session.
	var segments []tcpSegment
	for at := 5000; at < len(stream); at += 1000 {
		segments = append(segments, up(at, stream[at:min(at+1000, len(stream))]))
	}
	got := read(t, segments...)
	if len(got) < 800 || got[0] != "5557 opened" ||
		!strings.HasPrefix(got[1], "5557 resumed client ") {
		t.Fatalf("%d lines: %q", len(got), got[:min(len(got), 5)])
	}
	rest := got[2 : len(got)-1]
	diff(t, rest, want[len(want)-len(rest):])
}

// A gap whose end the receiver has acknowledged was lost by the capture, not by the network: what
// is behind it is not held back for long.
func TestGapAcknowledged(t *testing.T) {
	stream, _ := manyMessages(3000)
	segments := append(established(), up(0, stream[:1000]))
	for at := 1500; at < len(stream); at += 500 {
		segments = append(segments, up(at, stream[at:min(at+500, len(stream))]),
			tcpSegment{seq: downISN + 1 + uint32(len(hello(wire.PULL))),
				ack: upISN + 1 + uint32(at)})
	}
	events := mustRead(t, file(t, segments...), Options{})
	i := slices.IndexFunc(events, func(ev Event) bool { return ev.Kind == Gap })
	if i < 0 || events[i].Time.Sub(events[0].Time) > 300*time.Millisecond {
		t.Fatalf("gap: %d of %d", i, len(events))
	}
	if !errors.Is(events[i].Err, ErrGap) || events[i].Missing != 500 {
		t.Errorf("%s: %v", line(events[i]), events[i].Err)
	}
}

// More than may wait for a missing segment makes it a gap.
func TestGapByLimit(t *testing.T) {
	segments := append(established(), up(0, pushed("one")))
	at := len(pushed("one")) + 100
	for i := range 40 {
		segments = append(segments, up(at+10*i, make([]byte, 10)))
	}
	for name, l := range map[string]limits{
		"segments": {sessions: 10, held: 30, waiting: 1 << 20, waitingTotal: 1 << 20},
		"bytes":    {sessions: 10, held: 100, waiting: 300, waitingTotal: 1 << 20},
		"total":    {sessions: 10, held: 100, waiting: 1 << 20, waitingTotal: 300},
	} {
		t.Run(name, func(t *testing.T) {
			l.message, l.buffered, l.firstOffset = 1<<20, 1<<20, firstOffset
			source, err := OpenFile(bytes.NewReader(file(t, segments...)))
			if err != nil {
				t.Fatal(err)
			}
			r := newReader(source, Options{}, l)
			events, err := collect(t, r)
			if err != nil {
				t.Fatal(err)
			}
			diff(t, lines(events), append(slices.Clone(openedBoth), `5557 message client "one"`,
				"5557 gap client 100", "5557 closed end_of_file"))
			if gap := events[len(events)-2]; gap.Time.Equal(r.now) {
				t.Error("the gap was found only at the end")
			}
		})
	}
}

func TestSnapLength(t *testing.T) {
	stream := pushed("one", "two", strings.Repeat("x", 100))
	segments := append(established(), up(0, stream), up(len(stream),
		wire.AppendFrame(nil, 0, []byte("four"))))
	var packets [][]byte
	for i, s := range segments {
		p := s.packet(t, clientEnd, serverEnd)
		if i == 3 {
			p = p[:len(p)-60] // within the third message
		}
		packets = append(packets, p)
	}
	events, stats, err := readAll(t, pcapFile(t, layers.LinkTypeEthernet, packets...), Options{})
	if err != nil || stats.Truncated != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
	diff(t, lines(events), append(slices.Clone(openedBoth), `5557 message client "one"`,
		`5557 message client "two"`, "5557 gap client 60", `5557 message client "four"`,
		"5557 closed end_of_file"))
	if !errors.Is(events[len(events)-3].Err, ErrSnapLen) {
		t.Error("the gap is not ErrSnapLen")
	}
	// Sent again as a whole it is whole.
	packets = slices.Insert(packets, 3, segments[3].packet(t, clientEnd, serverEnd))
	if events := mustRead(t, pcapFile(t, layers.LinkTypeEthernet, packets...),
		Options{}); len(events) != 5+4+1 {
		t.Errorf("%q", lines(events))
	}
}
