package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"

	"zmtpd/zmtp/wire"
)

// read returns the lines of the events of some segments.
func read(t tester, segments ...tcpSegment) []string {
	t.Helper()
	return lines(mustRead(t, file(t, segments...), Options{}))
}

// Events of a good session of clientEnd, which pushes, with serverEnd.
var (
	openedServer = []string{"5557 opened", "5557 greeting server 3.1 NULL",
		"5557 metadata server Socket-Type=PULL"}
	openedBoth = append(slices.Clone(openedServer), "5557 greeting client 3.1 NULL",
		"5557 metadata client Socket-Type=PUSH")
)

// cat joins lists of segments.
func cat(lists ...[]tcpSegment) []tcpSegment { return slices.Concat(lists...) }

// established is the two SYNs and what the server says.
func established() []tcpSegment { return append(opening(), down(0, hello(wire.PULL))) }

// A connection of which the beginning is missing, and in which there are no frames, has no events.
func TestBegunBefore(t *testing.T) {
	if got := read(t, up(0, []byte("a")), down(0, []byte("b")), up(1, []byte("c"))); len(got) > 0 {
		t.Errorf("%q", got)
	}
	segments := []tcpSegment{{up: true, seq: 1}}
	for i := range 2 * maxEarly {
		segments = append(segments, up(i, []byte("x")), down(i, []byte("x")))
	}
	events, stats, err := readAll(t, file(t, segments...), Options{})
	if err != nil || stats.NoStart != 1 || stats.OtherSessions != 0 || len(events) > 0 {
		t.Errorf("%q, %+v, %v", lines(events), stats, err)
	}
	// It makes way for a new connection of the same endpoints.
	again := cat(established(), []tcpSegment{up(0, pushed("one"))})
	for i := range again {
		again[i].seq += 5000
	}
	diff(t, read(t, append(segments, again...)...),
		slices.Concat(openedBoth, []string{`5557 message client "one"`, "5557 closed end_of_file"}))
	// One that is not wanted is not mentioned.
	if events := mustRead(t, file(t, segments...), onPort(1)); len(events) != 0 {
		t.Errorf("%q", lines(events))
	}
	// Only the SYN of one side is missing.
	diff(t, read(t, opening()[0], up(0, pushed("one")), down(0, hello(wire.PULL))),
		[]string{"5557 opened", "5557 greeting client 3.1 NULL",
			"5557 metadata client Socket-Type=PUSH", `5557 message client "one"`,
			"5557 greeting server 3.1 NULL", "5557 metadata server Socket-Type=PULL",
			"5557 closed end_of_file"})
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
	diff(t, read(t, cat(first, again)...), slices.Concat(one, []string{"5557 closed port_reused"},
		two))
	diff(t, read(t, cat(first, fins, []tcpSegment{late, first[2]}, fins, again)...),
		slices.Concat(one, []string{"5557 closed finished"}, two))
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
			packets = append(packets,
				s.packet(t, netip.AddrPortFrom(clientEnd.Addr(), port), serverEnd))
		}
	}
	add(1, established()...)
	add(2, established()...)
	add(1, up(0, pushed("one")))
	add(3, established()...)
	r, err := NewReader(bytes.NewReader(pcapFile(t, layers.LinkTypeEthernet, packets...)),
		Options{MaxSessions: 2})
	if err != nil {
		t.Fatal(err)
	}
	events, err := collect(t, r)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, lines(events), slices.Concat(openedServer, openedServer, openedBoth[3:],
		[]string{`5557 message client "one"`,
			"5557 closed evicted"}, openedServer, []string{"5557 closed end_of_file",
			"5557 closed end_of_file"}))
	if evicted := events[9].Session.Client.Port(); evicted != 2 {
		t.Errorf("session of port %d was evicted", evicted)
	}
}

// What is not ZMTP has no events, unless the other side is.
func TestNotZMTP(t *testing.T) {
	http := []byte("GET / HTTP/1.1\r\n\r\n")
	events, stats, err := readAll(t, file(t, append(opening(), up(0, http),
		down(0, []byte("HTTP/1.1 200 OK")))...), Options{})
	if err != nil || len(events) != 0 || stats.OtherSessions != 1 || stats.Sessions != 0 {
		t.Errorf("%q, %+v, %v", lines(events), stats, err)
	}
	notZMTP := "5557 problem client zmtp: not_zmtp: an HTTP request that offers no subprotocol ZWS2.0"
	diff(t, read(t, append(established(), up(0, http))...),
		append(slices.Clone(openedServer), notZMTP,
			"5557 closed end_of_file"))
	diff(t, read(t, append(opening(), up(0, http), down(0, hello(wire.PULL)))...),
		slices.Concat(openedServer[:1], []string{notZMTP}, openedServer[1:],
			[]string{"5557 closed end_of_file"}))
}

// Sessions of ZMTP 2.0 (RFC 15) are decoded, those of 1.0 are named.
func TestOldVersions(t *testing.T) {
	signature := "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f"
	push, pull := signature+"\x01\x08\x00\x02id", signature+"\x03\x07\x00\x00"
	want := []string{"5557 opened", "5557 greeting client 2.0 ",
		"5557 metadata client Socket-Type=PUSH Identity=id", "5557 greeting server 2.0 ",
		"5557 metadata server Socket-Type=PULL", `5557 message client "one"`,
		"5557 closed end_of_file"}
	diff(t, read(t, append(opening(), up(0, []byte(push)), down(0, []byte(pull)),
		up(len(push), wire.AppendFrame(nil, 0, []byte("one"))))...), want)
	// What the newer side sends is the same as for a newer peer, until it sees the older one.
	diff(t, read(t, append(opening(), down(0, []byte(pull)), up(0, []byte(push)),
		up(len(push), wire.AppendFrame(nil, 0, []byte("one"))))...),
		want)
	old := "5557 problem client zmtp: unsupported_version: the peer speaks ZMTP 1.0"
	got := read(t, append(opening(), up(0, []byte("\x01\x00")), down(0, []byte(signature)))...)
	if len(got) != 4 || got[0] != "5557 opened" || got[1] != "5557 greeting client 1.0 " ||
		!strings.HasPrefix(got[2], old) {
		t.Errorf("%q", got)
	}
	got = read(t, append(opening(), down(0, []byte(signature)), up(0, []byte("\x01\x00")))...)
	if len(got) != 4 || got[1] != "5557 greeting client 1.0 " || !strings.HasPrefix(got[2], old) {
		t.Errorf("%q", got)
	}
}

// What breaks ZMTP ends a direction, or the session, with one problem that says why.
func TestProblems(t *testing.T) {
	greeting := func(mechanism string) []byte { return wire.AppendGreeting(nil, mechanism, false) }
	socket := wire.AppendProperty(nil, wire.PropSocketType, []byte("PUSH"))
	huge := binary.BigEndian.AppendUint64([]byte{byte(wire.Long)}, 1<<40)
	for _, test := range []struct {
		name   string
		stream []byte
		reason wire.Reason
		err    error
	}{
		{"mechanisms differ", greeting("PLAIN"), wire.MechanismMismatch, nil},
		{"mechanism unknown", greeting("GSSAPI"), wire.ReasonNone, ErrMechanism},
		{"message for READY", append(greeting("NULL"), 0, 1, 'x'), wire.MalformedCommand, nil},
		{"SUBSCRIBE for READY", wire.AppendCommand(greeting("NULL"), wire.CmdSubscribe, nil),
			wire.UnexpectedCommand, nil},
		{"HELLO of NULL", wire.AppendCommand(greeting("NULL"), "HELLO", nil),
			wire.UnexpectedCommand,
			nil},
		{"huge READY", append(greeting("NULL"), huge...), wire.CommandTooLarge, nil},
		{"metadata", wire.AppendCommand(greeting("NULL"), wire.CmdReady, socket[:len(socket)-1]),
			wire.MalformedReady, nil},
		{"reserved flags", append(pushed(), 0xff, 0), wire.MalformedFrame, nil},
		{"huge message", append(pushed(), huge...), wire.MessageTooLarge, nil},
		{"huge command", append(pushed(),
			append([]byte{byte(wire.Long | wire.Command)}, huge[1:]...)...),
			wire.CommandTooLarge, nil},
		{"empty command", append(pushed(), byte(wire.Command), 0), wire.MalformedCommand, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			events := mustRead(t, file(t, append(established(), up(0, test.stream),
				up(len(test.stream), make([]byte, 1000)))...), Options{})
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
				if test.err == nil &&
					(!errors.As(ev.Err, &violation) || violation.Reason != test.reason) {
					t.Errorf("%v, want %s", ev.Err, test.reason)
				}
			}
			if problems != 1 || line(events[len(events)-1]) != "5557 closed end_of_file" {
				t.Errorf("%q", lines(events))
			}
		})
	}
}

// A message that is announced takes no memory before it comes, and all unfinished ones together are
// bounded.
func TestMemory(t *testing.T) {
	announced := append(pushed(), byte(wire.Long))
	announced = binary.BigEndian.AppendUint64(announced, 60<<20)
	var packets [][]byte
	for port := range uint16(100) {
		client := netip.AddrPortFrom(clientEnd.Addr(), 1000+port)
		for _, s := range append(established(), up(0, announced), up(len(announced),
			make([]byte, 1<<10))) {
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
		if !bytes.Equal(ev.Message.Wire(), want[i].Message.Wire()) ||
			!bytes.Equal(ev.Data, want[i].Data) {
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
