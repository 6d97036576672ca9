package zmtp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// At its limit a socket closes a connection whose handshake is not complete, then one that has
// never sent anything; then it refuses new ones. When a connection ends, another is accepted.
func TestMaxConnections(t *testing.T) {
	for _, c := range []Config{{MaxConnections: 3}, {MaxConnectionsPerAddress: 3}, {MaxConnections: 3, MaxConnectionsPerAddress: 9}} {
		t.Run(fmt.Sprint(c.MaxConnections, c.MaxConnectionsPerAddress), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				pull := NewPull(c)
				defer closeNow(t, pull)
				bind(t, n, pull.Socket, addr)
				push := func() *zmtptest.Raw {
					t.Helper()
					r := dialRaw(t, n, addr)
					shake(r, wire.PUSH, wire.PULL)
					synctest.Wait()
					return r
				}
				speaking := push()
				speaking.Send(frame("m"))
				silent := push()
				dumb := dialRaw(t, n, addr) // says nothing at all
				synctest.Wait()
				time.Sleep(time.Second)

				second := push()
				gone(t, dumb)
				alive(silent)
				young := dialRaw(t, n, addr) // nobody has been silent for long: refused
				gone(t, young)
				time.Sleep(silentFor)
				third := push()
				gone(t, silent)
				second.Send(frame("m"))
				third.Send(frame("m"))
				synctest.Wait()
				refused := dialRaw(t, n, addr)
				gone(t, refused)
				for _, r := range []*zmtptest.Raw{speaking, second, third} {
					alive(r)
				}
				second.Conn.Close()
				synctest.Wait()
				alive(push())

				st := pull.Stats()
				if st.HandshakeFailures[wire.HandshakeEvicted] != 1 ||
					st.HandshakeFailures[wire.TooManyConnections] != 2 ||
					st.Closed[wire.TooManyConnections] != 1 {
					t.Errorf("%v, %v", st.HandshakeFailures, st.Closed)
				}
			})
		})
	}
}

// A connection that has ended, in whatever way, no longer counts.
func TestConnectionsAreUncounted(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		xpub := NewXPub(Config{MaxConnections: 5, MaxConnectionsPerAddress: 4,
			HandshakeTimeout: time.Second, MaxPendingHandshakes: 2}, XPubOptions{})
		defer closeNow(t, xpub)
		bind(t, n, xpub.Socket, addr)
		for i := range 50 {
			r := dialRaw(t, n, addr)
			switch i % 4 {
			case 0:
				shake(r, wire.SUB, wire.XPUB)
				r.Send(subscribe("topic"))
			case 1:
				r.Conn.Write([]byte("no ZMTP at all"))
			case 2:
				r.Conn.Close()
			}
			synctest.Wait()
			if i%8 == 0 {
				time.Sleep(2 * time.Second)
				xpub.ClosePeers(func(*Peer) error { return ErrClosed })
			}
		}
		time.Sleep(time.Minute)
		xpub.ClosePeers(func(*Peer) error { return ErrClosed })
		synctest.Wait()
		xpub.mu.Lock()
		defer xpub.mu.Unlock()
		if c := xpub.connections; c.total != 0 || len(c.byAddress) != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// gone waits until the connection is closed, and skips everything that arrives before.
func gone(t *testing.T, r *zmtptest.Raw) {
	t.Helper()
	r.Conn.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := io.Copy(io.Discard, r.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is not closed")
	}
}
