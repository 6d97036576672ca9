package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"zmtpd/curve"
	"zmtpd/zmtp/wire"
)

// wsRequest and wsResponse are an upgrade as libzmq writes it (ws_engine.cpp).
func wsRequest(protocols string) []byte {
	return []byte("GET / HTTP/1.1\r\nHost: 192.0.2.2:5557\r\nUpgrade: websocket\r\n" +
		"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Sec-WebSocket-Protocol: " + protocols + "\r\nSec-WebSocket-Version: 13\r\n\r\n")
}

func wsResponse(protocol string) []byte {
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" +
		"Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" +
		"Sec-WebSocket-Protocol: " + protocol + "\r\n\r\n")
}

// appendWS appends a WebSocket frame (RFC 6455, section 5.2), masked if key is not 0.
func appendWS(dst []byte, op byte, payload []byte, key uint32) []byte {
	mask := byte(0)
	if key != 0 {
		mask = 0x80
	}
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, mask|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, mask|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, mask|127), uint64(n))
	}
	if key == 0 {
		return append(dst, payload...)
	}
	k := binary.BigEndian.AppendUint32(nil, key)
	dst = append(dst, k...)
	for i, c := range payload {
		dst = append(dst, c^k[i%4])
	}
	return dst
}

// overWS returns what a side sends over WebSocket that sends these frames of ZMTP over TCP. key is
// 0 for a server.
func overWS(tb tester, zmtp []byte, key uint32) (out []byte) {
	tb.Helper()
	for len(zmtp) > 0 {
		flags, size, n, err := wire.ParseHeader(zmtp)
		if err != nil || n == 0 || int64(len(zmtp)-n) < size {
			tb.Fatalf("%d bytes are no frame: %v", len(zmtp), err)
		}
		f := byte(0)
		if flags&wire.More != 0 {
			f = 1
		}
		if flags&wire.Command != 0 {
			f = 2
		}
		out = appendWS(out, 2, append([]byte{f}, zmtp[n:n+int(size)]...), key)
		zmtp = zmtp[n+int(size):]
		if key != 0 {
			key = key*1664525 + 1013904223 | 1
		}
	}
	return out
}

const anyKey = 0x12345679

// wsStreams returns the streams of a PUSH that connects to a PULL and sends these frames.
func wsStreams(tb tester, frames []byte) (client, server []byte) {
	client = append(wsRequest("ZWS2.0/NULL,ZWS2.0"),
		overWS(tb, append(hello(wire.PUSH)[wire.GreetingSize:], frames...), anyKey)...)
	server = append(wsResponse("ZWS2.0/NULL"),
		overWS(tb, hello(wire.PULL)[wire.GreetingSize:], 0)...)
	return client, server
}

// inSegments cuts a stream into segments.
func inSegments(make func(int, []byte) tcpSegment, stream []byte, size int) (out []tcpSegment) {
	for at := 0; at < len(stream); at += size {
		out = append(out, make(at, bytes.Clone(stream[at:min(at+size, len(stream))])))
	}
	return out
}

// wsSession is the segments of a session: the request, what the server says, and all else.
func wsSession(client, server []byte, size int) []tcpSegment {
	head := bytes.Index(client, []byte("\r\n\r\n")) + 4
	rest := inSegments(func(at int, b []byte) tcpSegment { return up(head+at, b) },
		client[head:], size)
	return cat(opening(), inSegments(up, client[:head], size), inSegments(down, server, size), rest)
}

var openedWS = []string{"5557 opened", "5557 upgrade client ZWS2.0/NULL,ZWS2.0",
	"5557 upgrade server ZWS2.0/NULL", "5557 metadata server Socket-Type=PULL",
	"5557 metadata client Socket-Type=PUSH"}

// A session over WebSocket has the same events as one over TCP, in segments of any size, also if
// the request comes last.
func TestWebSocket(t *testing.T) {
	// The longest part has a size of 16 bits, or one of 64.
	streams := func(longest int) (client, server []byte, want []string) {
		var frames []byte
		for _, n := range []int{0, 1, 124, 125, longest} {
			frames = wire.AppendFrame(frames, wire.More, []byte("topic"))
			frames = wire.AppendFrame(frames, 0, bytes.Repeat([]byte("x"), n))
		}
		client, server = wsStreams(t, frames)
		client = appendWS(client, 9, []byte("beat"), anyKey)
		client = appendWS(client, 8, []byte("\x03\xe8bye"), anyKey)
		server = appendWS(server, 10, []byte("beat"), 0)
		return client, server, slices.Concat(openedWS[:4],
			[]string{`5557 command server PONG "beat"`}, openedWS[4:],
			[]string{`5557 message client "topic" ""`, `5557 message client "topic" "x"`,
				`5557 message client "topic" 124:"xxxxxxxx"`,
				`5557 message client "topic" 125:"xxxxxxxx"`,
				fmt.Sprintf(`5557 message client "topic" %d:"xxxxxxxx"`, longest),
				`5557 command client PING "\x00\x00beat"`,
				`5557 command client CLOSE "\x03\xe8bye"`, "5557 closed end_of_file"})
	}
	for _, size := range []int{1, 2, 7, 100} {
		client, server, want := streams(300)
		diff(t, read(t, wsSession(client, server, size)...), want)
	}
	client, server, want := streams(70_000)
	for _, size := range []int{1448, 60_000} {
		diff(t, read(t, wsSession(client, server, size)...), want)
	}
	// Without the SYNs, and with the server's packets first.
	segments := wsSession(client, server, 60_000)[2:]
	diff(t, read(t, segments...), want)
	segments = cat(opening(), segments[1:2], segments[:1], segments[2:])
	want = slices.Concat(want[:1], want[2:5], want[1:2], want[5:])
	diff(t, read(t, segments...), want)
}

// Without a mechanism the routing id comes first, and nobody says what type of socket it is.
func TestWebSocketBare(t *testing.T) {
	client := append(wsRequest("ZWS2.0"), appendWS(nil, 2, []byte("\x00me"), anyKey)...)
	client = appendWS(client, 2, []byte("\x00hello"), anyKey)
	server := append(wsResponse("ZWS2.0"), appendWS(nil, 2, []byte("\x00"), 0)...)
	for _, size := range []int{1, 1000} {
		diff(t, read(t, wsSession(client, server, size)...), []string{"5557 opened",
			"5557 upgrade client ZWS2.0", "5557 upgrade server ZWS2.0",
			"5557 metadata server Identity=", "5557 metadata client Identity=me",
			`5557 message client "hello"`, "5557 closed end_of_file"})
	}
}

// What breaks the rules is a Problem, and other users of HTTP are no sessions.
func TestWebSocketProblems(t *testing.T) {
	ready := append([]byte{2}, hello(wire.PUSH)[wire.GreetingSize+2:]...)
	refused := []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	for _, test := range []struct {
		name           string
		client, server []byte
		want           string // part of the only Problem; empty for no session
	}{
		{"another use of HTTP", []byte("GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n"),
			[]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), ""},
		{"another use of WebSocket", append(wsRequest("chat"), ready...), wsResponse("chat"), ""},
		{"no header", append([]byte("GET / HTTP/1.1\r\n"), bytes.Repeat([]byte("a: b\r\n"),
			maxUpgrade)...), wsResponse("chat"), ""},
		{"refused", wsRequest("ZWS2.0/CURVE"), refused, "400 Bad Request"},
		{"mechanism", wsRequest("ZWS2.0/GSSAPI"), wsResponse("ZWS2.0/GSSAPI"), `"GSSAPI"`},
		{"fragment", append(wsRequest("ZWS2.0/NULL"), 0x02, 0x81, 0, 0, 0, 0, 0),
			wsResponse("ZWS2.0/NULL"), "a fragmented message"},
		{"text", append(wsRequest("ZWS2.0/NULL"), 0x81, 0x81, 0, 0, 0, 0, 0),
			wsResponse("ZWS2.0/NULL"), "a text frame"},
		{"not masked", append(wsRequest("ZWS2.0/NULL"), appendWS(nil, 2, ready, 0)...),
			wsResponse("ZWS2.0/NULL"), "an unmasked WebSocket frame"},
		{"masked", wsRequest("ZWS2.0/NULL"),
			append(wsResponse("ZWS2.0/NULL"), appendWS(nil, 2, ready, anyKey)...),
			"a masked WebSocket frame"},
		{"flags", append(wsRequest("ZWS2.0/NULL"), appendWS(nil, 2, []byte("\x04"), anyKey)...),
			wsResponse("ZWS2.0/NULL"), "flags 0x04"},
		{"size", append(wsRequest("ZWS2.0/NULL"), 0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff, 0, 0, 0, 0), wsResponse("ZWS2.0/NULL"), "18446744073709551615 bytes"},
		{"long control frame", append(wsRequest("ZWS2.0/NULL"), 0x89, 0xfe, 0, 126, 0, 0, 0, 0),
			wsResponse("ZWS2.0/NULL"), "a control frame above"},
		{"long routing id", append(wsRequest("ZWS2.0"), appendWS(nil, 2, make([]byte, 257),
			anyKey)...), wsResponse("ZWS2.0"), "no routing id"},
		{"no response", append(wsRequest("ZWS2.0/GSSAPI"), make([]byte, maxUpgrade+1)...), nil,
			`"GSSAPI"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			events := mustRead(t, file(t, wsSession(test.client, test.server, 1448)...), Options{})
			problems := slices.DeleteFunc(slices.Clone(events), func(e Event) bool {
				return e.Kind != Problem
			})
			switch {
			case test.want == "" && len(events) > 0:
				t.Errorf("%q", lines(events))
			case test.want != "" && (len(problems) != 1 ||
				!strings.Contains(problems[0].Err.Error(), test.want)):
				t.Errorf("%q, want %s", lines(events), test.want)
			}
		})
	}
}

// curveOverWS is a session over CURVE whose frames are sent over WebSocket instead of TCP.
func curveOverWS(t *testing.T, path string, messages ...string) []byte {
	l, err := curve.CreateKeyLog(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var streams [2][]byte
	for _, p := range packetsOf(t, pushEncrypted(t, path, l, nil, messages...)) {
		s, err := decode(cutLink(linkEthernet, p))
		if err != nil {
			t.Fatal(err)
		}
		side := 0
		if s.src == serverEnd {
			side = 1
		}
		streams[side] = append(streams[side], s.payload...)
	}
	client := append(wsRequest("ZWS2.0/CURVE"),
		overWS(t, streams[0][wire.GreetingSize:], anyKey)...)
	server := append(wsResponse("ZWS2.0/CURVE"), overWS(t, streams[1][wire.GreetingSize:], 0)...)
	return file(t, wsSession(client, server, 1448)...)
}

// CURVE over WebSocket is decrypted.
func TestWebSocketCurve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	capture := curveOverWS(t, path, "one", strings.Repeat("x", 70_000), "three")
	keys, err := curve.OpenKeyLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	got := lines(mustRead(t, capture, Options{Keys: keys}))
	for _, want := range []string{"5557 metadata client Socket-Type=PUSH",
		`5557 message client "log-write" "one"`,
		`5557 message client "log-write" 70000:"xxxxxxxx"`,
		`5557 message client "log-write" "three"`} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}

// Behind a gap the frames of WebSocket are found again, in either direction.
func TestWebSocketResumed(t *testing.T) {
	var frames []byte
	const messages = 700
	for i := range messages {
		frames = wire.AppendFrame(frames, wire.More, []byte("topic"))
		frames = wire.AppendFrame(frames, 0, fmt.Appendf(nil, "%d %s", i,
			strings.Repeat("x", i%300)))
	}
	client, server := wsStreams(t, frames)
	request := bytes.Index(client, []byte("\r\n\r\n")) + 4
	// The same with a server that publishes.
	published := append(wsResponse("ZWS2.0/NULL"), overWS(t,
		append(hello(wire.PUB)[wire.GreetingSize:],
			frames...), 0)...)
	subscriber := append(wsRequest("ZWS2.0/NULL"),
		overWS(t, hello(wire.SUB)[wire.GreetingSize:], anyKey)...)
	for _, test := range []struct {
		from           Side
		client, server []byte
	}{{Client, client, server}, {Server, subscriber, published}} {
		segments := wsSession(test.client, test.server, 1448)
		sent, err := said(t, file(t, segments...))
		if err != nil {
			t.Fatal(err)
		}
		for missing := len(segments) / 2; missing < len(segments)/2+20; missing += 7 {
			for _, n := range []int{1, 3} {
				cut := slices.Delete(slices.Clone(segments), missing, missing+n)
				got, err := said(t, file(t, cut...))
				if err != nil {
					t.Fatal(err)
				}
				checkSaid(t, got, sent)
				for d, list := range got {
					if d.from == clientEnd == (test.from == Client) && len(list) < messages-120 {
						t.Errorf("%v without %d segments: only %d messages", test.from, n,
							len(list))
					}
				}
			}
		}
	}
	// The request, or the response, is missing.
	segments := wsSession(client[:request+1448*20], server, 1448)
	for _, missing := range []int{2, 3} {
		got := lines(mustRead(t, file(t, slices.Delete(slices.Clone(segments), missing,
			missing+1)...), Options{}))
		if n := strings.Count(strings.Join(got, "\n"), "message client"); n < 20 {
			t.Errorf("without segment %d: %d messages: %.3000q", missing, n, got)
		}
	}
}

// No cut of a capture makes a message appear that nobody sent.
func TestAnyCutOverWebSocket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bodies := rapid.OneOf(
			rapid.SliceOfN(rapid.Byte(), 0, 300),
			rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 0x82, 0x83}), 0, 300),
			rapid.Just(make([]byte, 2000)),
		)
		kinds := rapid.SliceOfN(bodies, 1, 4).Draw(t, "bodies")
		var frames []byte
		for i := range rapid.IntRange(0, 40).Draw(t, "messages") {
			for parts := i % 3; parts >= 0; parts-- {
				flags := wire.More
				if parts == 0 {
					flags = 0
				}
				frames = wire.AppendFrame(frames, flags, kinds[(i+parts)%len(kinds)])
			}
		}
		client, server := wsStreams(t, frames)
		if rapid.Bool().Draw(t, "the server sends") {
			server = append(server, overWS(t, frames, 0)...)
		}
		var packets [][]byte
		for _, s := range wsSession(client, server, 1448) {
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
