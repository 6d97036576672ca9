package gateway

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"zmtpd/forwarder/event"
)

const recordedSessions = "testdata/session.txt"

// declarations are the events of the recorded cluster.
const declarations = `
type Color: enum { RED, GREEN };
type Leaf: record { a: count; b: string &optional; };
global ping: event(text: string, n: count);
global pong: event(text: string, n: count);
global meta: event(text: string);
global types: event(b: bool, c: count, i: int, d: double, s: string, a: addr, a6: addr, n: subnet,
	p: port, t: time, iv: interval, e: Color, sc: set[count], ts: table[string] of count,
	vs: vector of string, l: Leaf, x: any);
`

func writeFile(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// answer is what the script of the recorded worker does.
func (n *node) answer(t testing.TB) {
	for {
		m, err := n.sub.Recv(context.Background())
		if err != nil {
			return
		}
		e, err := event.ParseEvent(m.Part(partBody))
		if err != nil {
			t.Error(err)
			return
		}
		switch string(e.Name) {
		case "ping":
			var text string
			var count uint64
			if err := e.Decode(&text, &count); err != nil {
				t.Error(err)
			}
			n.publish("/test/pongs/", "pong", text+" "+text, 2*count)
		case "types":
			body := event.Raw(m.Part(partBody)).Value().(event.Vector)
			inner := body[2].(event.Vector)
			n.publish("/test/pongs/", "typed", inner[1].(event.Vector)...)
		case "meta":
			text := "[[id=EventMetadata::MY_META, val=17]]"
			if at, ok := e.NetworkTime(); ok {
				seconds := strconv.FormatFloat(float64(at.UnixMilli())/1e3, 'f', -1, 64)
				text = "[[id=EventMetadata::NETWORK_TIMESTAMP, val=" + seconds + "]]"
			}
			n.publish("/test/pongs/", "pong", text, uint64(0))
		}
	}
}

// TestGolden plays the sessions that were recorded with Zeek. The answers are the same, byte for
// byte, but for the endpoint and the version.
func TestGolden(t *testing.T) {
	recorded, err := os.ReadFile(recordedSessions)
	if err != nil {
		t.Fatal(err)
	}
	const version = "9.1.0-dev"
	g := serve(t, Config{Version: version, Signatures: writeFile(t, declarations)})
	worker := g.node(t, "/test/pings/")
	keep := g.subscribed(t, "/test/pongs/") // so that the worker has the subscription for good
	worker.awaitSubscription("/test/pongs/")
	go func() {
		for {
			if _, _, err := keep.Read(context.Background()); err != nil {
				return
			}
		}
	}()
	done := make(chan struct{})
	go func() { defer close(done); worker.answer(t) }()
	defer func() { worker.sub.Close(); <-done }()

	sessions := 0
	for session := range strings.SplitSeq(strings.TrimSpace(string(recorded)), "\n\n") {
		title, lines, _ := strings.Cut(session, "\n")
		sessions++
		t.Run(strings.TrimPrefix(title, "# "), func(t *testing.T) { play(t, g, lines) })
	}
	if sessions < 10 {
		t.Errorf("%d sessions were played", sessions)
	}
}

func play(t *testing.T, g *served, lines string) {
	var c *connection
	for line := range strings.Lines(lines) {
		line = strings.TrimSuffix(line, "\n")
		switch word, rest, _ := strings.Cut(line, " "); word {
		case "connect":
			uri, header, _ := strings.Cut(rest, " ")
			name, value, _ := strings.Cut(header, ": ")
			if name == "" {
				c = g.dial(t, uri)
			} else {
				c = g.dial(t, uri, name, value)
			}
		case ">":
			c.send(rest)
		case "<":
			got := c.receive()
			if strings.HasPrefix(got, `{"type":"ack"`) {
				got, rest = withoutEndpoint(got), withoutEndpoint(rest)
			}
			if got != rest {
				t.Errorf("received %s\nwant %s", got, rest)
			}
		case "closed":
			if reason, ok := strings.CutPrefix(rest, "by server: 1008 "); ok {
				if err := c.closed(1008); !strings.Contains(err, reason) {
					t.Errorf("closed: %s, want %s", err, reason)
				}
				return
			}
			if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Error(err)
			}
			return
		default:
			t.Fatalf("the line %q is unknown", line)
		}
	}
	t.Error("the session does not end")
}

// withoutEndpoint removes the endpoint from an acknowledgement.
func withoutEndpoint(ack string) string {
	before, rest, _ := strings.Cut(ack, `"endpoint":"`)
	_, after, _ := strings.Cut(rest, `"`)
	return before + after
}
