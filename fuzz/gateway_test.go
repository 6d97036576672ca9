package fuzz_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/coder/websocket"

	"zmtpd/forwarder"
	"zmtpd/forwarder/event"
	"zmtpd/forwarder/gateway"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/zmtptest"
)

// gatewayAddress is that of the gateway on a network in memory.
const gatewayAddress = "10.0.0.1:80"

// newGateway starts a gateway that ends with the test, and returns how to connect to it.
func newGateway(tb testing.TB) (dial func() *websocket.Conn) {
	tb.Helper()
	var n zmtptest.Network
	f := forwarder.New(forwarder.Config{})
	g, err := gateway.New(f, gateway.Config{Rate: -1, PingInterval: -1, MaxClients: -1,
		MaxClientsPerAddress: -1})
	if err != nil {
		tb.Fatal(err)
	}
	l, err := n.Listen(gatewayAddress)
	if err != nil {
		tb.Fatal(err)
	}
	g.Serve(l)
	tb.Cleanup(func() {
		f.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		g.Shutdown(ctx)
	})
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _,
		address string) (net.Conn, error) {
		return n.Dial(ctx, address)
	}}}
	return func() *websocket.Conn {
		c, _, err := websocket.Dial(context.Background(), "ws://"+gatewayAddress+
			"/v1/messages/json", &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			tb.Fatal(err)
		}
		c.SetReadLimit(-1)
		return c
	}
}

// receive returns the next message, which must be JSON, and its type. It is empty if the connection
// was closed.
func receive(t *testing.T, c *websocket.Conn) (typ string, text []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	_, text, err := c.Read(ctx)
	if err != nil {
		return "", nil
	}
	var m struct{ Type string }
	if err := json.Unmarshal(text, &m); err != nil || !utf8.Valid(text) {
		t.Fatalf("%v: %q", err, text)
	}
	return m.Type, text
}

// A first message either is an array of strings, which is acknowledged, or gets an error.
func FuzzGatewayFirst(f *testing.F) {
	addSeeds(f)
	dial := newGateway(f)
	f.Fuzz(func(t *testing.T, first []byte) {
		c := dial()
		defer c.CloseNow()
		if err := c.Write(context.Background(), websocket.MessageText, first); err != nil {
			t.Fatal(err)
		}
		var topics []string
		array := json.Unmarshal(first, &topics) == nil && topics != nil &&
			!strings.Contains(string(first), "null")
		switch typ, text := receive(t, c); {
		case typ == "ack":
		case typ == "error" && (!array || strings.Contains(string(text), "too_many")):
		default:
			t.Fatalf("the answer to %q is %q", first, text)
		}
	})
}

// A later message either is published, or gets an error. Whatever it was, the next one is
// published, and what others get is JSON.
func FuzzGatewayMessage(f *testing.F) {
	addSeeds(f)
	dial := newGateway(f)
	join := func(first string) *websocket.Conn {
		c := dial()
		if err := c.Write(context.Background(), websocket.MessageText, []byte(first)); err != nil {
			f.Fatal(err)
		}
		if _, _, err := c.Read(context.Background()); err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { c.CloseNow() })
		return c
	}
	sender, watcher := join("[]"), join(`[""]`)
	body, err := event.AppendEvent(nil, "sentinel", nil)
	if err != nil {
		f.Fatal(err)
	}
	sentinel := event.AppendMessage(nil, []byte("sentinel"), body)
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > 1<<20 {
			return
		}
		for _, text := range [][]byte{message, sentinel} {
			if err := sender.Write(context.Background(), websocket.MessageText, text); err != nil {
				t.Fatal(err)
			}
		}
		published := 0
		for {
			typ, text := receive(t, watcher)
			if typ != "data-message" {
				t.Fatalf("received %q", text)
			}
			if string(text) == string(sentinel) {
				break
			}
			published++
		}
		if _, _, err := event.ParseMessage(nil, message); err == nil && published > 1 ||
			err != nil && published > 0 {
			t.Fatalf("%d events of %q", published, message)
		}
		if string(message) == string(sentinel) {
			receive(t, watcher)
		} else if published == 0 {
			if typ, text := receive(t, sender); typ != "error" {
				t.Fatalf("the answer is %q", text)
			}
		}
	})
}

// gatewayFirsts are first messages.
func gatewayFirsts(testing.TB) [][]byte {
	return [][]byte{[]byte(`[]`), []byte(`["zeek.","a",""]`), []byte(`["a",1]`), []byte(`{}`),
		[]byte(`x`), []byte(`["a"`), []byte(`["\u0000\ud800"]`), []byte(`[[["a"]]]`)}
}

// gatewayMessages are messages with the events that a Zeek node has published.
func gatewayMessages(tb testing.TB) (all [][]byte) {
	for _, b := range seeds(tb, "testdata/event") {
		r, err := event.Parse(b)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, event.AppendMessage(nil, []byte("zeek.test"), r))
	}
	return append(all, []byte(`{"topic":1}`), []byte(`x`), []byte(`{"topic":"t","data":[]}`))
}
