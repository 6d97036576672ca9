package zmtp

import (
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"zmtpd/zmtp/testkit"
)

// logText is a log that can be read while it is written.
type logText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logText) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// A failed handshake is logged once for its address and reason, and for a limited number of
// addresses. The other failures are counted.
func TestFailedHandshakesAreLoggedByAddressAndReason(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	var log logText
	s := NewPull(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer closeNow(t, s)
	endpoint, err := s.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	failures := uint64(0)
	fail := func(host int, send string) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(host))}}
		conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(endpoint, "tcp://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, send)
		conn.(*net.TCPConn).CloseWrite()
		failures++
		testkit.Eventually(t, "the failure to be counted", func() bool {
			n := uint64(0)
			for _, failed := range s.Stats().HandshakeFailures {
				n += failed
			}
			return n == failures
		})
	}
	const http, short = "GET / HTTP/1.1\r\n\r\n", "\xff"
	for range 3 {
		fail(1, http)
	}
	testkit.Eventually(t, "a line", func() bool { return log.count("handshake failed") == 1 })
	fail(1, short)
	testkit.Eventually(t, "a line for another reason",
		func() bool { return log.count("handshake failed") == 2 })
	for host := 2; host <= 10; host++ {
		fail(host, http)
	}
	testkit.Eventually(t, "lines of other addresses",
		func() bool { return log.count("reason=not_zmtp") == maxFailureLines })
	if n := log.count("handshake failed"); n != maxFailureLines+1 {
		t.Errorf("%d lines", n)
	}
}
