package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// reason returns the reason in an error of this package.
func reason(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ReasonNone
}

// TestByteVectors compares with bytes that libzmq 4.3.4 sends.
func TestByteVectors(t *testing.T) {
	readyOf := func(typ string, more ...Property) []byte {
		return AppendCommand(nil, CmdReady,
			AppendMetadata(nil, append(Metadata{{PropSocketType, []byte(typ)}}, more...)))
	}
	greeting30 := AppendGreeting(nil, "NULL", false)
	greeting30[11] = 0
	zeros := func(n int) string { return strings.Repeat("00", n) }
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"greeting 3.1 NULL": {AppendGreeting(nil, "NULL", false),
			"ff 00 00 00 00 00 00 00 01 7f 03 01 4e 55 4c 4c" + zeros(48)},
		"greeting 3.0 NULL": {greeting30, "ff 00 00 00 00 00 00 00 01 7f 03 00 4e 55 4c 4c" +
			zeros(48)},
		"greeting 3.1 CURVE": {AppendGreeting(nil, "CURVE", false),
			"ff 00 00 00 00 00 00 00 01 7f 03 01 43 55 52 56 45" + zeros(47)},
		"READY SUB": {readyOf("SUB"),
			"04 19 05 52 45 41 44 59 0b 53 6f 63 6b 65 74 2d 54 79 70 65 00 00 00 03 53 55 42"},
		"READY XPUB": {readyOf("XPUB"),
			"04 1a 05 52 45 41 44 59 0b 53 6f 63 6b 65 74 2d 54 79 70 65 00 00 00 04 58 50 55 42"},
		"READY PUSH": {readyOf("PUSH"),
			"04 1a 05 52 45 41 44 59 0b 53 6f 63 6b 65 74 2d 54 79 70 65 00 00 00 04 50 55 53 48"},
		"READY DEALER": {readyOf("DEALER", Property{PropIdentity, nil}),
			"04 29 05 52 45 41 44 59 0b 53 6f 63 6b 65 74 2d 54 79 70 65" +
				"00 00 00 06 44 45 41 4c 45 52 08 49 64 65 6e 74 69 74 79 00 00 00 00"},
		"READY ROUTER": {readyOf("ROUTER", Property{PropIdentity, nil}),
			"04 29 05 52 45 41 44 59 0b 53 6f 63 6b 65 74 2d 54 79 70 65" +
				"00 00 00 06 52 4f 55 54 45 52 08 49 64 65 6e 74 69 74 79 00 00 00 00"},
		"READY REQ abc": {readyOf("REQ", Property{PropIdentity, []byte("abc")}),
			"04 29 05 52 45 41 44 59 0b 53 6f 63 6b 65 74 2d 54 79 70 65" +
				"00 00 00 03 52 45 51 08 49 64 65 6e 74 69 74 79 00 00 00 03 61 62 63"},
		"ERROR 400": {AppendError(nil, "400"), "04 0a 05 45 52 52 4f 52 03 34 30 30"},
		"SUBSCRIBE A": {AppendSubscription(nil, false, true, []byte("A")),
			"04 0b 09 53 55 42 53 43 52 49 42 45 41"},
		"SUBSCRIBE all": {AppendSubscription(nil, false, true, nil),
			"04 0a 09 53 55 42 53 43 52 49 42 45"},
		"CANCEL A": {AppendSubscription(nil, false, false, []byte("A")),
			"04 08 06 43 41 4e 43 45 4c 41"},
		"legacy SUB A":   {AppendSubscription(nil, true, true, []byte("A")), "00 02 01 41"},
		"legacy UNSUB A": {AppendSubscription(nil, true, false, []byte("A")), "00 02 00 41"},
		"PING":           {AppendPing(nil, 0), "04 07 04 50 49 4e 47 00 00"},
		"PING hi": {AppendCommand(nil, CmdPing, []byte("\x00\x0ahi")),
			"04 09 04 50 49 4e 47 00 0a 68 69"},
		"PONG hi":       {AppendPong(nil, []byte("hi")), "04 07 04 50 4f 4e 47 68 69"},
		"JOIN g":        {AppendCommand(nil, "JOIN", []byte("g")), "04 06 04 4a 4f 49 4e 67"},
		"LEAVE g":       {AppendCommand(nil, "LEAVE", []byte("g")), "04 07 05 4c 45 41 56 45 67"},
		"message hello": {AppendFrame(nil, 0, []byte("hello")), "00 05 68 65 6c 6c 6f"},
		"two parts": {AppendFrame(AppendFrame(nil, More, []byte("a")), 0, []byte("b")),
			"01 01 61 00 01 62"},
	} {
		if want := unhex(c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s: % x, want % x", name, c.got, want)
		}
	}
}

func TestFrameSizes(t *testing.T) {
	for _, size := range []int{0, 1, 254, 255, 256, 65535, 65536} {
		for _, flags := range []Flags{0, More, Command} {
			b := AppendFrame(nil, flags, make([]byte, size))
			header := 2
			if size > 255 {
				header = MaxHeaderSize
			}
			if len(b) != header+size || FrameSize(size) != len(b) {
				t.Errorf("a frame of %d bytes takes %d", size, len(b))
			}
			got, n, h, err := ParseHeader(b)
			if err != nil || n != int64(size) || h != header || got&^Long != flags ||
				got&Long != 0 != (size > 255) {
				t.Errorf("%d bytes, flags %d: %d, %d, %d, %v", size, flags, got, n, h, err)
			}
			for i := range header {
				if _, _, n, err := ParseHeader(b[:i]); n != 0 || err != nil {
					t.Errorf("%d bytes of a header: %d, %v", i, n, err)
				}
			}
			long := append([]byte{byte(flags | Long)},
				binary.BigEndian.AppendUint64(nil, uint64(size))...)
			if _, n, h, err := ParseHeader(long); err != nil || n != int64(size) ||
				h != MaxHeaderSize {
				t.Errorf("long form of %d: %d, %d, %v", size, n, h, err)
			}
		}
	}
	if _, n, _, err := ParseHeader([]byte{2, 0x7f, 255, 255, 255, 255, 255, 255,
		255}); err != nil || n != 1<<63-1 {
		t.Errorf("the largest size: %d, %v", n, err)
	}
	if _, _, _, err := ParseHeader([]byte{2, 0x80, 0, 0, 0, 0, 0, 0,
		0}); reason(err) != MalformedFrame {
		t.Errorf("a size above it: %v", err)
	}
	for bits := range 256 {
		// also before the size is there
		for _, b := range [][]byte{{byte(bits)}, {byte(bits), 0, 0, 0, 0, 0, 0, 0, 0}} {
			_, _, _, err := ParseHeader(b)
			if bad := bits > 7; (reason(err) == MalformedFrame) != bad || (err != nil) != bad {
				t.Errorf("flags %#02x, %d bytes: %v", bits, len(b), err)
			}
		}
	}
}

// Each form of a subscription becomes a long frame at a length of its own (conformance notes, A36
// and H).
func TestSubscriptionForms(t *testing.T) {
	for _, c := range []struct {
		v30, on bool
		last    int // length of the longest topic in a short frame
	}{{false, true, 245}, {false, false, 248}, {true, true, 254}, {true, false, 254}} {
		for _, size := range []int{0, 1, c.last - 1, c.last, c.last + 1, 255, 256, 65535} {
			topic := bytes.Repeat([]byte("t"), size)
			b := AppendSubscription(nil, c.v30, c.on, topic)
			flags, n, h, err := ParseHeader(b)
			if err != nil || int64(len(b)-h) != n {
				t.Fatalf("%+v, %d bytes: % x, %v", c, size, b[:min(len(b), 20)], err)
			}
			if (flags&Long != 0) != (size > c.last) || (flags&Command == 0) != c.v30 ||
				flags&More != 0 {
				t.Errorf("%+v, a topic of %d bytes: flags %d", c, size, flags)
			}
			body := b[h:]
			if c.v30 {
				if (body[0] == 1) != c.on || body[0] > 1 || !bytes.Equal(body[1:], topic) {
					t.Errorf("%+v, %d bytes: %.20q", c, size, body)
				}
				continue
			}
			name, data, err := ParseCommand(body)
			if err != nil || (string(name) == CmdSubscribe) != c.on || !bytes.Equal(data, topic) {
				t.Errorf("%+v, %d bytes: %q, %v", c, size, name, err)
			}
		}
	}
}
