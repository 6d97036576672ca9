//go:build unix

package interop

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// eventSource gives the events of a socket one after the other, with types and values in libzmq's
// numbers.
type eventSource interface {
	end
	// watch begins; it must come before what is to be seen.
	watch()
	nextEvent() zmtp.Event
}

func (s *libzmqEnd) watch() {
	s.t.Helper()
	s.call("monitor", testkit.Args{})
}

func (s *libzmqEnd) nextEvent() zmtp.Event {
	s.t.Helper()
	r := s.call("event", testkit.Args{"timeout": patience.Milliseconds()})
	if !r.OK {
		s.t.Fatalf("libzmq %s: no event within %v", s.kind, patience)
	}
	return zmtp.Event{Type: zmtp.EventType(r.Event), Value: r.Value, Endpoint: r.Endpoint}
}

// watchedEnd is a socket of ours with its monitor.
type watchedEnd struct {
	*ourEnd
	monitor *zmtp.Monitor
}

func (s *watchedEnd) watch() { s.monitor = s.Monitor(1000) }

func (s *watchedEnd) nextEvent() zmtp.Event {
	s.t.Helper()
	select {
	case e := <-s.monitor.Events():
		return e
	case <-time.After(patience):
		s.t.Fatalf("our %s: no event within %v", s.Type(), patience)
	}
	return zmtp.Event{}
}

// TestMonitor has both libraries go through the same scenes, each with itself as the subject and
// libzmq, or bytes of ours, as the other end, and compares the events with those libzmq's
// documentation lists.
func TestMonitor(t *testing.T) {
	t.Parallel()
	mismatch := wire.AppendGreeting(nil, "PLAIN", false)
	protocolError := fmt.Sprintf("HANDSHAKE_FAILED_PROTOCOL(%#x)", 0x11000002)
	scenes := []struct {
		name string
		want []string
		// run does the scene with the socket under observation, a PULL, and returns after its last
		// event can come.
		run func(t *testing.T, subject end, p *peer)
	}{
		{"listens and accepts", []string{"LISTENING", "ACCEPTED", "HANDSHAKE_SUCCEEDED"},
			func(t *testing.T, s end, p *peer) {
				p.socket(t, "PUSH", options{}).connect(s.listen("tcp://127.0.0.1:*"))
			}},
		{"connects", []string{"CONNECT_DELAYED", "CONNECTED", "HANDSHAKE_SUCCEEDED"},
			func(t *testing.T, s end, p *peer) {
				s.connect(p.socket(t, "PUSH", options{}).listen("tcp://127.0.0.1:*"))
			}},
		{"ipc listens and accepts", []string{"LISTENING", "ACCEPTED", "HANDSHAKE_SUCCEEDED"},
			func(t *testing.T, s end, p *peer) {
				p.socket(t, "PUSH", options{}).connect(s.listen(ipcEndpoint(t)))
			}},
		{"refused", []string{"CONNECT_DELAYED", "CLOSED", "CONNECT_RETRIED", "CONNECT_DELAYED",
			"CLOSED", "CONNECT_RETRIED"}, func(t *testing.T, s end, _ *peer) {
			s.connect(reserve(t))
		}},
		{"accepted peer closes", []string{"LISTENING", "ACCEPTED", "HANDSHAKE_SUCCEEDED",
			"DISCONNECTED"}, func(t *testing.T, s end, p *peer) {
			push := p.socket(t, "PUSH", options{})
			push.connect(s.listen("tcp://127.0.0.1:*"))
			settle(t, push, s)
			push.close()
		}},
		{"peer that was connected to closes",
			[]string{"CONNECT_DELAYED", "CONNECTED", "HANDSHAKE_SUCCEEDED", "DISCONNECTED",
				"CONNECT_RETRIED", "CONNECT_DELAYED", "CLOSED", "CONNECT_RETRIED"},
			func(t *testing.T, s end, p *peer) {
				push := p.socket(t, "PUSH", options{})
				s.connect(push.listen("tcp://127.0.0.1:*"))
				settle(t, push, s)
				push.close()
			}},
		{"accepts another mechanism",
			[]string{"LISTENING", "ACCEPTED", protocolError, "DISCONNECTED"},
			func(t *testing.T, s end, _ *peer) {
				rawClient(t, s.listen("tcp://127.0.0.1:*"), mismatch)
			}},
		{"accepts half a greeting",
			[]string{"LISTENING", "ACCEPTED", "HANDSHAKE_FAILED_NO_DETAIL", "DISCONNECTED"},
			func(t *testing.T, s end, _ *peer) {
				rawClient(t, s.listen("tcp://127.0.0.1:*"), mismatch[:30])
			}},
		{"accepts HTTP", []string{"LISTENING", "ACCEPTED", "HANDSHAKE_FAILED_NO_DETAIL",
			"DISCONNECTED"}, func(t *testing.T, s end, _ *peer) {
			rawClient(t, s.listen("tcp://127.0.0.1:*"),
				[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		}},
		{"accepts nothing", []string{"LISTENING", "ACCEPTED", "HANDSHAKE_FAILED_NO_DETAIL",
			"DISCONNECTED"}, func(t *testing.T, s end, _ *peer) {
			rawClient(t, s.listen("tcp://127.0.0.1:*"), nil)
		}},
		{"connects to half a greeting",
			[]string{"CONNECT_DELAYED", "CONNECTED", "HANDSHAKE_FAILED_NO_DETAIL", "DISCONNECTED",
				"CONNECT_RETRIED"}, func(t *testing.T, s end, _ *peer) {
				s.connect(rawServer(t, mismatch[:30]))
			}},
		{"connects to HTTP", []string{"CONNECT_DELAYED", "CONNECTED", "HANDSHAKE_FAILED_NO_DETAIL",
			"DISCONNECTED", "CONNECT_RETRIED"}, func(t *testing.T, s end, _ *peer) {
			s.connect(rawServer(t, []byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")))
		}},
		{"connects to another mechanism",
			[]string{"CONNECT_DELAYED", "CONNECTED", protocolError, "DISCONNECTED"},
			func(t *testing.T, s end, _ *peer) {
				s.connect(rawServer(t, mismatch))
			}},
	}
	p := startPeer(t)
	for _, scene := range scenes {
		for _, name := range []string{"ours", "libzmq"} {
			t.Run(scene.name+"/"+name, func(t *testing.T) {
				var s eventSource
				if name == "ours" {
					s = &watchedEnd{ourEnd: open(t, "PULL", options{})}
				} else {
					s = p.socket(t, "PULL", options{})
				}
				s.watch()
				scene.run(t, s, p)
				want := slices.Clone(scene.want)
				if i := slices.Index(want, "HANDSHAKE_FAILED_NO_DETAIL"); i >= 0 &&
					name == "ours" && strings.HasSuffix(scene.name, "HTTP") {
					// Ours knows at the first byte; libzmq takes it for ZMTP 1.0 until the peer
					// closes.
					want[i] = "HANDSHAKE_FAILED_PROTOCOL(0x10000000)"
				}
				if i := slices.Index(want, protocolError); i >= 0 && name == "libzmq" {
					// With a monitor it sometimes forgets the error while it tells of it, and
					// leaves the connection open.
					want = want[:i+1]
				}
				var got []string
				for range want {
					got = append(got, eventText(s.nextEvent()))
				}
				if !slices.Equal(got, want) {
					t.Errorf("got  %s\nwant %s", strings.Join(got, " "), strings.Join(want, " "))
				}
			})
		}
	}
}

// eventText is the type, with the value where that says more.
func eventText(e zmtp.Event) string {
	if e.Type == zmtp.EventHandshakeFailedProtocol {
		return fmt.Sprintf("%v(%#x)", e.Type, e.Value)
	}
	return e.Type.String()
}

// rawClient connects, sends some bytes, and closes when the other side has sent its signature;
// behind a whole greeting, when the other side closes or the test ends.
func rawClient(t *testing.T, endpoint string, send []byte) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		rawTalk(c, send)
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
}

// rawServer accepts one connection and does the same.
func rawServer(t *testing.T, send []byte) (endpoint string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns, done := make(chan net.Conn, 1), make(chan struct{})
	go func() {
		defer close(done)
		defer close(conns)
		if c, err := l.Accept(); err == nil {
			conns <- c
			l.Close()
			rawTalk(c, send)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		if c, ok := <-conns; ok {
			c.Close()
		}
		<-done
	})
	return "tcp://" + l.Addr().String()
}

func rawTalk(c net.Conn, send []byte) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	c.Write(send)
	io.ReadFull(c, make([]byte, wire.SignatureSize))
	if len(send) == wire.GreetingSize {
		io.Copy(io.Discard, c)
	}
}
