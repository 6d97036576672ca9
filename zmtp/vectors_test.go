package zmtp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// later has the recorded exchanges that are played elsewhere or need a feature that does not exist
// yet, by name, or by prefix with a * at the end.
var later = map[string]string{
	"curve-*":       "package curve plays them",
	"zap-request-*": "package zap plays them",
	"zap-reply-*":   "likewise",

	"req-correlate":             "the state machine of REQ: request ids",
	"req-no-delimiter":          "the state machine of REQ: what a reply must look like",
	"router-duplicate-identity": "the routing table of ROUTER",
	"proxy-statistics-master":   "proxy control",
}

// vectorConfig is how the sockets of the recordings were set up, where it was not the default.
var vectorConfig = map[string]Config{
	"frame-maxmsgsize": {MaxMessageSize: 100},
	"ready-maxmsgsize": {MaxMessageSize: 25},
	"ping-sent": {
		HeartbeatInterval: 200 * time.Millisecond, HeartbeatTTL: 1250 * time.Millisecond,
		HeartbeatTimeout: 300 * time.Millisecond,
	},
}

// TestVectors plays the other end of each recorded exchange. It compares what our socket sends with
// what libzmq sent, and compares the delivered messages, the events and the end.
func TestVectors(t *testing.T) {
	used := map[string]bool{}
	vectors := zmtptest.Vectors(t)
	for _, name := range slices.Sorted(maps.Keys(vectors)) {
		v := vectors[name]
		if _, ok := authVectors[name]; ok {
			continue
		}
		if key, ok := isLater(name); ok {
			used[key] = true
			continue
		}
		for _, role := range rolesOf(name, v) {
			t.Run(name+"/"+map[zmtptest.Kind]string{zmtptest.Client: "client",
				zmtptest.Server: "server"}[role], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { newExchange(t, name, v, role).run() })
			})
		}
	}
	for key := range later {
		if !used[key] {
			t.Errorf("%q is to come later and is none of the recordings", key)
		}
	}
	for name := range vectorConfig {
		if _, ok := vectors[name]; !ok {
			t.Errorf("there is a configuration for %q, which is none of the recordings", name)
		}
	}
}

func isLater(name string) (key string, ok bool) {
	if _, ok := later[name]; ok {
		return name, true
	}
	for key := range later {
		if prefix, ok := strings.CutSuffix(key, "*"); ok && strings.HasPrefix(name, prefix) {
			return key, true
		}
	}
	return "", false
}

// rolesOf returns the sides that we play. Where libzmq itself breaks the framing, we play both its
// peer and, correctly, its part.
func rolesOf(name string, v zmtptest.Vector) []zmtptest.Kind {
	both := []zmtptest.Kind{zmtptest.Client, zmtptest.Server}
	switch who := v.Headers["libzmq"]; {
	case who == "both", v.Headers["expect"] == "malformed":
		return both
	case who == "client":
		return both[:1]
	case who == "server":
		return both[1:]
	default:
		panic(name + ": no side is libzmq's")
	}
}

// An exchange is one recording in one role.
type exchange struct {
	t    *testing.T
	name string
	v    zmtptest.Vector
	ours zmtptest.Kind
	typ  wire.SocketType

	sock     *vectorSocket
	monitor  *Monitor
	network  zmtptest.Network
	listener net.Listener // when we connect
	word     string       // how it has to end

	// Of the present connection.
	raw    *zmtptest.Raw
	want   []byte // what we have to say and was not read yet
	said   int    // how many bytes were read
	heard  []byte // what the other side has sent
	owed   []byte // of our greeting, what waits for the other side's
	acted  bool   // the comments say what the application does
	queued [][]byte
}

func newExchange(t *testing.T, name string, v zmtptest.Vector, ours zmtptest.Kind) *exchange {
	x := &exchange{t: t, name: name, v: v, ours: ours}
	x.word, _ = v.Outcome()
	if x.word == "malformed" {
		// The connecting side makes the mistake. In its place we do it right; at the other end we
		// close.
		x.word = "accept"
		if ours == zmtptest.Server {
			x.word = "closed"
		}
	}
	x.typ = wire.SocketType(v.Headers[map[zmtptest.Kind]string{zmtptest.Client: "client-socket",
		zmtptest.Server: "server-socket"}[ours]])
	for _, steps := range v.Connections {
		for _, s := range steps {
			if s.Kind == zmtptest.Comment {
				if _, ok := applicationDoes(s.Text); ok {
					x.acted = true
				}
			}
		}
	}
	cfg := inMemory(&x.network, vectorConfig[name])
	x.sock = newVectorSocket(x.typ, cfg, strings.Contains(name, "verboser"))
	x.monitor = x.sock.Monitor(100)
	return x
}

func (x *exchange) run() {
	t := x.t
	defer closeNow(t, x.sock.Socket)
	if x.ours == zmtptest.Client {
		x.listener = listenRaw(t, &x.network, addr)
		if err := x.sock.Connect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
	} else {
		bind(t, &x.network, x.sock.Socket, addr)
	}
	if x.name == "xsub-raw-31" {
		// In the recording the application sends "pending" between connect and handshake, so it
		// goes out as a message; our socket sends it again like every other topic.
		x.sock.act("subscribe", []byte("before"))
		x.sock.act("subscribe", []byte("pending"))
	}
	for i, steps := range x.v.Connections {
		if i > 0 {
			x.raw.Conn.Close()
		}
		if x.ours == zmtptest.Client {
			x.raw = acceptRaw(t, x.listener)
		} else {
			x.raw = dialRaw(t, &x.network, addr)
		}
		x.want, x.said, x.heard, x.owed = nil, 0, nil, nil
		switch x.name {
		case "greeting-signature-identity":
			x.signature()
			return
		case "ready-req-identity-app":
			x.identity()
			return
		}
		x.acted = x.acted || i > 0 // what is said again is not said by the application
		x.connection(steps)
	}
	x.end()
}

// signature lets a peer with a long identity greet us; only the signature of its greeting was
// recorded.
func (x *exchange) signature() {
	greeting := wire.AppendGreeting(nil, "NULL", false)
	copy(greeting, x.v.Bytes(0, zmtptest.Server))
	x.raw.Send(append(greeting, ready(wire.DEALER)...))
	x.raw.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(x.typ)...))
	alive(x.raw)
}

// identity compares the handshake of a socket with an identity.
func (x *exchange) identity() {
	app := wire.Metadata{{Name: "X-app", Value: []byte("v1")}}
	h := newHandshake(x.typ, newNull(localMetadata(x.typ, []byte("abc"), app)), 0)
	got, _, _, err := h.feed(h.start(nil), x.v.Bytes(0, zmtptest.Server))
	if err != nil {
		x.t.Fatal(err)
	}
	want := x.v.Bytes(0, x.ours)
	// padding: libzmq writes the size of the identity and one
	copy(want[1:9], "\x00\x00\x00\x00\x00\x00\x00\x01")
	if diff := zmtptest.Diff(got, want); diff != "" {
		x.t.Fatal(diff)
	}
}

// connection plays one connection.
func (x *exchange) connection(steps []zmtptest.Step) {
	var ours []zmtptest.Step // lines of our side that follow each other
	flush := func() {
		x.expect(ours)
		ours = nil
	}
	handshakes := 0 // READYs of both sides
	for _, s := range steps {
		switch {
		case s.Kind == zmtptest.Comment:
			if do, ok := applicationDoes(s.Text); ok {
				flush()
				synctest.Wait() // the other side has been heard
				for _, a := range do {
					x.sock.act(a.what, a.topic)
				}
			}
		case s.Kind == x.ours:
			if isReady(s.Data) {
				handshakes++
			}
			ours = append(ours, s)
			if handshakes == 2 && !isReady(s.Data) && !x.acted {
				// What our side sends first does not wait for what the other side sends next.
				x.say(s.Data)
			}
		default:
			flush()
			if isReady(s.Data) {
				handshakes++
			}
			x.send(s.Data)
		}
	}
	flush()
}

func isReady(frame []byte) bool { return bytes.Contains(frame, []byte("\x05READY")) }

// send sends what the other side sends. After a fault in it our side may have closed.
func (x *exchange) send(b []byte) {
	x.heard = append(x.heard, b...)
	if x.word != "closed" {
		x.raw.Send(b)
		return
	}
	x.raw.Conn.SetWriteDeadline(time.Now().Add(zmtptest.DefaultTimeout))
	x.raw.Conn.Write(b)
}

// say sends what libzmq's application sent.
func (x *exchange) say(frames []byte) {
	x.queued = append(x.queued, frames)
	var d wire.Decoder
	joined := bytes.Join(x.queued, nil)
	for len(joined) > 0 {
		it, err := d.Next(joined)
		if err != nil {
			x.t.Fatal(err)
		}
		switch it.Kind {
		case wire.NeedMore:
			return // a part of a message, the rest comes with the next line
		case wire.AMessage:
			m, err := ParseMessage(joined[:it.Size])
			if err != nil {
				x.t.Fatal(err)
			}
			x.sock.send(x.t, m)
		case wire.ACommand:
			name, data, err := wire.ParseCommand(it.Body)
			if err != nil {
				x.t.Fatal(err)
			}
			switch string(name) {
			case wire.CmdSubscribe:
				x.sock.act("subscribe", data)
			case "JOIN":
				x.sock.command(x.t, wire.AppendCommand(nil, "JOIN", data))
			case wire.CmdPing, wire.CmdPong: // nobody has to do anything for them
			default:
				x.t.Fatalf("no way to say %q", name)
			}
		}
		joined = joined[it.From:it.To]
	}
	x.queued = nil
}

// expect reads what our side sends and compares it. The order of subscriptions is not significant.
func (x *exchange) expect(lines []zmtptest.Step) {
	if len(lines) == 0 {
		return
	}
	if x.word == "closed" && x.v.Headers["ours"] != "" && !x.stillThere() {
		return // libzmq would have said it, we had reason to hang up
	}
	want := x.owed
	for _, l := range lines {
		want = append(want, x.right(l.Data)...)
	}
	// Some recordings have the whole greeting of a scripted peer in one line.
	if due := x.greetingDue() - x.said; x.said < wire.GreetingSize && due < len(want) {
		x.owed, want = want[due:], want[:due]
	} else {
		x.owed = nil
	}
	if x.said < wire.GreetingSize || !onlySubscriptions(want) {
		x.raw.Expect(want)
		x.said += len(want)
		return
	}
	got := make([]byte, len(want))
	x.raw.Conn.SetReadDeadline(time.Now().Add(x.raw.Timeout))
	n, err := readFull(x.raw.Conn, got)
	if err != nil || !slices.Equal(subscriptionsOf(got), subscriptionsOf(want)) {
		x.t.Fatalf("%v\n%s", err, zmtptest.Diff(got[:n], want))
	}
	x.said += len(want)
}

// greetingDue returns how many bytes of our greeting the other side may have received by now.
func (x *exchange) greetingDue() int {
	switch n := len(x.heard); {
	case n < wire.SignatureSize:
		return wire.SignatureSize
	case n == wire.SignatureSize:
		return wire.SignatureSize + 1
	}
	return wire.GreetingSize
}

// right returns what libzmq meant to send in the recordings in which it breaks the framing, and
// what we send for the topics to which libzmq's application had subscribed before the connection
// existed.
func (x *exchange) right(line []byte) []byte {
	switch {
	case x.v.Headers["expect"] == "malformed" && x.ours == zmtptest.Server && len(line) == wire.GreetingSize:
		return wire.AppendGreeting(nil, "NULL", false)
	case x.v.Headers["expect"] == "malformed" && len(line) > 200:
		line = slices.Clone(line)
		line[0] |= byte(wire.Long)
	case x.name == "xsub-raw-31" && bytes.HasSuffix(line, []byte("pending")):
		return subscribe("pending")
	}
	return line
}

// stillThere reports whether our side has not closed.
func (x *exchange) stillThere() bool {
	synctest.Wait()
	x.sock.mu.Lock()
	defer x.sock.mu.Unlock()
	return len(x.sock.peers) > 0 || x.sock.pending.Len() > 0
}

// end checks how the exchange ended.
func (x *exchange) end() {
	t := x.t
	synctest.Wait()
	switch x.word {
	case "accept", "ignored":
		x.raw.Expect(x.owed)
		if x.said == 0 { // libzmq had not come to say it
			x.raw.Expect(append(wire.AppendGreeting(nil, "NULL", false), ready(x.typ)...))
		}
		alive(x.raw)
	case "closed":
		x.expectRest()
		x.raw.ExpectClose()
	default:
		t.Fatalf("it should end with %q", x.word)
	}
	synctest.Wait()
	if want, ok := x.delivered(); ok {
		if got := x.sock.received(t); !slices.Equal(got, want) {
			t.Errorf("delivered %q, want %q", got, want)
		}
	}
	x.checkEvents()
}

// expectRest expects the bytes that libzmq had not sent when it closed: the rest of the greeting,
// and perhaps READY.
func (x *exchange) expectRest() {
	due := x.greetingDue()
	if _, _, err := wire.ParseGreeting(x.heard); err != nil {
		due = wire.SignatureSize // nothing is said to a peer whose greeting is refused
	}
	if x.said < due {
		x.raw.Expect(wire.AppendGreeting(nil, "NULL", false)[x.said:due])
		x.said = due
	}
	if end := x.raw.Conn.(*zmtptest.Conn); x.said == wire.GreetingSize && end.Buffered() > 0 {
		x.raw.Expect(ready(x.typ))
	}
}

// delivered returns what the application has to receive, in the form of the recordings.
func (x *exchange) delivered() ([]string, bool) {
	if _, note := x.v.Outcome(); x.v.Headers["ours"] != "" {
		// Where our behaviour differs, the end of the line has what is delivered, otherwise it is
		// what was sent.
		_, list, ok := strings.Cut(note, ": XPUB ")
		if ok {
			return strings.Split(list, " ; "), true
		}
		if x.name == "greeting-ready-data-fused" {
			return []string{"78"}, true
		}
		return nil, x.word == "closed"
	}
	for section := range strings.SplitSeq(x.v.Headers["delivered"], " | ") {
		who, list, _ := strings.Cut(section, " ")
		if who == string(x.typ) ||
			who == map[zmtptest.Kind]string{zmtptest.Client: "client",
				zmtptest.Server: "server"}[x.ours] {
			if list == "nothing" {
				return nil, true
			}
			return strings.Split(list, " ; "), true
		}
	}
	return nil, false
}

// more has the recordings in which our monitor reports more than libzmq's: libzmq has no event for
// mismatched types or bad metadata, and waits where we know at once.
var more = map[string]EventType{
	"greeting-http":           EventHandshakeFailedProtocol,
	"ready-huge-value":        EventHandshakeFailedProtocol,
	"ready-maxmsgsize":        EventHandshakeFailedProtocol,
	"ready-short-value":       EventHandshakeFailedProtocol,
	"ready-socket-type-twice": EventHandshakeFailedProtocol,
	"ready-socket-type-wrong": EventHandshakeFailedProtocol,
	"ready-trailing-byte":     EventHandshakeFailedProtocol,
	"error-client-text":       EventHandshakeFailedNoDetail,
}

// checkEvents compares the events of a monitor after the connection was made, and whether there is
// another attempt.
func (x *exchange) checkEvents() {
	time.Sleep(time.Minute) // of the bubble's time, for the attempts
	var got []string
	reconnects := "no"
	for _, e := range events(x.monitor) {
		switch e.Type {
		case EventHandshakeFailedAuth, EventHandshakeFailedProtocol, EventHandshakeFailedNoDetail:
			value := fmt.Sprintf("%d", e.Value)
			if e.Type == EventHandshakeFailedProtocol {
				value = fmt.Sprintf("%#x", e.Value)
			}
			if more[x.name] != e.Type {
				got = append(got, fmt.Sprintf("%v(%s)", e.Type, value))
			}
		case EventDisconnected:
			got = append(got, e.Type.String())
		case EventConnectRetried:
			reconnects = "yes"
		}
	}
	if want, ok := x.v.Headers["reconnects"]; ok && reconnects != want {
		x.t.Errorf("another attempt: %s, want %s", reconnects, want)
	}
	want, ok := x.v.Headers["event"]
	if !ok || x.v.Headers["ours"] != "" {
		return
	}
	if want == "none" {
		want = ""
	}
	if got := strings.Join(got, ", "); got != want {
		x.t.Errorf("events %s, want %s", got, want)
	}
}

// action is what the application does.
type action struct {
	what  string // subscribe, unsubscribe, send
	topic []byte // or the message
}

// applicationDoes parses the application's next action from a comment.
func applicationDoes(comment string) (do []action, ok bool) {
	comment, _, _ = strings.Cut(comment, ": ")
	word := strings.Fields(comment)
	quoted := func(s string) []byte { return []byte(strings.Trim(s, `"`)) }
	repeated := func(n, s string) []byte {
		count, err := strconv.Atoi(n)
		if err != nil {
			panic(comment)
		}
		return bytes.Repeat(quoted(s), count)
	}
	switch {
	case len(word) == 3 && word[0] == "application" && word[1] == "sends":
		b, err := hex.DecodeString(word[2])
		if err != nil {
			panic(comment)
		}
		return []action{{"send", b}}, true
	case strings.HasPrefix(comment, `subscribe "`):
		return []action{{"subscribe", quoted(word[1])}}, true
	case strings.HasPrefix(comment, `unsubscribe "`):
		return []action{{"unsubscribe", quoted(word[1])}}, true
	case strings.HasPrefix(comment, "subscribe and cancel "):
		topic := repeated(word[3], word[5])
		return []action{{"subscribe", topic}, {"unsubscribe", topic}}, true
	case strings.HasPrefix(comment, "subscribe ") && strings.HasSuffix(comment, "then cancel"):
		topic := repeated(word[1], strings.TrimSuffix(word[3], ","))
		return []action{{"subscribe", topic}, {"unsubscribe", topic}}, true
	case comment == "subscribe 256 bytes":
		topic := repeated("256", "t")
		return []action{{"subscribe", topic}, {"unsubscribe", topic}}, true
	case strings.HasPrefix(comment, "subscribe ") && strings.HasSuffix(word[2], "bytes"):
		return []action{{"subscribe", repeated(word[1], "t")}}, true
	}
	return nil, false
}

// onlySubscriptions reports whether b has nothing but whole subscriptions and cancellations in the
// form of commands, whose order is free.
func onlySubscriptions(b []byte) bool {
	for _, s := range subscriptionsOf(b) {
		if !strings.HasPrefix(s, "\x09SUBSCRIBE") {
			return false
		}
	}
	return true
}

// subscriptionsOf returns the bodies of the frames of b, sorted.
func subscriptionsOf(b []byte) []string {
	var all []string
	for len(b) > 0 {
		_, size, n, err := wire.ParseHeader(b)
		if err != nil || n == 0 || int64(len(b)-n) < size {
			return append(all, string(b))
		}
		all = append(all, string(b[n:n+int(size)]))
		b = b[n+int(size):]
	}
	slices.Sort(all)
	return all
}

func readFull(r interface{ Read([]byte) (int, error) }, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}
