package main

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"zmtpd/forwarder/event"
	"zmtpd/zmtp/testkit"
)

// webSocket connects to the gateway of a daemon, sends the first message and returns the answer.
func webSocket(t testing.TB, d *process, token, first string) (*websocket.Conn, string) {
	t.Helper()
	header := http.Header{"X-Application-Name": {"test/1.0"}}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	c, _, err := websocket.Dial(t.Context(), d.Endpoint("WebSocket"),
		&websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	sendText(t, c, first)
	return c, receiveText(t, c)
}

func sendText(t testing.TB, c *websocket.Conn, text string) {
	t.Helper()
	if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func receiveText(t testing.TB, c *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	_, text, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// gatewayEvent returns an event in broker-bin-v1 and as a message in the given topic.
func gatewayEvent(t testing.TB, topic, name string, args ...any) (body []byte, text string) {
	t.Helper()
	body, err := event.AppendEvent(nil, name, args)
	if err != nil {
		t.Fatal(err)
	}
	return body, string(event.AppendMessage(nil, []byte(topic), body))
}

// A WebSocket client of the broker exchanges events with ZeroMQ peers. Flags, metrics and /status
// say so.
func TestGateway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clients, events := filepath.Join(dir, "clients.yaml"), filepath.Join(dir, "events.zeek")
	writeFile(t, clients, "clients: [{name: dashboard, token: 0123456789abcdef, publish: [app.]}]")
	writeFile(t, events, "global App::alert: event(text: string, n: count);\n")
	d := startDaemon(t, "up", "--dir", t.TempDir(), "--websocket", "127.0.0.1:0",
		"--websocket-clients", clients, "--event-signatures", events)
	c, ack := webSocket(t, d, "0123456789abcdef", `["zeek."]`)
	if !strings.HasPrefix(ack, `{"type":"ack","endpoint":"zmtpd_gateway_`) ||
		!strings.Contains(ack, `"version":"zmtpd `) {
		t.Errorf("the acknowledgement is %s", ack)
	}

	pub := publisher(t, d, 1)
	body, want := gatewayEvent(t, "zeek.x", "hello", uint64(1))
	publish(t, pub, "zeek.x", "zeromq_worker-1_host_1_N", "broker-bin-v1", string(body))
	if got := receiveText(t, c); got != want {
		t.Errorf("received %s, want %s", got, want)
	}

	sub := subscribe(t, d.Endpoint("XPUB"), "app.")
	testkit.Eventually(t, "the subscription", func() bool { return pub.Topics() == 2 })
	for topic, args := range map[string][]any{
		"app.good": {"x", uint64(1)}, "zeek.denied": {"x", uint64(1)}, "app.bad": {"x"},
	} {
		_, text := gatewayEvent(t, topic, "App::alert", args...)
		sendText(t, c, text)
	}
	for range 2 {
		if got := receiveText(t, c); !strings.Contains(got, "not_permitted") &&
			!strings.Contains(got, "failed to create Zeek event") {
			t.Errorf("received %s", got)
		}
	}
	m, err := sub.Recv(testkit.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	body, _ = gatewayEvent(t, "", "App::alert", "x", uint64(1))
	if m.NumParts() != 4 || string(m.Part(0)) != "app.good" ||
		!strings.Contains(ack, `"`+string(m.Part(1))+`"`) || string(m.Part(3)) != string(body) {
		t.Errorf("the subscriber received %q", m.AppendParts(nil))
	}

	var status struct {
		Forwarder struct {
			WebSocket *gatewayStatus `json:"websocket"`
		} `json:"forwarder"`
	}
	d.Status(&status)
	st := status.Forwarder.WebSocket
	if st == nil || st.Clients != 1 || st.Topics != 1 || st.Taken != 1 ||
		st.ByTopic["app.good"].In != 1 || st.Refused["publish_denied"] != 1 ||
		st.Refused["bad_signature"] != 1 || len(st.ByClient) != 1 ||
		st.ByClient[0].Client != "dashboard" || st.ByClient[0].Application != "test/1.0" {
		t.Errorf("status %+v", st)
	}
	for series, want := range map[string]float64{
		`zmtpd_websocket_connections`:                                                        1,
		`zmtpd_websocket_clients{application="test/1.0",client="dashboard"}`:                 1,
		`zmtpd_websocket_received_messages_total{application="test/1.0",client="dashboard"}`: 4,
		`zmtpd_websocket_refused_total{reason="publish_denied"}`:                             1,
		`zmtpd_websocket_topic_events_total{direction="in",topic="app.good"}`:                1,
	} {
		if got := d.Metric(series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}

	// A new permission closes the client; SIGTERM closes the others in order.
	writeFile(t, clients, "clients: [{name: dashboard, token: 0123456789abcdef, publish: []}]")
	ended := func(c *websocket.Conn, code websocket.StatusCode) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		defer cancel()
		if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != code {
			t.Errorf("%v, want code %v", err, code)
		}
	}
	ended(c, websocket.StatusPolicyViolation)
	c, _ = webSocket(t, d, "0123456789abcdef", `[]`)
	d.Signal(syscall.SIGTERM)
	ended(c, websocket.StatusGoingAway)
	if code := d.Wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func TestGatewayFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--event-signatures", "x"}, 2, "without --websocket"},
		{[]string{"--websocket", "127.0.0.1:0", "--websocket-key", "x"}, 2, "-certificate"},
		{[]string{"--websocket", "127.0.0.1:0", "--websocket-client-ca", "x"}, 2, "TLS"},
		{[]string{"--websocket", "nowhere"}, 1, "--websocket nowhere"},
		{[]string{"--websocket", "127.0.0.1:0", "--websocket-clients", "/none"}, 1, "clients"},
	} {
		code, _, stderr := runHere(t, nil, append([]string{"forwarder", "--xsub", anyPort, "--xpub",
			anyPort, "--http", ""}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: exit status %d, %s", tt.args, code, stderr)
		}
	}
}
