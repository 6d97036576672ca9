package curve

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"zmtpd/curve/box"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
	"zmtpd/zmtp/zmtptest"
)

// tcp returns the address of an endpoint for net.Dial.
func tcp(endpoint string) string { return strings.TrimPrefix(endpoint, "tcp://") }

func listen(t *testing.T, s *zmtp.Socket) string {
	t.Helper()
	bound, err := s.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	return bound
}

// raw is a connection on which the greetings are done.
func raw(t *testing.T, address string) *zmtptest.Raw {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := zmtptest.NewRaw(t, conn)
	r.Send(wire.AppendGreeting(nil, "CURVE", false))
	greeting := make([]byte, greetingSize)
	if _, err := io.ReadFull(conn, greeting); err != nil {
		t.Fatal(err)
	}
	return r
}

// sendReceive lets a new client send a message, which must arrive.
func sendReceive(t *testing.T, pull *zmtp.Pull, endpoint string, c *Client) {
	t.Helper()
	sendReceiveFrom(t, pull, endpoint, c, "")
}

// sendReceiveFrom does that from one of the host's addresses.
func sendReceiveFrom(t *testing.T, pull *zmtp.Pull, endpoint string, c *Client, source string) {
	t.Helper()
	if source != "" {
		endpoint = "tcp://" + source + ":0;" + tcp(endpoint)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	push := zmtp.NewPush(zmtp.Config{Mechanism: c.Mechanism}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	if err := push.Send(ctx, zmtp.NewMessageString("from a good client")); err != nil {
		t.Fatal(err)
	}
	m, err := pull.Recv(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.Part(0)); got != "from a good client" {
		t.Fatalf("received %q", got)
	}
}

// A thousand connections that stop after HELLO, and a thousand that then send nonsense, take
// bounded memory and do not exclude good clients.
func TestHalfOpenHandshakesDoNotKeepOthersOut(t *testing.T) {
	const pending, attackers = 100, 1000
	serverKey, serverSecret := GenerateKeyPair()
	_, clientSecret := GenerateKeyPair()
	c := newClient(t, serverKey, clientSecret)
	pull := zmtp.NewPull(zmtp.Config{Mechanism: newServer(t, open, serverSecret).Mechanism,
		MaxPendingHandshakes: pending})
	defer pull.Close()
	bound := listen(t, pull.Socket)
	sendReceive(t, pull, bound, c)

	before := heap()
	hello, _, err := c.Mechanism(localMetadata).Handshake(wire.AppendGreeting(nil, "CURVE", false),
		nil)
	if err != nil {
		t.Fatal(err)
	}
	nonsense := append(wire.AppendGreeting(nil, "CURVE", false), make([]byte, 500)...)
	var all sync.WaitGroup
	defer all.Wait()
	for range 10 {
		all.Go(func() {
			for i := range attackers / 10 {
				conn, err := net.Dial("tcp", tcp(bound))
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				conn.Write([][]byte{hello, nonsense}[i%2])
			}
			// All connections stay open until all are there: a closed one would make room.
			testkit.Eventually(t, "all attackers are accepted",
				func() bool { return pull.Stats().Accepted > attackers })
		})
	}
	sendReceive(t, pull, bound, c)
	all.Wait()
	if n := pull.Stats().PendingHandshakes; n > pending {
		t.Errorf("%d handshakes are pending, at most %d are allowed", n, pending)
	}
	sendReceive(t, pull, bound, c)
	testkit.Eventually(t, "the attackers are gone",
		func() bool { return pull.Stats().PendingHandshakes == 0 })
	if after := heap(); after > before+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	f := pull.Stats().HandshakeFailures
	failed := f[wire.MalformedCommand] + f[wire.HandshakeEvicted] + f[wire.PeerClosed] +
		f[wire.ConnectionLost] + f[wire.UnexpectedCommand]
	if failed < attackers {
		t.Errorf("failures are %v", f)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The header of a frame that is too long for the next command is enough to refuse it.
func TestLongHelloIsRefusedByItsHeader(t *testing.T) {
	_, serverSecret := GenerateKeyPair()
	pull := zmtp.NewPull(zmtp.Config{Mechanism: newServer(t, open, serverSecret).Mechanism})
	defer pull.Close()
	r := raw(t, tcp(listen(t, pull.Socket)))
	r.Send(wire.AppendHeader(nil, wire.Command, maxPlainCommand+1))
	r.ExpectClose()
}

// If the socket types do not fit, the server closes the connection without READY, as libzmq does.
func TestIncompatibleSocketTypesAreRefused(t *testing.T) {
	serverKey, serverSecret := GenerateKeyPair()
	_, clientSecret := GenerateKeyPair()
	pull := zmtp.NewPull(zmtp.Config{Mechanism: newServer(t, open, serverSecret).Mechanism})
	defer pull.Close()
	r := raw(t, tcp(listen(t, pull.Socket)))
	m := newClient(t, serverKey, clientSecret).Mechanism(wire.Metadata{{Name: wire.PropSocketType,
		Value: []byte("PUB")}})
	out, _, err := m.Handshake(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Send(out)
	_, welcome := r.ReadFrame()
	if out, _, err = m.Handshake(nil, welcome); err != nil {
		t.Fatal(err)
	}
	r.Send(out)
	r.ExpectClose()
	testkit.Eventually(t, "the reason is known",
		func() bool { return pull.Stats().HandshakeFailures[wire.SocketTypeMismatch] == 1 })
}

// A message in the same write as INITIATE is delivered, but not if an authenticator has to be asked
// first.
func TestMessageRightBehindInitiate(t *testing.T) {
	handler := zap.HandlerFunc(func(context.Context, *zap.Request) (zap.Reply, error) {
		return zap.Reply{Status: zap.StatusOK}, nil
	})
	for name, auth := range map[string]zmtp.Auth{"open": open, "handler": {Handler: handler}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			serverKey, serverSecret := GenerateKeyPair()
			_, clientSecret := GenerateKeyPair()
			pull := zmtp.NewPull(zmtp.Config{Mechanism: newServer(t, auth, serverSecret).Mechanism})
			defer pull.Close()
			r := raw(t, tcp(listen(t, pull.Socket)))
			m := newClient(t, serverKey,
				clientSecret).Mechanism(wire.Metadata{{Name: wire.PropSocketType,
				Value: []byte("PUSH")}})
			out, _, err := m.Handshake(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Send(out)
			_, welcome := r.ReadFrame()
			if out, _, err = m.Handshake(nil, welcome); err != nil {
				t.Fatal(err)
			}
			sealer := box.NewSealer((*[32]byte)(m.(*client).traffic), box.FromClient, 3)
			r.Send(sealer.Seal(out, wire.AppendFrame(nil, 0, []byte("early"))))
			if auth.Handler != nil {
				r.ExpectClose()
				testkit.Eventually(t, "the reason is known", func() bool {
					return pull.Stats().HandshakeFailures[wire.UnexpectedCommand] == 1
				})
				return
			}
			if m, err := pull.Recv(ctx); err != nil || string(m.Part(0)) != "early" {
				t.Fatal(m, err)
			}
		})
	}
}

// A faulty MESSAGE ends the connection. The messages before it are delivered.
func TestWrongMessagesEndTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(good []byte) []byte // changes one of two frames
		want  wire.Reason
	}{
		"replayed": {func(b []byte) []byte { return append(b, b[len(b)/2:]...) },
			wire.InvalidSequence},
		"reordered": {func(b []byte) []byte { return append(b, b[:len(b)/2]...) },
			wire.InvalidSequence},
		"tampered": {func(b []byte) []byte {
			n := len(b)
			b = append(b,
				b[n/2:]...)
			b[n+2+15]++
			b[len(b)-1]++
			return b
		}, wire.Cryptographic},
		"clear": {func(b []byte) []byte { return wire.AppendFrame(b, 0, []byte("clear")) },
			wire.MalformedCommand},
		"clear PING": {func(b []byte) []byte { return wire.AppendPing(b, 0) },
			wire.UnexpectedCommand},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			serverKey, serverSecret := GenerateKeyPair()
			_, clientSecret := GenerateKeyPair()
			pull := zmtp.NewPull(zmtp.Config{Mechanism: newServer(t, open, serverSecret).Mechanism})
			defer pull.Close()
			r := raw(t, tcp(listen(t, pull.Socket)))
			m := newClient(t, serverKey,
				clientSecret).Mechanism(wire.Metadata{{Name: wire.PropSocketType,
				Value: []byte("PUSH")}})
			var cmd []byte
			for range 2 {
				out, _, err := m.Handshake(nil, cmd)
				if err != nil {
					t.Fatal(err)
				}
				r.Send(out)
				_, cmd = r.ReadFrame()
			}
			if _, progress, err := m.Handshake(nil, cmd); err != nil ||
				progress != zmtp.ProgressReady {
				t.Fatal(progress, err)
			}
			sealer, _ := m.Traffic()
			frames := bytes.Repeat(wire.AppendFrame(nil, 0, []byte("good")), 2)
			r.Send(c.spoil(sealer.Seal(nil, frames)))
			for range 2 {
				m, err := pull.Recv(ctx)
				if err != nil || string(m.Part(0)) != "good" {
					t.Fatal(m, err)
				}
			}
			r.ExpectClose()
			testkit.Eventually(t, "the connection is counted",
				func() bool { return pull.Stats().Closed[c.want] == 1 })
			if m, err := pull.TryRecv(); err == nil {
				t.Errorf("the message %q arrives too", m.Part(0))
			}
		})
	}
}

// For any size in the header of a MESSAGE and any limit, the server neither fails nor reserves
// memory for bytes that have not arrived.
func TestSizeOfAMessageIsNotTrusted(t *testing.T) {
	for name, c := range map[string]struct {
		limit int64
		size  uint64
		want  wire.Reason // ReasonNone: the server waits for the rest
	}{
		"no limit, 2^63-1":         {-1, 1<<63 - 1, wire.ReasonNone},
		"no limit, 2^63-10":        {-1, 1<<63 - 10, wire.ReasonNone},
		"no limit, 2^63":           {-1, 1 << 63, wire.MalformedFrame},
		"largest limit, 2^63-1":    {1<<63 - 1, 1<<63 - 1, wire.ReasonNone},
		"largest but one, 2^63-1":  {1<<63 - 2, 1<<63 - 1, wire.ReasonNone},
		"1 MiB and nothing behind": {1 << 20, 1<<20 + 65, wire.MessageTooLarge},
		"default limit, 2^63-10":   {0, 1<<63 - 10, wire.MessageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			serverKey, serverSecret := GenerateKeyPair()
			_, clientSecret := GenerateKeyPair()
			mechanism := newServer(t, open, serverSecret).Mechanism
			pull := zmtp.NewPull(zmtp.Config{Mechanism: mechanism, MaxMessageSize: c.limit})
			defer pull.Close()
			r := raw(t, tcp(listen(t, pull.Socket)))
			metadata := wire.Metadata{{Name: wire.PropSocketType, Value: []byte("PUSH")}}
			m := newClient(t, serverKey, clientSecret).Mechanism(metadata)
			var cmd []byte
			for range 2 {
				out, _, err := m.Handshake(nil, cmd)
				if err != nil {
					t.Fatal(err)
				}
				r.Send(out)
				_, cmd = r.ReadFrame()
			}
			before := heap()
			huge := binary.BigEndian.AppendUint64([]byte{byte(wire.Long)}, c.size)
			r.Send(append(huge, "\x07MESSAGE"...))
			if c.want != wire.ReasonNone {
				r.ExpectClose()
				testkit.Eventually(t, "the connection is counted", func() bool {
					return pull.Stats().Closed[c.want] == 1
				})
				return
			}
			r.Send(make([]byte, 100_000))
			if after := heap(); after > before+8<<20 {
				t.Errorf("the heap grew from %d to %d bytes", before, after)
			}
			if st := pull.Stats(); st.Peers != 1 || len(st.Closed) != 0 {
				t.Errorf("%+v", st)
			}
			r.Conn.Close()
			testkit.Eventually(t, "the peer is gone",
				func() bool { return pull.Stats().Peers == 0 })
		})
	}
}
