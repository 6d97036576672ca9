package zmtp

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// A STREAM receives the bytes of a peer without ZMTP in pieces of at most 8192 bytes, each behind
// the id of the connection, and sends bytes unchanged. An empty part reports that the connection
// was made or has ended; a sent one closes it (libzmq, test_stream, test_stream_disconnect,
// test_stream_empty and test_stream_exceeds_buffer).
func TestStream(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		s := NewStream(Config{}, StreamOptions{})
		defer closeNow(t, s)
		l, err := n.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Serve(l); err != nil {
			t.Fatal(err)
		}
		next := func() (id string, body []byte) {
			t.Helper()
			m, err := s.Recv(t.Context())
			if err != nil || m.NumParts() != 2 || len(m.Part(0)) != 5 {
				t.Fatalf("received %.20q, %v", text(m), err)
			}
			return string(m.Part(0)), m.Part(1)
		}
		r := dialRaw(t, n, addr)
		id, body := next()
		if len(body) != 0 {
			t.Fatalf("the first message has the body %q", body)
		}
		sent := bytes.Repeat([]byte("GET / HTTP/1.0\r\n"), 2000)
		go r.Send(sent)
		var got []byte
		for len(got) < len(sent) {
			from, body := next()
			if from != id || len(body) == 0 || len(body) > 8192 {
				t.Fatalf("%d bytes from %q, want some from %q", len(body), from, id)
			}
			got = append(got, body...)
		}
		if !bytes.Equal(got, sent) {
			t.Error("other bytes were received than sent")
		}
		large := strings.Repeat("answer", 20_000)
		mustSend(t, s, id, "x")
		mustSend(t, s, id, large)
		r.Expect([]byte("x" + large))
		for _, m := range []Message{message(id), message(id, "a", "b")} {
			if err := s.TrySend(m); !errors.Is(err, ErrMessage) {
				t.Errorf("%d parts: %v", m.NumParts(), err)
			}
		}
		if err := s.TrySend(message("other", "x")); err != ErrNoPeer {
			t.Errorf("to an unknown id: %v", err)
		}
		mustSend(t, s, id, "the end")
		mustSend(t, s, id, "")
		r.Expect([]byte("the end"))
		r.ExpectClose()
		if err := s.TrySend(message(id, "x")); err != ErrNoPeer {
			t.Errorf("after the close: %v", err)
		}
		nothing(t, s)
		r = dialRaw(t, n, addr)
		id, _ = next()
		r.Send([]byte("last"))
		r.Conn.Close()
		if from, body := next(); from != id || string(body) != "last" {
			t.Errorf("%q from %q", body, from)
		}
		if from, body := next(); from != id || len(body) != 0 {
			t.Errorf("%q from %q, want the end", body, from)
		}
	})
}

// A STREAM that connects sees the greeting of a DEALER, and can play a whole handshake (libzmq,
// test_stream).
func TestStreamToDealer(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		d := NewDealer(Config{}, DealerOptions{})
		defer closeNow(t, d)
		bind(t, n, d.Socket, addr)
		s := NewStream(inMemory(n, Config{}), StreamOptions{Silent: true})
		defer closeNow(t, s)
		if err := s.Connect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
		var id []byte
		expect := func(want []byte) {
			t.Helper()
			var got []byte
			for len(got) < len(want) {
				m, err := s.Recv(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				id, got = m.Part(0), append(got, m.Part(1)...)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("received %x, want %x", got, want)
			}
		}
		greeting := wire.AppendGreeting(nil, "NULL", false)
		expect(greeting[:wire.SignatureSize])
		send := func(b []byte) {
			t.Helper()
			if err := s.TrySend(NewMessage(id, b)); err != nil {
				t.Fatal(err)
			}
		}
		send(greeting)
		expect(append(greeting[wire.SignatureSize:], ready(DEALER)...))
		send(ready(ROUTER))
		send(message("hello", "").Wire())
		mustRecv(t, d, "hello,")
		mustSend(t, d, "world")
		expect(frame("world"))
	})
}

// However a stream of frames is cut into writes, a raw connection sends the bodies of its messages
// and nothing else.
func TestRawConnWrite(t *testing.T) {
	stream := wire.AppendCommand(nil, "READY", make([]byte, 300))
	var want []byte
	for _, size := range []int{1, 255, 256, 70_000} {
		body := bytes.Repeat([]byte{byte(size)}, size)
		stream = append(stream, NewMessage(body).Wire()...)
		stream = append(stream, wire.AppendPing(nil, 1)...)
		want = append(want, body...)
	}
	for _, step := range []int{1, 2, 7, 300, len(stream)} {
		synctest.Test(t, func(t *testing.T) {
			a, b := zmtptest.Pipe(1 << 20)
			c := newRawConn(a)
			for rest := stream; len(rest) > 0; {
				k, err := c.Write(rest[:min(step, len(rest))])
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[k:]
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, want) {
				t.Errorf("steps of %d: %d bytes, want %d: %v", step, len(got), len(want), err)
			}
			a.Close()
			b.Close()
		})
	}
}
