package forwarder

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// A publisher sends and ends while the broker does not read it, because a subscriber holds it up.
// Then the broker sends a new subscription to the publisher, which fails. The publisher's messages
// still reach the subscriber.
func TestPublisherGoneWhileHeldBack(t *testing.T) {
	const n = 400
	f := New(Config{Overload: Block, XPub: zmtp.Config{SendHWM: 10, SendBuffer: 16 << 10}})
	t.Cleanup(func() { shutdown(t, f); accounted(t, f) })
	in, err := f.ListenXSub("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.ListenXPub("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	dial := func(endpoint string, typ wire.SocketType, buffer int) *raw {
		c, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "tcp://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if buffer > 0 {
			c.(*net.TCPConn).SetReadBuffer(buffer)
		}
		return handshake(t, c, typ)
	}
	slow := dial(out, wire.SUB, 16<<10)
	slow.subscribe("t", true)
	testkit.Eventually(t, "the subscription is known", func() bool { return f.Stats().Topics == 1 })
	pub := dial(in, wire.PUB, 0)
	if _, err := io.ReadFull(pub, make([]byte,
		len(wire.AppendSubscription(nil, false, true, []byte("t"))))); err != nil {
		t.Fatal(err)
	}
	var want []string
	var all []byte
	body := strings.Repeat("x", 2<<10)
	for i := range n {
		want = append(want, fmt.Sprintf("t|%d|%s", i, body))
		all = append(all, zmtp.NewMessageString("t", fmt.Sprint(i), body).Wire()...)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		pub.write(all)
		pub.Close() // it has read everything, so this causes no reset
	}()
	testkit.Eventually(t, "the publisher is held back", func() bool {
		st := f.Stats()
		return len(st.Publishers) == 1 && st.Account.Held > 0
	})
	<-written
	// Each write fails in a later way: the first one is answered with a reset, the next one fails
	// at once.
	other := dial(out, wire.SUB, 0)
	for i := range 20 {
		other.subscribe(fmt.Sprint("another", i), true)
		testkit.Eventually(t, "the subscription is known",
			func() bool { return f.Stats().Topics == i+2 })
	}
	c := new(collector)
	go c.read(t, slow)
	testkit.Eventually(t, "everything that was sent has arrived",
		func() bool { return len(c.all()) == n })
	equal(t, "slow", c.all(), want)
	if st := f.Stats(); st.Received.Messages != n || st.XPub.Dropped.Total() > 0 {
		t.Errorf("received %d, dropped %v", st.Received.Messages, st.XPub.Dropped)
	}
}
