package fuzz_test

import (
	"io"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/ws"
	"zmtpd/zmtp/zmtptest"
)

// webSocketUpgrade is the request of a client.
const webSocketUpgrade = "GET / HTTP/1.1\r\nHost: a:1\r\nUpgrade: websocket\r\n" +
	"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: "

// webSocketStreams are what a client may send, good and bad.
func webSocketStreams(testing.TB) [][]byte {
	const (
		mask  = "\x01\x02\x03\x04"
		ready = "\x82\x9a" + "\x00\x00\x00\x00" +
			"\x02\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"
	)
	null, bare := webSocketUpgrade+"ZWS2.0/NULL\r\n\r\n", webSocketUpgrade+"ZWS2.0\r\n\r\n"
	var all [][]byte
	for _, stream := range []string{
		null + ready + "\x82\x84" + mask + "body" + "\x89\x84" + mask + "ping" + "\x8a\x80" + mask,
		null + ready + "\x81\x84" + mask + "text",
		null + ready + "\x88\x82" + mask + "\x02\xea",
		null + ready + "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + mask,
		null + ready + "\x82\xfe\x00\x05" + mask + "12345",
		bare + "\x82\x83" + mask + "\x01me" + "\x82\x82" + mask + "\x01x",
		bare + "\x82\xfe\xff\xff" + mask + "\x01",
		webSocketUpgrade + "ZWS2.0/CURVE\r\n\r\n",
		"GET / HTTP/1.1\r\n" + "A: b\r\n" + " folded\r\n\r\n",
	} {
		all = append(all, []byte(stream))
	}
	return all
}

// FuzzWebSocket sends any bytes to a socket that listens for WebSockets, as the whole stream and
// behind a good handshake. The socket reads or refuses all of it, and ends without anything left
// behind.
func FuzzWebSocket(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		n := new(zmtptest.Network)
		l, err := n.Listen("a:1")
		if err != nil {
			t.Fatal(err)
		}
		s := zmtp.NewPull(zmtp.Config{RecvHWM: -1, HandshakeTimeout: 5 * time.Second})
		defer s.Close()
		if _, err := s.Serve(ws.NewListener(l, ws.Options{})); err != nil {
			t.Fatal(err)
		}
		for _, start := range []string{"", webSocketUpgrade + "ZWS2.0\r\n\r\n"} {
			conn, err := n.Dial(t.Context(), "a:1")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				conn.Write(append([]byte(start), b...)) // a fault in it may end the connection
				conn.(*zmtptest.Conn).CloseWrite()
			}()
			io.Copy(io.Discard, conn) // until the socket has read all of it and closed
		}
	})
}
