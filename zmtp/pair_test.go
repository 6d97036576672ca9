package zmtp

import (
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/zmtptest"
)

// Messages go both ways between two PAIRs, also those sent before they are connected (libzmq,
// test_pair_tcp).
func TestPair(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		a, b := NewPair(Config{}), NewPair(inMemory(n, Config{}))
		defer closeNow(t, a)
		defer closeNow(t, b)
		if err := b.Connect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
		mustSend(t, b, "early", "")
		if err := a.TrySend(message("nobody")); err != ErrWouldBlock {
			t.Errorf("without a peer: %v", err)
		}
		bind(t, n, a.Socket, addr)
		mustRecv(t, a, "early,")
		mustSend(t, a, "there")
		mustSend(t, b, "back")
		mustRecv(t, a, "back")
		mustRecv(t, b, "there")
		if err := b.Connect("tcp://b:1"); err != errSecondPeer {
			t.Errorf("a second endpoint: %v", err)
		}
	})
}

// A PAIR refuses a second peer, and accepts the next one after the first has gone. The messages
// that waited for the first peer go to it.
func TestPairSecondPeer(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 100
		s := NewPair(Config{})
		defer closeNow(t, s)
		bind(t, n, s.Socket, addr)
		first := rawPeer(t, n, PAIR, PAIR, "")
		sendParts(first, "1")
		mustRecv(t, s, "1")
		second := rawPeer(t, n, PAIR, PAIR, "")
		second.ExpectClose()
		long := string(make([]byte, 1000))
		mustSend(t, s, long)
		synctest.Wait()
		first.Conn.Close()
		synctest.Wait()
		third := rawPeer(t, n, PAIR, PAIR, "")
		expectParts(third, long)
		sendParts(third, "3")
		mustRecv(t, s, "3")
	})
}
