package zmtp

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
	"zmtpd/zmtp/zmtptest"
)

// authVectors are the recordings with an authenticator or with PLAIN, and what the authenticator
// answers, 0 for nothing within the time of the handshake.
var authVectors = map[string]int{
	"plain-client-client-to-client":  0,
	"plain-client-error-libzmq-form": 0,
	"plain-client-ok":                0,
	"plain-client-welcome-long":      0,
	"plain-server-hello-no-password": 200,
	"plain-server-hello-trailing":    200,
	"plain-server-initiate-first":    200,
	"plain-server-zap-200":           200,
	"plain-server-zap-400":           400,
	"plain-server-zap-500":           500,
	"zap-null-200":                   200,
	"zap-null-500":                   500,
	"null-early-data-zap-pending":    0,
}

// TestAuthVectors plays the other end of these recordings, as TestVectors does with the others.
func TestAuthVectors(t *testing.T) {
	vectors := zmtptest.Vectors(t)
	for name, status := range authVectors {
		t.Run(name, func(t *testing.T) {
			v, ok := vectors[name]
			if !ok {
				t.Fatal("there is no such recording")
			}
			synctest.Test(t, func(t *testing.T) { playAuthVector(t, v, status) })
		})
	}
}

func playAuthVector(t *testing.T, v zmtptest.Vector, status int) {
	handler := zap.HandlerFunc(func(ctx context.Context, r *zap.Request) (zap.Reply, error) {
		if r.Mechanism == "PLAIN" &&
			(len(r.Credentials) != 2 || string(r.Credentials[0]) != "admin" ||
				string(r.Credentials[1]) != "secret") {
			t.Errorf("request %q", r)
		}
		if status == 0 {
			<-ctx.Done()
			return zap.Reply{}, ctx.Err()
		}
		return zap.Reply{Status: status}, nil
	})
	var network zmtptest.Network
	cfg := inMemory(&network, Config{})
	ours, kind := zmtptest.Server, v.Headers["server-socket"]
	switch {
	case v.Headers["libzmq"] == "client":
		cfg.Mechanism = (&PlainClient{User: "admin", Password: "secret"}).Mechanism
		ours, kind = zmtptest.Client, v.Headers["client-socket"]
	case v.Headers["mechanism"] == "PLAIN":
		cfg.Mechanism = (&PlainServer{Auth{Handler: handler}}).Mechanism
	default:
		cfg.Mechanism = (&Null{Auth{Handler: handler, Domain: "domain"}}).Mechanism
	}
	sock := newVectorSocket(wire.SocketType(kind), cfg, false)
	defer closeNow(t, sock.Socket)
	monitor := sock.Monitor(100)
	var raw *zmtptest.Raw
	if ours == zmtptest.Client {
		l := listenRaw(t, &network, addr)
		if err := sock.Connect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
		raw = acceptRaw(t, l)
	} else {
		bind(t, &network, sock.Socket, addr)
		raw = dialRaw(t, &network, addr)
	}
	for _, s := range v.Connections[0] {
		switch {
		case s.Kind == ours && s.Data[0] == 0: // a message of our application
			m, err := ParseMessage(s.Data)
			if err != nil {
				t.Fatal(err)
			}
			sock.send(t, m)
			raw.Expect(s.Data)
		case s.Kind == ours:
			raw.Expect(s.Data)
		case s.Kind != zmtptest.Comment:
			raw.Send(s.Data)
		}
	}
	synctest.Wait()
	if word, _ := v.Outcome(); word == "accept" {
		alive(raw)
	} else {
		// After an ERROR, which our side sends here, libzmq waits. Our socket sends no more.
		raw.ExpectClose()
	}
	if want, ok := strings.CutPrefix(v.Headers["delivered"], kind+" "); ok {
		if got := sock.received(t); strings.Join(got, " ; ") != want {
			t.Errorf("delivered %q, want %q", got, want)
		}
	}

	time.Sleep(time.Minute) // of the bubble's time, for the attempts
	var got []string
	reconnects := "no"
	for _, e := range events(monitor) {
		switch e.Type {
		case EventHandshakeFailedAuth:
			got = append(got, fmt.Sprintf("%v(%d)", e.Type, e.Value))
		case EventHandshakeFailedProtocol:
			got = append(got, fmt.Sprintf("%v(%#x)", e.Type, e.Value))
		case EventHandshakeFailedNoDetail:
			got = append(got, e.Type.String())
		case EventDisconnected:
			got = append(got, e.Type.String())
		case EventConnectRetried:
			reconnects = "yes"
		}
	}
	// of the end of libzmq's wait
	want := strings.ReplaceAll(v.Headers["event"], " HANDSHAKE_FAILED_NO_DETAIL(11),", "")
	if want == "none" {
		want = ""
	}
	if got := strings.Join(got, ", "); got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	if want, ok := v.Headers["reconnects"]; ok && want != reconnects {
		t.Errorf("another attempt: %s, want %s", reconnects, want)
	}
}
