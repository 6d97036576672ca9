//go:build linux

package curve

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// Many addresses ask for handshakes as fast as they can. A client at a known address and one at a
// new address still get in, and the server does no more work than the limit allows.
func TestFloodOfHandshakes(t *testing.T) {
	const rate, attackers = 20, 8
	serverKey, serverSecret := GenerateKeyPair()
	_, clientSecret := GenerateKeyPair()
	c := newClient(t, serverKey, clientSecret)
	start := time.Now()
	l := NewLimiter(rate)
	pull := zmtp.NewPull(zmtp.Config{Mechanism: newServer(t, open,
		serverSecret).WithLimiter(l).Mechanism})
	defer pull.Close()
	bound := listen(t, pull.Socket)
	sendReceive(t, pull, bound, c) // makes 127.0.0.1 a known address

	hello, _, err := c.Mechanism(localMetadata).Handshake(wire.AppendGreeting(nil, "CURVE", false),
		nil)
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var flood sync.WaitGroup
	defer flood.Wait()
	defer stop.Store(true)
	for i := range attackers {
		flood.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i+1))}}
			for !stop.Load() {
				conn, err := d.Dial("tcp", tcp(bound))
				if err != nil {
					continue // the accept queue is full
				}
				conn.SetDeadline(time.Now().Add(50 * time.Millisecond)) // then it connects again
				conn.Write(hello)
				io.Copy(io.Discard, conn)
				conn.Close()
			}
		})
	}
	testkit.Eventually(t, "HELLOs of the flood wait", func() bool { return l.Stats().Waiting > 0 })
	for i := range 5 {
		sendReceive(t, pull, bound, c)
		sendReceiveFrom(t, pull, bound, c, fmt.Sprintf("127.0.2.%d", i+1))
	}
	testkit.Eventually(t, "the attackers are refused",
		func() bool { return l.Stats().RefusedRate+l.Stats().RefusedFull > 0 })
	st := l.Stats()
	most := float64(handshakeCost*rate) * (1 + time.Since(start).Seconds())
	if float64(st.Multiplications) > most {
		t.Errorf("%d multiplications, at most %.0f are allowed", st.Multiplications, most)
	}
	testkit.Eventually(t, "refusals are counted",
		func() bool { return pull.Stats().HandshakeFailures[wire.HandshakeLimited] > 0 })
}
