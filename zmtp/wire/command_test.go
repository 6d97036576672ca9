package wire

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCommandRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SliceOfN(rapid.Byte(), 0, 255).Draw(t, "name")
		data := rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "data")
		b := AppendCommand([]byte("before"), string(name), data)[len("before"):]
		flags, size, n, err := ParseHeader(b)
		if err != nil || flags&^Long != Command || int(size) != len(b)-n {
			t.Fatal(flags, size, n, err)
		}
		gotName, gotData, err := ParseCommand(b[n:])
		if err != nil || !bytes.Equal(gotName, name) || !bytes.Equal(gotData, data) {
			t.Fatalf("%q %q, %v", gotName, gotData, err)
		}
	})
}

func TestCommandTruncated(t *testing.T) {
	body := append([]byte{9}, "SUBSCRIBE"...)
	for i := range body {
		if _, _, err := ParseCommand(body[:i]); reason(err) != MalformedCommand {
			t.Errorf("%q: %v", body[:i], err)
		}
	}
	if name, data, err := ParseCommand([]byte{0}); err != nil || len(name)+len(data) != 0 {
		t.Errorf("an empty name: %q %q, %v", name, data, err)
	}
}

func TestPing(t *testing.T) {
	for ttl, want := range map[int]int{-1: 0, 0: 0, 1: 1, 655: 655, 656: 655, 1 << 20: 655} {
		b := AppendPing(nil, ttl)
		got, context, err := ParsePing(b[len(b)-2:])
		if err != nil || got != want || len(context) != 0 {
			t.Errorf("TTL %d: %d %q, %v", ttl, got, context, err)
		}
	}
	if ttl, context, err := ParsePing([]byte("\xff\xffcontext")); err != nil || ttl != 65535 ||
		string(context) != "context" {
		t.Errorf("%d %q, %v", ttl, context, err)
	}
	for _, short := range []string{"", "\x00"} {
		if _, _, err := ParsePing([]byte(short)); reason(err) != MalformedPing {
			t.Errorf("%q: %v", short, err)
		}
	}
	for size, want := range map[int]int{0: 0, 15: 15, 16: 16, 17: 16, 1000: 16} {
		if got := AppendPong(nil, make([]byte, size)); len(got) != 2+5+want {
			t.Errorf("PONG to %d bytes: %d", size, len(got))
		}
	}
}

func TestErrorCommand(t *testing.T) {
	for _, text := range []string{"", "400", strings.Repeat("x", 255)} {
		b := AppendError(nil, text)
		_, _, n, err := ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		name, data, err := ParseCommand(b[n:])
		got, perr := ParseError(data)
		if err != nil || perr != nil || string(name) != CmdError || got != text {
			t.Errorf("%q %q, %v, %v", name, got, err, perr)
		}
		for i := range data {
			if _, err := ParseError(data[:i]); reason(err) != MalformedError {
				t.Errorf("%d bytes of %d: %v", i, len(data), err)
			}
		}
		if got, err := ParseError(append(data, "behind"...)); err != nil || got != text {
			t.Errorf("bytes behind the reason: %q, %v", got, err)
		}
	}
	if b := AppendError(nil, strings.Repeat("x", 300)); len(b) != FrameSize(1+len(CmdError)+1+255) {
		t.Errorf("a reason of 300 bytes takes %d", len(b))
	}
}
