package ws

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// js is a process with libzmq 4.3.5.
type js struct {
	*testkit.Libzmq
	t *testing.T
}

func (z js) call(op string, a testkit.Args) testkit.Reply {
	z.t.Helper()
	return z.Call(z.t, op, a)
}

func (z js) socket(name, kind string, options testkit.Args) {
	z.t.Helper()
	z.call("socket", testkit.Args{"name": name, "type": kind, "options": options})
}

const milliseconds = int(testkit.Patience / 1e6)

func (z js) send(name string, parts ...testkit.Blob) {
	z.t.Helper()
	if !z.call("send", testkit.Args{"name": name, "parts": parts, "timeout": milliseconds}).OK {
		z.t.Fatal("libzmq could not send")
	}
}

func (z js) expect(name string, parts ...testkit.Blob) {
	z.t.Helper()
	r := z.call("recv", testkit.Args{"name": name, "timeout": milliseconds})
	if !r.OK || len(r.Parts) != len(parts) {
		z.t.Fatalf("libzmq received %.40q, want %.40q", r.Parts, parts)
	}
	for i, p := range parts {
		if r.Parts[i] != p {
			z.t.Fatalf("libzmq received %.40q, want %.40q", r.Parts, parts)
		}
	}
}

// meet connects a socket of libzmq and one of ours, which listens if listen is set.
func (z js) meet(name string, ours *zmtp.Socket, listen bool) {
	z.t.Helper()
	if listen {
		bound, err := ours.Listen("ws://127.0.0.1:*/path")
		if err != nil {
			z.t.Fatal(err)
		}
		z.call("connect", testkit.Args{"name": name, "endpoint": bound})
		return
	}
	r := z.call("bind", testkit.Args{"name": name, "endpoint": "ws://127.0.0.1:*/path"})
	if err := ours.Connect(r.Endpoint); err != nil {
		z.t.Fatal(err)
	}
}

// curveOptions returns CURVE for libzmq and for us, of which one is the server.
func curveOptions(t *testing.T, weServe bool) (testkit.Args, func(zmtp.Metadata) zmtp.Mechanism) {
	t.Helper()
	key, secret := curve.GenerateKeyPair()
	clientKey, clientSecret := curve.GenerateKeyPair()
	if weServe {
		server, err := curve.NewServer(zmtp.Auth{Open: true}, secret)
		if err != nil {
			t.Fatal(err)
		}
		return testkit.Args{"curveServerKey": key.String(), "curvePublicKey": clientKey.String(),
			"curveSecretKey": clientSecret.Text()}, server.Mechanism
	}
	client, err := curve.NewClient(key, clientSecret)
	if err != nil {
		t.Fatal(err)
	}
	return testkit.Args{"curveServer": true, "curvePublicKey": key.String(),
		"curveSecretKey": secret.Text()}, client.Mechanism
}

// Messages go both ways between libzmq and us, with each mechanism and each side as the server, and
// heartbeats of both keep the connection.
func TestLibzmqConversation(t *testing.T) {
	z := js{testkit.StartZeroMQJS(t), t}
	z.call("zap", nil)
	for _, mechanism := range []string{"NULL", "PLAIN", "CURVE"} {
		for _, listen := range []bool{false, true} {
			role := map[bool]string{false: "connect", true: "listen"}[listen]
			t.Run(mechanism+"/"+role, func(t *testing.T) {
				z := js{z.Libzmq, t}
				theirs, cfg := testkit.Args{}, zmtp.Config{}
				switch mechanism {
				case "PLAIN":
					if listen {
						cfg.Mechanism = (&zmtp.PlainServer{Auth: zmtp.Auth{Open: true}}).Mechanism
						theirs = testkit.Args{"plainUsername": "u", "plainPassword": "p"}
					} else {
						cfg.Mechanism = (&zmtp.PlainClient{User: "u", Password: "p"}).Mechanism
						theirs = testkit.Args{"plainServer": true}
					}
				case "CURVE":
					theirs, cfg.Mechanism = curveOptions(t, listen)
				}
				theirs["heartbeatInterval"] = 20
				theirs["heartbeatTimeout"] = milliseconds
				name := mechanism + role
				z.socket(name, "Dealer", theirs)
				defer z.call("close", testkit.Args{"name": name})
				cfg.Transports = Transports(Options{})
				s := zmtp.NewDealer(cfg, zmtp.DealerOptions{})
				defer s.Close()
				z.meet(name, s.Socket, listen)
				for _, n := range sizes {
					body := testkit.Blob(testkit.Pattern(n))
					z.send(name, body, "", body)
					m, err := s.Recv(testkit.Context(t))
					if err != nil || m.NumParts() != 3 || string(m.Part(2)) != string(body) {
						t.Fatalf("%d bytes: received %d, %v", n, m.Size(), err)
					}
					if err := s.Send(testkit.Context(t), m); err != nil {
						t.Fatal(err)
					}
					z.expect(name, body, "", body)
				}
			})
		}
	}
}

// Subscriptions of each side reach the other, and so do their cancellations.
func TestLibzmqSubscriptions(t *testing.T) {
	z := js{testkit.StartZeroMQJS(t), t}
	cfg := config(Options{}, nil)
	z.socket("sub", "Subscriber", nil)
	z.call("subscribe", testkit.Args{"name": "sub", "topic": testkit.Blob("b")})
	xpub := zmtp.NewXPub(cfg, zmtp.XPubOptions{})
	defer xpub.Close()
	z.meet("sub", xpub.Socket, true)
	if m, err := xpub.Recv(testkit.Context(t)); err != nil || string(m.Part(0)) != "\x01b" {
		t.Fatalf("%v, %v", m, err)
	}
	for _, topic := range []string{"a", "b"} {
		if err := xpub.Send(testkit.Context(t), zmtp.NewMessageString(topic, "1")); err != nil {
			t.Fatal(err)
		}
	}
	z.expect("sub", "b", "1")

	z.socket("xpub", "XPublisher", nil)
	sub := zmtp.NewSub(cfg)
	defer sub.Close()
	if err := sub.Subscribe("b"); err != nil {
		t.Fatal(err)
	}
	z.meet("xpub", sub.Socket, false)
	z.expect("xpub", "\x01b")
	z.send("xpub", "a", "1")
	z.send("xpub", "b", "2")
	if m, err := sub.Recv(testkit.Context(t)); err != nil || string(m.Part(1)) != "2" {
		t.Fatalf("%v, %v", m, err)
	}
	if err := sub.Unsubscribe("b"); err != nil {
		t.Fatal(err)
	}
	z.expect("xpub", "\x00b")
}

// A routing id arrives in both directions.
func TestLibzmqRoutingID(t *testing.T) {
	z := js{testkit.StartZeroMQJS(t), t}
	z.socket("router", "Router", nil)
	cfg := config(Options{}, nil)
	cfg.RoutingID = []byte("ours")
	dealer := zmtp.NewDealer(cfg, zmtp.DealerOptions{})
	defer dealer.Close()
	z.meet("router", dealer.Socket, false)
	if err := dealer.Send(testkit.Context(t), zmtp.NewMessageString("x")); err != nil {
		t.Fatal(err)
	}
	z.expect("router", "ours", "x")

	z.socket("dealer", "Dealer", testkit.Args{"routingId": "theirs"})
	router := zmtp.NewRouter(config(Options{}, nil), zmtp.RouterOptions{})
	defer router.Close()
	z.meet("dealer", router.Socket, true)
	z.send("dealer", "x")
	m, err := router.Recv(testkit.Context(t))
	if err != nil || string(m.Part(0)) != "theirs" {
		t.Fatalf("%v, %v", m, err)
	}
	if err := router.Send(testkit.Context(t), zmtp.NewMessageString("theirs", "y")); err != nil {
		t.Fatal(err)
	}
	z.expect("dealer", "y")
}

// The groups of RADIO and DISH go through, as messages and as commands.
func TestLibzmqGroups(t *testing.T) {
	z := js{testkit.StartZeroMQJS(t), t}
	z.socket("radio", "Radio", nil)
	dish := zmtp.NewDish(config(Options{}, nil))
	defer dish.Close()
	if err := dish.Join("g"); err != nil {
		t.Fatal(err)
	}
	z.meet("radio", dish.Socket, false)
	received := make(chan zmtp.Message, 1)
	go func() {
		if m, err := dish.Recv(testkit.Context(t)); err == nil {
			received <- m
		}
	}()
	testkit.Eventually(t, "a message for the group", func() bool {
		z.send("radio", "g", "text")
		select {
		case m := <-received:
			return string(m.Part(1)) == "text"
		default:
			return false
		}
	})
}

// Messages go both ways over wss between libzmq and us, with each side as the server.
func TestLibzmqTLS(t *testing.T) {
	server, client := certificate(t)
	key, chain := pemFiles(t, server.Certificates[0])
	t.Run("we connect", func(t *testing.T) {
		theirs := testkit.StartEcho(t, "DEALER", "bind", "wss://127.0.0.1:*", key, chain)
		s := zmtp.NewDealer(config(Options{TLS: client}, nil), zmtp.DealerOptions{})
		defer s.Close()
		if err := s.Connect(theirs.Endpoint); err != nil {
			t.Fatal(err)
		}
		for _, n := range sizes {
			body := testkit.Pattern(n)
			if err := s.Send(testkit.Context(t), zmtp.NewMessageString(body)); err != nil {
				t.Fatal(err)
			}
			m, err := s.Recv(testkit.Context(t))
			if err != nil || string(m.Part(0)) != body {
				t.Fatalf("%d bytes came back for %d, %v", m.Size(), n, err)
			}
		}
	})
	t.Run("we listen", func(t *testing.T) {
		s := zmtp.NewDealer(config(Options{TLS: server}, nil), zmtp.DealerOptions{})
		bound, err := s.Listen("wss://127.0.0.1:*")
		if err != nil {
			t.Fatal(err)
		}
		var echoing sync.WaitGroup
		echoing.Go(func() {
			for m := range s.All(context.Background()) {
				if err := s.Send(testkit.Context(t), m); err != nil {
					t.Error(err)
				}
			}
		})
		defer echoing.Wait()
		defer s.Close()
		testkit.StartEcho(t, "DEALER", "connect", bound, chain, "localhost").Wait()
	})
}

// pemFiles writes a certificate and its key as PEM files.
func pemFiles(t *testing.T, c tls.Certificate) (key, chain string) {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(t.TempDir(), name)
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("key.pem", "PRIVATE KEY", private),
		write("chain.pem", "CERTIFICATE", c.Certificate[0])
}
