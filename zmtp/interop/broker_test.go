//go:build unix

package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"zmtpd/forwarder"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// brokers are what may stand between publishers and subscribers. They listen on ephemeral ports.
var brokers = map[string]func(*testing.T) (xsub, xpub string){
	"libzmq":    func(t *testing.T) (xsub, xpub string) { return startPeer(t).proxy() },
	"sockets":   socketBroker,
	"forwarder": forwarderBroker,
}

func forwarderBroker(t *testing.T) (xsub, xpub string) {
	t.Helper()
	f := forwarder.New(forwarder.Config{})
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	xsub, err := f.ListenXSub("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	xpub, err = f.ListenXPub("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	return xsub, xpub
}

// socketBroker is a broker as any application would build one: what comes from an XSUB goes to an
// XPUB, and back.
func socketBroker(t *testing.T) (xsub, xpub string) {
	t.Helper()
	in := zmtp.NewXSub(zmtp.Config{})
	out := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{Verboser: true, NoDrop: true})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() {
		for m, err := range in.All(ctx) {
			if err == nil {
				err = out.Send(ctx, m)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	go func() {
		for m, err := range out.All(ctx) {
			if err == nil {
				err = in.TrySend(m)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	t.Cleanup(func() {
		cancel()
		for range cap(done) {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		in.Close()
		out.Close()
	})
	xsub, err := in.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	xpub, err = out.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	return xsub, xpub
}

// TestBroker is libzmq's sub_forward: subscriptions, cancellations and messages go through a
// broker, between ends of either library.
func TestBroker(t *testing.T) {
	t.Parallel()
	for name, broker := range brokers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPeer(t)
			for _, pubSide := range []side{ours{}, libzmq{p}} {
				for _, subSide := range []side{ours{}, libzmq{p}} {
					t.Run(fmt.Sprintf("from %v to %v", pubSide, subSide), func(t *testing.T) {
						xsub, xpub := broker(t)
						most := large
						if pubSide == subSide || testkit.Nightly() {
							most = huge
						}
						throughBroker(t, xsub, xpub, pubSide, subSide, most)
					})
				}
			}
		})
	}
}

func throughBroker(t *testing.T, xsub, xpub string, pubSide, subSide side, most int) {
	// One subscribes before any publisher is there, one after.
	early, late := subSide.open(t, "SUB", options{}), subSide.open(t, "XSUB", options{})
	early.connect(xpub)
	early.subscribe("a")
	pub := pubSide.open(t, "XPUB", options{verboser: true})
	pub.connect(xsub)
	checkMessage(t, pub.recv(), []string{"\x01a"})
	pub.send("a", "1")
	checkMessage(t, early.recv(), []string{"a", "1"})
	late.connect(xpub)
	late.subscribe("b")
	checkMessage(t, pub.recv(), []string{"\x01b"})
	pub.send("c", "nobody's")
	for _, m := range append(theMessages(most), []string{"end"}) {
		pub.send(append([]string{"b"}, m...)...)
		checkMessage(t, late.recv(), append([]string{"b"}, m...))
	}
	// Upstream, and back to nothing.
	late.send("\x02hello", "publisher")
	checkMessage(t, pub.recv(), []string{"\x02hello", "publisher"})
	late.subscribe("a")
	checkMessage(t, pub.recv(), []string{"\x01a"})
	early.close()
	late.unsubscribe("a")
	late.unsubscribe("b")
	var got []string
	for !slices.Contains(got, "\x00a") || !slices.Contains(got, "\x00b") {
		got = append(got, pub.recv()...)
	}
	pub.send("a", "nobody's")
	pub.send("b", "nobody's")
	if m, ok := late.tryRecv(moment); ok {
		t.Errorf("got %q without a subscription", m)
	}
}

// TestBrokerRestart kills libzmq's broker and starts it again on the same ports: nodes of ours
// subscribe again and go on.
func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	xsub, xpub := reserve(t), reserve(t)
	startProxy := func() *peer {
		p := startPeer(t)
		p.Call(t, "proxy", testkit.Args{"xsub": xsub, "xpub": xpub})
		return p
	}
	p := startProxy()
	pub, sub := open(t, "XPUB", options{nodrop: true, verbose: true}), open(t, "XSUB", options{})
	pub.connect(xsub)
	sub.connect(xpub)
	sub.send("\x01node")
	for range 3 {
		checkMessage(t, pub.recv(), []string{"\x01node"})
		pub.send("node", "one", "two", "three")
		checkMessage(t, sub.recv(), []string{"node", "one", "two", "three"})
		p.Kill()
		checkMessage(t, pub.recv(), []string{"\x00node"})
		p = startProxy()
	}
}
