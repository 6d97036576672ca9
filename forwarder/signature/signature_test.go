package signature

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"zmtpd/forwarder/event"
)

const declarations = `
# Events as in Zeek's scripts.
module Edge;
export {
	type Color: enum { RED, GREEN = 3, BLUE &deprecated="Use GREEN; it is better" };
	type Leaf: record { a: count &log; b: string &optional &default="x}"; };
	type Tree: record { name: string; leaf: Leaf; kids: table[string] of Leaf &optional; };
	## An event.
	global leaf: event(l: Leaf);
}
global tree: event(t: Tree, c: Color) &priority = -5;
global sets: event(s: set[addr, port], n: set[count], v: vector of vector of count);
global simple: event(b: bool, i: int, d: double, t: time, iv: interval, n: subnet, p: pattern);
global unknown: event(c: conn_id, a: any, f: function(x: count): bool, o: opaque of md5);
global open_file: event(f: file);
module GLOBAL;
global ping: event(text: string, n: count);
global other: event(l: Edge::Leaf; c: Edge::Color);
type Loop: Loop;
type Long: record { l: Long &optional; };
global loop: event(a: Loop, l: Long);
global none: event();
`

// parse returns an event as it comes from the network.
func parse(t *testing.T, name string, args ...any) event.Event {
	t.Helper()
	b, err := event.AppendEvent(nil, name, args)
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.ParseEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestCheck(t *testing.T) {
	s, err := Parse([]byte(declarations))
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 10 {
		t.Errorf("%d events, want 10", s.Len())
	}
	type vec = event.Vector
	leaf := vec{uint64(1), "b"}
	addr, port := netip.MustParseAddr("192.0.2.1"), event.Port{Number: 53, Proto: event.ProtoUDP}
	for _, tt := range []struct {
		name string
		args []any
		want string // in the error, "" for none
	}{
		{"ping", []any{"x", uint64(1)}, ""},
		{"ping", []any{"x"}, "1 arguments"},
		{"ping", []any{"x", int64(1)}, "argument 2: a integer"},
		{"Edge::ping", []any{"x", uint64(1)}, "not declared"},
		{"none", nil, ""},
		{"Edge::leaf", []any{leaf}, ""},
		{"Edge::leaf", []any{vec{uint64(1), nil}}, ""},
		{"Edge::leaf", []any{vec{nil, nil}}, "field a"},
		{"Edge::leaf", []any{vec{uint64(1)}}, "1 fields instead of 2"},
		{"Edge::leaf", []any{event.Set{uint64(1)}}, "a set"},
		{"Edge::tree", []any{vec{"n", leaf, nil}, event.Enum("Edge::RED")}, ""},
		{"Edge::tree", []any{vec{"n", leaf, event.Table{{Key: "k", Value: leaf}}},
			event.Enum("Edge::BLUE")}, ""},
		{"Edge::tree", []any{vec{"n", leaf, event.Table{{Key: "k", Value: "v"}}},
			event.Enum("Edge::RED")}, "kids"},
		{"Edge::tree", []any{vec{"n", leaf, nil}, event.Enum("RED")}, "no label"},
		{"other", []any{leaf, event.Enum("Edge::GREEN")}, ""},
		{"Edge::sets", []any{event.Set{vec{addr, port}}, event.Set{uint64(1)},
			vec{vec{uint64(1)}, vec{}}}, ""},
		{"Edge::sets", []any{event.Set{addr}, event.Set{}, vec{}}, "index of 2"},
		{"Edge::sets", []any{event.Set{}, event.Set{"x"}, vec{}}, "argument 2"},
		{"Edge::sets", []any{event.Set{}, event.Set{}, vec{vec{nil}}}, "argument 3"},
		{"Edge::simple", []any{true, int64(1), 1.5, time.Unix(0, 0), time.Second,
			netip.MustParsePrefix("10.0.0.0/8"), vec{"^a$", "a"}}, ""},
		{"Edge::simple", []any{true, int64(1), 1.5, time.Unix(0, 0), time.Second,
			netip.MustParsePrefix("10.0.0.0/8"), vec{"^a$"}}, "two strings"},
		{"Edge::unknown", []any{vec{}, nil, vec{"f"}, vec{}}, ""},
		{"Edge::open_file", []any{"/etc/passwd"}, "a file"},
		{"loop", []any{uint64(1), vec{vec{vec{nil}}}}, ""},
		{"loop", []any{uint64(1), vec{uint64(1)}}, "field l"},
	} {
		err := s.Check(parse(t, tt.name, tt.args...))
		if tt.want == "" && err != nil || tt.want != "" &&
			(err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s(%v): %v, want %q", tt.name, tt.args, err, tt.want)
		}
	}
	if err := (*Set)(nil).Check(parse(t, "any")); err != nil {
		t.Errorf("no declarations: %v", err)
	}
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]string{
		"global ping event();":                               "line 1",
		"\n\nglobal ping: event(text string);":               "line 3",
		"redef x = 1;":                                       "no declaration",
		"export { type A: count;":                            "export block",
		"type A: record { a: count":                          `"}" is missing`,
		"type A: " + strings.Repeat("vector of ", 100) + "x": "nested",
		"global a: event(); global a: event();":              "twice",
		`global a: event(s: string &default="x);`:            "string does not end",
		"type A: enum { RED":                                 `"}" is missing`,
		"type":                                               "a name",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(declarations))
	f.Fuzz(func(t *testing.T, text []byte) { Parse(text) })
}
