package wire

import (
	"slices"
	"testing"
)

// TestGreeting parses greetings of which any number of bytes has arrived.
func TestGreeting(t *testing.T) {
	good := AppendGreeting(nil, "NULL", false)
	change := func(changes ...int) []byte {
		b := slices.Clone(good)
		for i := 0; i < len(changes); i += 2 {
			b[changes[i]] = byte(changes[i+1])
		}
		return b
	}
	for name, c := range map[string]struct {
		in     []byte
		at     int // how many bytes are enough to refuse it, 0 if it is fine
		reason Reason
		want   Greeting
	}{
		"3.1":             {good, 0, 0, Greeting{3, 1, "NULL", false}},
		"3.0":             {change(11, 0), 0, 0, Greeting{3, 0, "NULL", false}},
		"a later minor":   {change(11, 2), 0, 0, Greeting{3, 2, "NULL", false}},
		"4.0":             {change(10, 4, 11, 0), 0, 0, Greeting{4, 0, "NULL", false}},
		"revision byte 2": {change(10, 2, 11, 0), 0, 0, Greeting{2, 0, "NULL", false}},
		"255.255": {change(10, 255, 11, 255), 0, 0,
			Greeting{255, 255, "NULL", false}},
		"padding with an identity": {change(1, 255, 8, 255), 0, 0, Greeting{3, 1, "NULL", false}},
		"only bit 0 of byte 9":     {change(9, 1), 0, 0, Greeting{3, 1, "NULL", false}},
		"as server": {AppendGreeting(nil, "CURVE", true), 0, 0,
			Greeting{3, 1, "CURVE", true}},
		"20 bytes of mechanism": {AppendGreeting(nil, "ABCDEFGHIJKLMNOPQRST", false), 0, 0,
			Greeting{3, 1, "ABCDEFGHIJKLMNOPQRST", false}},
		"junk behind the padding": {change(20, 'x'), 0, 0,
			Greeting{3, 1, "NULL\x00\x00\x00\x00x", false}},
		"filler": {change(40, 1, 63, 255), 0, 0, Greeting{3, 1, "NULL", false}},
		"HTTP":   {[]byte("GET / HTTP/1.1\r\n"), 2, NotZMTP, Greeting{}},
		"TLS":    {[]byte("\x16\x03\x01"), 2, NotZMTP, Greeting{}},
		"a zero": {make([]byte, 64), 1, NotZMTP, Greeting{}},
		"ZMTP 1.0": {[]byte("\x01\x00\x04\x00sub"), 2, UnsupportedVersion,
			Greeting{}},
		"ZMTP 1.0, identity":      {[]byte("\x03\x00id"), 2, UnsupportedVersion, Greeting{}},
		"ZMTP 1.0, long identity": {change(9, 0), 10, UnsupportedVersion, Greeting{}},
		"revision 0":              {change(10, 0), 11, UnsupportedVersion, Greeting{}},
		"ZMTP 2.0":                {change(10, 1), 11, UnsupportedVersion, Greeting{}},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range len(c.in) + 1 {
				g, n, err := ParseGreeting(c.in[:i])
				switch {
				case c.at > 0 && i >= c.at:
					if reason(err) != c.reason || n != 0 {
						t.Fatalf("%d bytes: %d, %v, want %v", i, n, err, c.reason)
					}
				case i < GreetingSize:
					if n != 0 || err != nil {
						t.Fatalf("%d bytes: %d, %v", i, n, err)
					}
				case n != GreetingSize || err != nil || g != c.want:
					t.Fatalf("%+v, %d, %v, want %+v", g, n, err, c.want)
				}
			}
			if c.at == 0 {
				g, n, err := ParseGreeting(append(slices.Clone(c.in), "what follows"...))
				if n != GreetingSize || err != nil || g != c.want {
					t.Errorf("with more behind it: %+v, %d, %v", g, n, err)
				}
			}
		})
	}
}

func TestV30(t *testing.T) {
	for g, want := range map[Greeting]bool{{Major: 3}: true, {Major: 3, Minor: 1}: false, {Major: 4}: false, {Major: 2}: false} {
		if g.V30() != want {
			t.Errorf("%d.%d is 3.0: %v", g.Major, g.Minor, !want)
		}
	}
}

func TestCheckMechanism(t *testing.T) {
	for mechanism, ok := range map[string]bool{"NULL": true, "null": false, "NULL\x00x": false, "NULLX": false, "NUL": false, "": false, "CURVE": false} {
		err := Greeting{Mechanism: mechanism}.CheckMechanism("NULL")
		if (err == nil) != ok || !ok && reason(err) != MechanismMismatch {
			t.Errorf("mechanism %q: %v", mechanism, err)
		}
	}
}
