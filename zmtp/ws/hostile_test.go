package ws

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

const upgrade = "GET / HTTP/1.1\r\nHost: h:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Protocol: ZWS2.0/NULL\r\n\r\n"

// refused lets f talk to a PULL that listens, and checks why the PULL closes the connection.
func refused(t *testing.T, cfg zmtp.Config, why wire.Reason, text string, f func(*zmtptest.Raw)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := new(zmtptest.Network)
		l, err := n.Listen("h:1")
		if err != nil {
			t.Fatal(err)
		}
		pull := zmtp.NewPull(cfg)
		defer pull.Close()
		events := pull.Monitor(100)
		if _, err := pull.Serve(NewListener(l, Options{Origins: []string{"https://good"}})); err != nil {
			t.Fatal(err)
		}
		conn, err := n.Dial(t.Context(), "h:1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		f(zmtptest.NewRaw(t, conn))
		for e := range events.Events() {
			if e.Type == zmtp.EventDisconnected ||
				strings.HasPrefix(e.Type.String(), "HANDSHAKE_FAILED") {
				if !strings.Contains(fmt.Sprint(e.Err), why.String()) ||
					!strings.Contains(fmt.Sprint(e.Err), text) {
					t.Errorf("%v: %v; want %v, %s", e.Type, e.Err, why, text)
				}
				return
			}
		}
	})
}

// Requests that are no handshake of ours are refused with a status of HTTP and an error that says
// what was wrong.
func TestRequests(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		status   int
		reason   wire.Reason
		text     string
	}{
		"no upgrade":    {"Connection: Upgrade\r\n", "", 426, wire.NotZMTP, "without upgrade"},
		"method":        {"GET", "POST", 405, wire.NotZMTP, "instead of GET"},
		"HTTP/1.0":      {"HTTP/1.1", "HTTP/1.0", 405, wire.NotZMTP, "instead of GET"},
		"version":       {"Version: 13", "Version: 8", 426, wire.NotZMTP, "version \"8\""},
		"key":           {"Key: AAAA", "Key: A", 400, wire.NotZMTP, "Sec-WebSocket-Key"},
		"no key":        {"Sec-WebSocket-Key", "X-Key", 400, wire.NotZMTP, "Sec-WebSocket-Key"},
		"mechanism":     {"2.0/NULL", "2.0/CURVE", 400, wire.MechanismMismatch, "ZWS2.0/CURVE"},
		"ZWS 1.0":       {"ZWS2.0/NULL", "ZWS1.0", 400, wire.MechanismMismatch, "ZWS1.0"},
		"no protocol":   {"Sec-WebSocket-Protocol", "X", 400, wire.MechanismMismatch, "offers"},
		"foreign page":  {"Host: h:1", "Host: h:1\r\nOrigin: http://bad", 403, wire.Rejected, "http://bad"},
		"strange page":  {"Host: h:1", "Host: h:1\r\nOrigin: null", 403, wire.Rejected, "null"},
		"good page":     {"Host: h:1", "Host: h:1\r\nOrigin: https://good", 101, wire.HandshakeTimeout, ""},
		"own page":      {"Host: h:1", "Host: h:1\r\nOrigin: http://h:1", 101, wire.HandshakeTimeout, ""},
		"list of lists": {"Protocol: ZWS", "Protocol: x, y\r\nSec-WebSocket-Protocol: z, ZWS", 101, wire.HandshakeTimeout, ""},
		"silence":       {"\r\n\r\n", "\r\n", 0, wire.HandshakeTimeout, ""},
		"header":        {"Host", " bad\x00", 0, wire.NotZMTP, "no WebSocket handshake"},
		"no HTTP":       {"GET", "\x05HELLO", 0, wire.NotZMTP, "no WebSocket handshake"},
		"endless":       {"Host", strings.Repeat("X: y\r\n", maxHandshake/6) + "Host", 0, wire.NotZMTP, "handshake above"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, zmtp.Config{}, c.reason, c.text, func(r *zmtptest.Raw) {
				go func() { // the socket need not read all of it
					r.Send([]byte(strings.Replace(upgrade, c.old, c.new, 1)))
				}()
				if c.status > 0 {
					r.Expect(fmt.Appendf(nil, "HTTP/1.1 %d ", c.status))
				}
			})
		})
	}
}

// masked returns a frame of a client, with a mask of zeros.
func masked(first byte, payload string) string {
	size := byte(min(len(payload), 126))
	head := []byte{first, 0x80 | size}
	if size == 126 {
		head = append(head, byte(len(payload)>>8), byte(len(payload)))
	}
	return string(head) + "\x00\x00\x00\x00" + payload
}

// Frames that RFC 6455, RFC 45 or libzmq does not allow close the connection with an error that
// names the fault.
func TestFrames(t *testing.T) {
	ready := masked(0x82, "\x02\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH")
	for name, c := range map[string]struct {
		frames string
		reason wire.Reason
		text   string
	}{
		"text":           {masked(0x81, "hello"), wire.MalformedFrame, "a text frame"},
		"fragment":       {masked(0x02, "\x00part"), wire.MalformedFrame, "fragmented"},
		"continuation":   {masked(0x80, "\x00part"), wire.MalformedFrame, "fragmented"},
		"extension":      {masked(0xc2, "\x00part"), wire.MalformedFrame, "reserved bits"},
		"opcode":         {masked(0x83, "\x00part"), wire.MalformedFrame, "unknown opcode 0x3"},
		"no mask":        {"\x82\x01\x00", wire.MalformedFrame, "unmasked"},
		"no flags":       {masked(0x82, ""), wire.MalformedFrame, "without the byte for its flags"},
		"flags":          {masked(0x82, "\x04"), wire.MalformedFrame, "reserved bits in the flags"},
		"command + more": {masked(0x82, "\x03\x04ABCD"), wire.MalformedFrame, "MORE"},
		"long ping":      {masked(0x89, strings.Repeat("p", 126)), wire.MalformedFrame, "control frame above"},
		"size 2^63":      {"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", wire.MalformedFrame, "9223372036854775808 bytes"},
		"above limit":    {"\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", wire.MessageTooLarge, ""},
		"no group":       {masked(0x82, "\x02"), wire.MalformedCommand, "empty command"},
		"close":          {masked(0x88, "\x03\xe8bye"), wire.PeerClosed, ""},
		"empty close":    {masked(0x88, ""), wire.PeerClosed, ""},
		"close 1002":     {masked(0x88, "\x03\xeafault"), wire.ConnectionLost, `1002 "fault"`},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, zmtp.Config{}, c.reason, c.text, func(r *zmtptest.Raw) {
				r.Send([]byte(upgrade + ready + c.frames))
			})
		})
	}
}

// A header that comes byte by byte, and frames of several messages in one piece, are read alike.
func TestPieces(t *testing.T) {
	stream := upgrade + masked(0x82, "\x02\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH") +
		masked(0x82, "\x01one") + masked(0x89, "ping") + masked(0x82, "\x00") +
		masked(0x8a, "") + masked(0x82, "\x00"+strings.Repeat("x", 300))
	for _, piece := range []int{1, 2, 7, len(stream)} {
		synctest.Test(t, func(t *testing.T) {
			n := new(zmtptest.Network)
			l, err := n.Listen("h:1")
			if err != nil {
				t.Fatal(err)
			}
			pull := zmtp.NewPull(zmtp.Config{})
			defer pull.Close()
			if _, err := pull.Serve(NewListener(l, Options{})); err != nil {
				t.Fatal(err)
			}
			conn, err := n.Dial(t.Context(), "h:1")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for rest := stream; len(rest) > 0; {
				m := min(piece, len(rest))
				if _, err := conn.Write([]byte(rest[:m])); err != nil {
					t.Fatal(err)
				}
				rest = rest[m:]
				synctest.Wait()
			}
			for _, want := range []zmtp.Message{zmtp.NewMessageString("one", ""),
				zmtp.NewMessageString(strings.Repeat("x", 300))} {
				m, err := pull.Recv(t.Context())
				if err != nil || string(m.Wire()) != string(want.Wire()) {
					t.Errorf("in pieces of %d: %q, %v", piece, m.Wire(), err)
				}
			}
			time.Sleep(time.Second)
			all := make([]byte, 1000)
			k, err := conn.Read(all)
			if err != nil || !strings.HasSuffix(string(all[:k]), "\x8a\x04ping") {
				t.Errorf("in pieces of %d: answered %q, %v", piece, all[:k], err)
			}
		})
	}
}

// A library of others talks to our server, without READY, and its ping is answered.
func TestForeignClient(t *testing.T) {
	router := zmtp.NewRouter(config(Options{}, nil), zmtp.RouterOptions{})
	defer router.Close()
	bound, err := router.Listen("ws://127.0.0.1:*/x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, bound, &websocket.DialOptions{
		Subprotocols: []string{"other", "ZWS2.0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != "ZWS2.0" {
		t.Fatalf("subprotocol %q", got)
	}
	read := func(want string) {
		t.Helper()
		if kind, b, err := c.Read(ctx); err != nil || kind != websocket.MessageBinary ||
			string(b) != want {
			t.Fatalf("read %v %q, %v; want %q", kind, b, err, want)
		}
	}
	for _, frame := range []string{"\x00me", "\x01a", "\x00b"} {
		if err := c.Write(ctx, websocket.MessageBinary, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	read("\x00") // the routing id of the ROUTER, which has none
	m, err := router.Recv(ctx)
	if err != nil || m.NumParts() != 3 || string(m.Part(0)) != "me" || string(m.Part(2)) != "b" {
		t.Fatalf("received %q, %v", m.Wire(), err)
	}
	if err := router.Send(ctx, m); err != nil {
		t.Fatal(err)
	}
	read("\x01a")
	read("\x00b")
	c.CloseRead(ctx) // reads the pong
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
	if err := router.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// foreignServer is a server made with a library of others.
func foreignServer(t *testing.T, handle func(ctx context.Context, c *websocket.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"ZWS2.0"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		handle(ctx, c)
		close(done)
	})}
	go server.Serve(l)
	t.Cleanup(func() {
		testkit.Done(t, "the end of the server", done)
		server.Close()
	})
	return "ws://" + l.Addr().String() + "/x"
}

// Our client talks to such a server, and ends with a close frame.
func TestForeignServer(t *testing.T) {
	url := foreignServer(t, func(ctx context.Context, c *websocket.Conn) {
		for _, want := range []string{"\x00me", "\x01hello", "\x00world"} {
			if _, b, err := c.Read(ctx); err != nil || string(b) != want {
				t.Errorf("the server read %q, %v; want %q", b, err, want)
				return
			}
			if want == "\x00me" {
				c.Write(ctx, websocket.MessageBinary, []byte("\x00"))
			}
		}
		if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Errorf("the server read %v", err)
		}
	})
	cfg := config(Options{}, nil)
	cfg.RoutingID = []byte("me")
	dealer := zmtp.NewDealer(cfg, zmtp.DealerOptions{})
	if err := dealer.Connect(url); err != nil {
		t.Fatal(err)
	}
	if err := dealer.Send(t.Context(), zmtp.NewMessageString("hello", "world")); err != nil {
		t.Fatal(err)
	}
	shutdown(t, dealer)
}

// A server that answers something else is tried again, since a proxy may have answered for it. The
// error says what came.
func TestAnswers(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nlater": `"502 Bad Gateway": "later"`,
		"HTTP/1.1 101 Switching Protocols\r\n\r\n":                   "does not accept",
		"SSH-2.0-OpenSSH_9.2\r\n":                                    "no WebSocket handshake",
		strings.Repeat("HTTP", maxHandshake):                         "handshake above",
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(zmtptest.Network)
				l, err := n.Listen("h:1")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				cfg := config(Options{}, nil)
				cfg.Dial = func(ctx context.Context, _, address string) (net.Conn, error) {
					return n.Dial(ctx, address)
				}
				push := zmtp.NewPush(cfg, zmtp.PushOptions{})
				defer push.Close()
				events := push.Monitor(100)
				if err := push.Connect("ws://h:1/x"); err != nil {
					t.Fatal(err)
				}
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				go io.WriteString(conn, answer) // the socket need not read all of it
				go io.Copy(io.Discard, conn)
				failed := false
				for e := range events.Events() {
					if strings.HasPrefix(e.Type.String(), "HANDSHAKE_FAILED") {
						failed = strings.Contains(fmt.Sprint(e.Err), want)
						if !failed {
							t.Errorf("%v", e.Err)
						}
					}
					if e.Type == zmtp.EventConnectRetried {
						break
					}
				}
				if !failed {
					t.Error("the handshake did not fail")
				}
			})
		})
	}
}

// Endpoints without meaning are refused, as is wss without a certificate.
func TestEndpoints(t *testing.T) {
	pull := zmtp.NewPull(config(Options{}, nil))
	defer pull.Close()
	for endpoint, why := range map[string]string{
		"ws://":                "port is missing",
		"ws://host":            "port is missing",
		"ws://host:port/":      "not a number",
		"ws://127.0.0.1:1/a b": "must be escaped",
	} {
		if err := pull.Connect(endpoint); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	if _, err := pull.Listen("wss://127.0.0.1:*"); err == nil ||
		!strings.Contains(err.Error(), "no certificate") {
		t.Errorf("wss without certificate: %v", err)
	}
}
