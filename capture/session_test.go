package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
)

// read returns the lines of the events of some segments.
func read(t tester, segments ...tcpSegment) []string {
	t.Helper()
	return lines(mustRead(t, file(t, segments...), Options{}))
}

// Events of a good session of clientEnd, which pushes, with serverEnd.
var (
	openedServer = []string{"5557 opened", "5557 greeting server 3.1 NULL", "5557 metadata server Socket-Type=PULL"}
	openedBoth   = append(slices.Clone(openedServer), "5557 greeting client 3.1 NULL", "5557 metadata client Socket-Type=PUSH")
)

// cat joins lists of segments.
func cat(lists ...[]tcpSegment) []tcpSegment { return slices.Concat(lists...) }

// established is the two SYNs and what the server says.
func established() []tcpSegment { return append(opening(), down(0, hello(wire.PULL))) }

func TestSplitAtEveryByte(t *testing.T) {
	stream := wire.AppendCommand(pushed("one", strings.Repeat("x", 300)), wire.CmdPing, []byte{0, 1})
	want := append(slices.Clone(openedBoth), `5557 message client "one"`, `5557 message client 300:"xxxxxxxx"`,
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

// shuffle draws the order in which segments arrive: each at most reach places from its own, some of them twice, and some cut
// anew as retransmissions are.
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
		end := min(len(b), at+rapid.SampledFrom([]int{1, 2, 7, 64, 500, 1448, 4000}).Draw(t, "size"))
		from := max(0, at-rapid.SampledFrom([]int{0, 0, 0, 1, 10, 3000}).Draw(t, "overlap"))
		out = append(out, segment(from, b[from:end]))
		at = end
	}
	return out
}

// However the streams are segmented, reordered and repeated, what each side says is the same, and wherever
// sequence numbers begin.
func TestAnySegmentation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 0, 300)
		streams := [2][]byte{hello(wire.DEALER), hello(wire.DEALER)}
		want := [2][]string{}
		for side, name := range []string{"client", "server"} {
			want[side] = []string{"5557 greeting " + name + " 3.1 NULL", "5557 metadata " + name + " Socket-Type=DEALER"}
			for range rapid.IntRange(0, 8).Draw(t, "messages") {
				b, text := streams[side], ""
				for i, last := 0, rapid.IntRange(0, 3).Draw(t, "last"); i <= last; i++ {
					if rapid.Bool().Draw(t, "command") {
						data := body.Draw(t, "data")
						b = wire.AppendCommand(b, "ANY", data)
						want[side] = append(want[side], line(Event{Kind: Command, From: Side(side + 1), Name: "ANY", Data: data, Session: &Session{Server: serverEnd}}))
					}
					part := bytes.Repeat(body.Draw(t, "part"), rapid.SampledFrom([]int{0, 1, 1, 1, 50}).Draw(t, "times"))
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
		if first, last := line(events[0]), line(events[len(events)-1]); first != "5557 opened" || last != "5557 closed finished" {
			t.Fatalf("it begins with %s and ends with %s", first, last)
		}
	})
}

func TestGap(t *testing.T) {
	stream := pushed("one", "two", "three")
	split := len(pushed("one")) + 1
	segments := append(established(), up(0, stream[:split]), up(split+2, stream[split+2:]))
	want := append(slices.Clone(openedBoth), `5557 message client "one"`)
	// At the end of the file, or of the connection, what was missing will not come.
	diff(t, read(t, segments...), append(slices.Clone(want),
		"5557 problem client capture: packets are missing: 2 bytes", "5557 closed end_of_file"))
	rst := tcpSegment{up: true, seq: upISN + 1 + uint32(len(stream)), rst: true}
	diff(t, read(t, append(segments, rst)...), append(slices.Clone(want),
		"5557 problem client capture: packets are missing: 2 bytes", "5557 closed reset"))
	// The other direction goes on, and the connection still ends with both FINs.
	diff(t, read(t, append(segments,
		down(len(hello(wire.PULL)), wire.AppendCommand(nil, wire.CmdPing, []byte{0, 0})),
		tcpSegment{up: true, seq: upISN + 1 + uint32(len(stream)), fin: true},
		tcpSegment{seq: downISN + 1 + uint32(len(hello(wire.PULL))) + 8, fin: true},
	)...), append(slices.Clone(want), `5557 command server PING "\x00\x00"`,
		"5557 problem client capture: packets are missing: 2 bytes", "5557 closed end_of_file"))
}

// Where gopacket's numbers wrap around nothing is wrong as long as segments are in order. If they are not, it may be taken for a
// gap, but never is anything else found than what was sent.
func TestWrap(t *testing.T) {
	var messages []string
	for i := range 100 {
		messages = append(messages, fmt.Sprint("message ", i))
	}
	stream := pushed(messages...)
	want := slices.Clone(openedBoth)
	for _, m := range messages {
		want = append(want, fmt.Sprintf("5557 message client %q", m))
	}
	rapid.Check(t, func(t *rapid.T) {
		segments := cut(t, stream, up)
		inOrder := rapid.Bool().Draw(t, "in order")
		if !inOrder {
			segments = shuffle(t, segments, 5)
		}
		l := limits{
			sessions: 10, pages: 100, pagesTotal: 100, message: 1 << 20, buffered: 1 << 20,
			firstOffset: 1<<32 - rapid.Int64Range(-10, int64(len(stream))+10).Draw(t, "before"),
		}
		r, err := newReader(bytes.NewReader(file(t, append(established(), segments...)...)), Options{}, l)
		if err != nil {
			t.Fatal(err)
		}
		events, err := collect(t, r)
		if err != nil {
			t.Fatal(err)
		}
		got := lines(events[:len(events)-1])
		if last := events[len(events)-2]; !inOrder && errors.Is(last.Err, ErrGap) {
			got = got[:len(got)-1]
			diff(t, got, want[:len(got)])
			return
		}
		diff(t, got, want)
	})
}

// gopacket takes the byte behind the wrap for the one before it.
func TestGapAtWrap(t *testing.T) {
	stream := pushed("one", "two")
	for missing := len(pushed("one")); missing < len(stream)-1; missing++ {
		l := limits{
			sessions: 10, pages: 100, pagesTotal: 100, message: 1 << 20, buffered: 1 << 20,
			firstOffset: 1<<32 - int64(missing) - 2,
		}
		b := file(t, append(established(), up(0, stream[:missing]), up(missing+1, stream[missing+1:]))...)
		r, err := newReader(bytes.NewReader(b), Options{}, l)
		if err != nil {
			t.Fatal(err)
		}
		events, err := collect(t, r)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, lines(events), append(slices.Clone(openedBoth), `5557 message client "one"`,
			"5557 problem client "+ErrGap.Error(), "5557 closed end_of_file"))
	}
}

// What waits behind the first of several gaps is dropped with it.
func TestGaps(t *testing.T) {
	segments := append(established(), up(0, pushed("one")))
	for i := 1; i < 10; i++ {
		segments = append(segments, up(len(pushed("one"))+100*i, make([]byte, 10)))
	}
	want := append(slices.Clone(openedBoth), `5557 message client "one"`,
		"5557 problem client capture: packets are missing: 100 bytes", "5557 closed end_of_file")
	diff(t, read(t, segments...), want)
	slices.Reverse(segments[4:])
	diff(t, read(t, segments...), want)
}

// More than may wait for a missing segment makes it a gap; afterwards nothing of that direction is kept.
func TestGapByLimit(t *testing.T) {
	segments := append(established(), up(0, pushed("one")))
	at := len(pushed("one")) + 100
	for i := range 40 {
		segments = append(segments, up(at+10*i, make([]byte, 10)))
	}
	l := limits{sessions: 10, pages: 30, pagesTotal: 100, message: 1 << 20, buffered: 1 << 20, firstOffset: firstOffset}
	r, err := newReader(bytes.NewReader(file(t, segments...)), Options{}, l)
	if err != nil {
		t.Fatal(err)
	}
	events, err := collect(t, r)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, lines(events), append(slices.Clone(openedBoth), `5557 message client "one"`,
		"5557 problem client capture: packets are missing: 100 bytes", "5557 closed end_of_file"))
	if problem := events[len(events)-2]; problem.Time.Equal(r.now) {
		t.Error("the gap was found only at the end")
	}
}

func TestSnapLength(t *testing.T) {
	stream := pushed("one", "two", strings.Repeat("x", 100))
	segments := append(established(), up(0, stream), up(len(stream), wire.AppendFrame(nil, 0, []byte("four"))))
	var packets [][]byte
	for i, s := range segments {
		p := s.packet(t, clientEnd, serverEnd)
		if i == 3 {
			p = p[:len(p)-60]
		}
		packets = append(packets, p)
	}
	events, stats, err := readAll(t, pcapFile(t, layers.LinkTypeEthernet, packets...), Options{})
	if err != nil || stats.Truncated != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
	diff(t, lines(events), append(slices.Clone(openedBoth), `5557 message client "one"`, `5557 message client "two"`,
		"5557 problem client "+ErrSnapLen.Error(), "5557 closed end_of_file"))
	if !errors.Is(events[len(events)-2].Err, ErrSnapLen) {
		t.Error("the problem is not ErrSnapLen")
	}
	// Sent again as a whole it is whole.
	packets = slices.Insert(packets, 3, segments[3].packet(t, clientEnd, serverEnd))
	if events := mustRead(t, pcapFile(t, layers.LinkTypeEthernet, packets...), Options{}); len(events) != 5+4+1 {
		t.Errorf("%q", lines(events))
	}
}

// A session of which the beginning is missing cannot be decoded: that is said once, soon or at its end.
func TestBegunBefore(t *testing.T) {
	diff(t, read(t, up(0, []byte("a")), down(0, []byte("b")), up(1, []byte("c"))),
		[]string{"5557 problem " + ErrNoStart.Error()})
	segments := []tcpSegment{{up: true, seq: 1}}
	for i := range 2 * maxEarly {
		segments = append(segments, up(i, []byte("x")), down(i, []byte("x")))
	}
	events, stats, err := readAll(t, file(t, segments...), Options{})
	if err != nil || stats.NoStart != 1 || stats.OtherSessions != 0 {
		t.Errorf("%+v, %v", stats, err)
	}
	diff(t, lines(events), []string{"5557 problem " + ErrNoStart.Error()})
	if s := events[0].Session; s.Client != clientEnd || s.Server != serverEnd {
		t.Errorf("%+v", s)
	}
	// It makes way for a new connection of the same endpoints.
	diff(t, read(t, append(segments, cat(established(), []tcpSegment{up(0, pushed("one"))})...)...),
		slices.Concat([]string{"5557 problem " + ErrNoStart.Error()}, openedBoth, []string{`5557 message client "one"`, "5557 closed end_of_file"}))
	// One that is not wanted is not mentioned.
	if events := mustRead(t, file(t, segments...), onPort(1)); len(events) != 0 {
		t.Errorf("%q", lines(events))
	}
	// Only the SYN of one side is missing.
	diff(t, read(t, opening()[0], up(0, pushed("one")), down(0, hello(wire.PULL))),
		[]string{"5557 opened", "5557 greeting client 3.1 NULL", "5557 metadata client Socket-Type=PUSH", `5557 message client "one"`,
			"5557 problem server " + ErrNoStart.Error(), "5557 closed end_of_file"})
}

func TestPortReused(t *testing.T) {
	again := cat(established(), []tcpSegment{up(0, pushed("two"))})
	for i := range again {
		again[i].seq += 123456
	}
	first := append(established(), up(0, pushed("one")))
	late := up(len(pushed("one")), wire.AppendFrame(nil, 0, []byte("late")))
	fins := []tcpSegment{
		{up: true, seq: upISN + 1 + uint32(len(pushed("one"))), fin: true},
		{seq: downISN + 1 + uint32(len(hello(wire.PULL))), fin: true},
	}
	one := append(slices.Clone(openedBoth), `5557 message client "one"`)
	two := append(slices.Clone(openedBoth), `5557 message client "two"`, "5557 closed end_of_file")
	diff(t, read(t, cat(first, again)...), slices.Concat(one, []string{"5557 closed port_reused"}, two))
	diff(t, read(t, cat(first, fins, []tcpSegment{late, first[2]}, fins, again)...), slices.Concat(one, []string{"5557 closed finished"}, two))
	// The same SYN again does not begin another connection.
	diff(t, read(t, cat(first, opening())...), append(slices.Clone(one), "5557 closed end_of_file"))
	// A refused connection, and a second try.
	refused := []tcpSegment{{up: true, seq: 5, syn: true}, {seq: 0, rst: true}}
	diff(t, read(t, cat(refused, again)...), two)
}

// As many sessions as may be are remembered; the one that was quiet for longest makes room.
func TestEvicted(t *testing.T) {
	var packets [][]byte
	add := func(port uint16, segments ...tcpSegment) {
		for _, s := range segments {
			packets = append(packets, s.packet(t, netip.AddrPortFrom(clientEnd.Addr(), port), serverEnd))
		}
	}
	add(1, established()...)
	add(2, established()...)
	add(1, up(0, pushed("one")))
	add(3, established()...)
	l := limits{sessions: 2, pages: 30, pagesTotal: 100, message: 1 << 20, buffered: 1 << 20, firstOffset: firstOffset}
	r, err := newReader(bytes.NewReader(pcapFile(t, layers.LinkTypeEthernet, packets...)), Options{}, l)
	if err != nil {
		t.Fatal(err)
	}
	events, err := collect(t, r)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, lines(events), slices.Concat(openedServer, openedServer, openedBoth[3:], []string{`5557 message client "one"`,
		"5557 closed evicted"}, openedServer, []string{"5557 closed end_of_file", "5557 closed end_of_file"}))
	if evicted := events[9].Session.Client.Port(); evicted != 2 {
		t.Errorf("session of port %d was evicted", evicted)
	}
}

// What is not ZMTP has no events, unless the other side is.
func TestNotZMTP(t *testing.T) {
	http := []byte("GET / HTTP/1.1\r\n\r\n")
	events, stats, err := readAll(t, file(t, append(opening(), up(0, http), down(0, []byte("HTTP/1.1 200 OK")))...), Options{})
	if err != nil || len(events) != 0 || stats.OtherSessions != 1 || stats.Sessions != 0 {
		t.Errorf("%q, %+v, %v", lines(events), stats, err)
	}
	notZMTP := "5557 problem client zmtp: not_zmtp: first byte is 0x47, want 0xff; ZMTP 1.0 is not supported"
	diff(t, read(t, append(established(), up(0, http))...), append(slices.Clone(openedServer), notZMTP, "5557 closed end_of_file"))
	diff(t, read(t, append(opening(), up(0, http), down(0, hello(wire.PULL)))...),
		slices.Concat(openedServer[:1], []string{notZMTP}, openedServer[1:], []string{"5557 closed end_of_file"}))
}

// What breaks ZMTP ends a direction, or the session, with one problem that says why.
func TestProblems(t *testing.T) {
	greeting := func(mechanism string) []byte { return wire.AppendGreeting(nil, mechanism, false) }
	socket := wire.AppendProperty(nil, wire.PropSocketType, []byte("PUSH"))
	huge := binary.BigEndian.AppendUint64([]byte{byte(wire.Long)}, 1<<40)
	old := bytes.Clone(hello(wire.PUSH))
	old[10] = 1
	for _, test := range []struct {
		name   string
		stream []byte
		reason wire.Reason
		err    error
	}{
		{"ZMTP 2.0", old, wire.UnsupportedVersion, nil},
		{"mechanisms differ", greeting("PLAIN"), wire.MechanismMismatch, nil},
		{"mechanism unknown", greeting("GSSAPI"), wire.ReasonNone, ErrMechanism},
		{"message for READY", append(greeting("NULL"), 0, 1, 'x'), wire.MalformedCommand, nil},
		{"SUBSCRIBE for READY", wire.AppendCommand(greeting("NULL"), wire.CmdSubscribe, nil), wire.UnexpectedCommand, nil},
		{"HELLO of NULL", wire.AppendCommand(greeting("NULL"), "HELLO", nil), wire.UnexpectedCommand, nil},
		{"huge READY", append(greeting("NULL"), huge...), wire.CommandTooLarge, nil},
		{"metadata", wire.AppendCommand(greeting("NULL"), wire.CmdReady, socket[:len(socket)-1]), wire.MalformedReady, nil},
		{"reserved flags", append(pushed(), 0xff, 0), wire.MalformedFrame, nil},
		{"huge message", append(pushed(), huge...), wire.MessageTooLarge, nil},
		{"huge command", append(pushed(), append([]byte{byte(wire.Long | wire.Command)}, huge[1:]...)...), wire.CommandTooLarge, nil},
		{"empty command", append(pushed(), byte(wire.Command), 0), wire.MalformedCommand, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			events := mustRead(t, file(t, append(established(), up(0, test.stream), up(len(test.stream), make([]byte, 1000)))...), Options{})
			problems := 0
			for _, ev := range events {
				if ev.Kind != Problem {
					continue
				}
				problems++
				if test.err != nil && !errors.Is(ev.Err, test.err) {
					t.Errorf("%v, want %v", ev.Err, test.err)
				}
				var violation *wire.Error
				if test.err == nil && (!errors.As(ev.Err, &violation) || violation.Reason != test.reason) {
					t.Errorf("%v, want %s", ev.Err, test.reason)
				}
			}
			if problems != 1 || line(events[len(events)-1]) != "5557 closed end_of_file" {
				t.Errorf("%q", lines(events))
			}
		})
	}
}

// A message that is announced takes no memory before it comes, and all unfinished ones together are bounded.
func TestMemory(t *testing.T) {
	announced := append(pushed(), byte(wire.Long))
	announced = binary.BigEndian.AppendUint64(announced, 60<<20)
	var packets [][]byte
	for port := range uint16(100) {
		client := netip.AddrPortFrom(clientEnd.Addr(), 1000+port)
		for _, s := range append(established(), up(0, announced), up(len(announced), make([]byte, 1<<10))) {
			packets = append(packets, s.packet(t, client, serverEnd))
		}
	}
	b := pcapFile(t, layers.LinkTypeEthernet, packets...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	events := mustRead(t, b, Options{})
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 || len(events) != 100*6 {
		t.Errorf("%d events took %d bytes", len(events), took)
	}
	// What is open at the end is closed in the order in which it began.
	for i, ev := range events[len(events)-100:] {
		if ev.Kind != Closed || ev.Session.Client.Port() != uint16(1000+i) {
			t.Fatalf("%d: %s of %v", i, line(ev), ev.Session.Client)
		}
	}
	problems := 0
	for _, ev := range mustRead(t, b, Options{MaxBuffered: 20 << 10}) {
		if ev.Kind == Problem {
			if problems++; !errors.Is(ev.Err, ErrMemory) {
				t.Errorf("%s", line(ev))
			}
		}
	}
	// Each needs 1 KiB and a little.
	if problems < 80 || problems > 90 {
		t.Errorf("%d of 100 sessions were too much for 20 KiB", problems)
	}
	small := mustRead(t, b, Options{MaxMessageSize: 1 << 20})
	var violation *wire.Error
	if ev := small[5]; !errors.As(ev.Err, &violation) || violation.Reason != wire.MessageTooLarge {
		t.Errorf("%s", line(ev))
	}
}

// Events belong to who got them, a loop may be left, and a context ends one.
func TestEvents(t *testing.T) {
	b := recording(t, "cluster")
	want := mustRead(t, b, Options{})
	wantLines := lines(want)
	for i, ev := range mustRead(t, b, Options{}) {
		if !bytes.Equal(ev.Message.Wire(), want[i].Message.Wire()) || !bytes.Equal(ev.Data, want[i].Data) {
			t.Fatalf("%d: %s, want %s", i, line(ev), line(want[i]))
		}
	}
	diff(t, lines(want), wantLines)
	for n := range 30 {
		r, err := NewReader(bytes.NewReader(b), Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for ev, err := range r.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, line(ev)); len(got) > n {
				break
			}
		}
		diff(t, got, wantLines[:n+1])
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := NewReader(bytes.NewReader(b), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var last error
	count := 0
	for _, err := range r.Events(ctx) {
		cancel()
		count++
		last = err
	}
	if !errors.Is(last, context.Canceled) || count > 20 {
		t.Errorf("%d events, then %v", count, last)
	}
}
