package capture

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/ws"
)

// What libzmq says over WebSocket is decoded: to itself, and encrypted to us.
func TestWebSocketLibzmq(t *testing.T) {
	z := testkit.StartZeroMQJS(t)
	patience := testkit.Patience.Milliseconds()
	// push makes libzmq push messages over a relay to an endpoint, and returns the events.
	push := func(endpoint string, options testkit.Args, receive func(), keys KeyFinder) []string {
		host, path, _ := strings.Cut(strings.TrimPrefix(endpoint, "ws://"), "/")
		address, recorded := relay(t, host)
		options["heartbeatInterval"] = 20
		options["heartbeatTimeout"] = patience // a busy machine takes long for a PONG
		z.Call(t, "socket", testkit.Args{"name": "push", "type": "Push", "options": options})
		z.Call(t, "connect", testkit.Args{"name": "push",
			"endpoint": "ws://" + address + "/" + path})
		for _, n := range []int{1, 125, 300, 70_000} {
			if !z.Call(t, "send", testkit.Args{"name": "push", "timeout": patience,
				"parts": testkit.Blobs([]string{"topic", strings.Repeat("x", n)})}).OK {
				t.Fatal("not sent")
			}
			receive()
		}
		z.Call(t, "close", testkit.Args{"name": "push"})
		return lines(mustRead(t, chunksFile(t, recorded()), Options{Keys: keys}))
	}
	check := func(got []string, want ...string) {
		t.Helper()
		want = append(want, "5557 metadata server Socket-Type=PULL",
			"5557 metadata client Socket-Type=PUSH", `5557 message client "topic" "x"`,
			`5557 message client "topic" 125:"xxxxxxxx"`,
			`5557 message client "topic" 300:"xxxxxxxx"`,
			`5557 message client "topic" 70000:"xxxxxxxx"`)
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("no %s in %q", line, got)
			}
		}
		if i := slices.IndexFunc(got, func(line string) bool {
			return strings.Contains(line, "problem")
		}); i >= 0 {
			t.Error(got[i])
		}
	}

	z.Call(t, "socket", testkit.Args{"name": "pull", "type": "Pull", "options": testkit.Args{}})
	bound := z.Call(t, "bind", testkit.Args{"name": "pull",
		"endpoint": "ws://127.0.0.1:*/path"}).Endpoint
	check(push(bound, testkit.Args{}, func() {
		if !z.Call(t, "recv", testkit.Args{"name": "pull", "timeout": patience}).OK {
			t.Fatal("not received")
		}
	}, nil), "5557 upgrade client ZWS2.0/NULL,ZWS2.0", "5557 upgrade server ZWS2.0/NULL")

	path := filepath.Join(t.TempDir(), "keys")
	log, err := curve.CreateKeyLog(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	serverKey, serverSecret := curve.GenerateKeyPair()
	clientKey, clientSecret := curve.GenerateKeyPair()
	server, err := curve.NewServer(zmtp.Auth{Open: true}, serverSecret)
	if err != nil {
		t.Fatal(err)
	}
	pull := zmtp.NewPull(zmtp.Config{Mechanism: server.WithKeyLog(log).Mechanism,
		Transports: ws.Transports(ws.Options{})})
	defer pull.Close()
	if bound, err = pull.Listen("ws://127.0.0.1:*/path"); err != nil {
		t.Fatal(err)
	}
	keys, err := curve.OpenKeyLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	check(push(bound, testkit.Args{"curveServerKey": serverKey.String(),
		"curvePublicKey": clientKey.String(), "curveSecretKey": clientSecret.Text()}, func() {
		if _, err := pull.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
	}, keys), "5557 upgrade client ZWS2.0/CURVE", "5557 upgrade server ZWS2.0/CURVE")
}
