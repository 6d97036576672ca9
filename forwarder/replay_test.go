package forwarder_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"zmtpd/capture"
	"zmtpd/forwarder"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// ports of the broker in the recording
const (
	xsubPort = 15556
	xpubPort = 15555
)

// TestReplay sends to the broker what the nodes of a real Zeek cluster sent to theirs, in the
// recorded order. Every node must get what it got then. The recording has the packets of
// golden/cluster.pcap from and to the two ports.
func TestReplay(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	f := forwarder.New(forwarder.Config{})
	defer f.Close()
	addr := map[uint16]string{xsubPort: listen(t, f.ListenXSub), xpubPort: listen(t, f.ListenXPub)}

	nodes := map[uint64]*node{}
	all := 0
	for ev, err := range recording(t).Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		n := nodes[ev.Session.ID]
		switch {
		case ev.Kind == capture.Problem:
			t.Fatal(ev.Err)
		case ev.Kind == capture.Opened:
			nodes[ev.Session.ID] = connect(t, addr[ev.Session.Server.Port()])
		case ev.Kind == capture.Closed:
			n.leave(ctx, f)
			n.compare(ev.Session.Server.Port())
			all += len(n.got)
			delete(nodes, ev.Session.ID)
		case ev.From == capture.Server && ev.Kind == capture.Message:
			n.want = append(n.want, bytes.Clone(ev.Message.Wire())) // valid until the next event
		case ev.From == capture.Server && ev.Kind == capture.Command:
			n.want = append(n.want, subscription(t, ev.Name, ev.Data))
		case ev.From == capture.Client:
			n.send(ev)
		}
	}
	// 36 messages, and 153 subscriptions and cancellations
	if all != 189 || len(nodes) > 0 {
		t.Errorf("the nodes got %d messages, %d nodes are left", all, len(nodes))
	}
	st := f.Stats()
	want := forwarder.Side{
		In: zmtp.Traffic{Messages: 36, Parts: 4 * 36, Bytes: st.Frontend.In.Bytes},
		// each subscription and its cancellation
		Out: zmtp.Traffic{Messages: 29 + 29, Parts: 29 + 29, Bytes: st.Backend.In.Bytes},
	}
	if st.Frontend != want || st.XPub.Dropped.Total()+st.XSub.Dropped.Total() > 0 ||
		st.Received.Unmatched > 0 || st.Topics > 0 {
		t.Errorf("%+v", st)
	}
}

func listen(t *testing.T, how func(string) (string, error)) string {
	bound, err := how("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(bound, "tcp://")
}

func recording(t *testing.T) *capture.Reader {
	file, err := os.Open("testdata/cluster-broker.pcap.gz")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	r, err := capture.NewReader(file, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// subscription returns a recorded command as a subscription message.
func subscription(t *testing.T, name string, topic []byte) []byte {
	if name != wire.CmdSubscribe && name != wire.CmdCancel {
		t.Fatalf("recorded command %s", name)
	}
	return wire.AppendSubscription(nil, true, name == wire.CmdSubscribe, topic)
}

// node is one connection of a node.
type node struct {
	t    *testing.T
	conn *net.TCPConn
	pong chan struct{} // receives one value for the answer to each PING
	done chan struct{} // closed when no more messages come
	got  [][]byte      // messages, valid when done
	want [][]byte
}

func connect(t *testing.T, addr string) *node {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, conn: conn.(*net.TCPConn), pong: make(chan struct{}, 1),
		done: make(chan struct{})}
	t.Cleanup(func() { conn.Close() })
	go n.read()
	return n
}

// read collects messages, with subscriptions in the form of messages.
func (n *node) read() {
	defer close(n.done)
	if _, err := io.ReadFull(n.conn, make([]byte, 64)); err != nil {
		n.t.Error(err)
		return
	}
	var d wire.Decoder
	var b []byte
	buf := make([]byte, 4096)
	for {
		k, err := n.conn.Read(buf)
		b = append(b, buf[:k]...)
		for {
			it, err := d.Next(b)
			if err != nil {
				n.t.Error(err)
				return
			}
			if it.Kind == wire.NeedMore {
				break
			}
			if it.Kind == wire.AMessage {
				n.got = append(n.got, b[:it.Size])
			} else {
				n.command(it.Body)
			}
			b = b[it.From:it.To]
		}
		if err != nil {
			return
		}
	}
}

func (n *node) command(body []byte) {
	name, data, err := wire.ParseCommand(body)
	switch {
	case err != nil:
		n.t.Error(err)
	case string(name) == wire.CmdPong:
		n.pong <- struct{}{}
	case string(name) != wire.CmdReady:
		n.got = append(n.got, wire.AppendSubscription(nil, true, string(name) == wire.CmdSubscribe,
			data))
	}
}

// send sends what was recorded and waits until the broker has processed it: the goroutine that does
// so also answers a PING.
func (n *node) send(ev capture.Event) {
	n.t.Helper()
	var b []byte
	switch ev.Kind {
	case capture.Greeting:
		n.write(wire.AppendGreeting(nil, "NULL", false))
		return
	case capture.Metadata:
		b = wire.AppendCommand(b, wire.CmdReady, wire.AppendMetadata(nil, ev.Metadata))
	case capture.Message:
		b = append(b, ev.Message.Wire()...)
	case capture.Command:
		b = wire.AppendCommand(b, ev.Name, ev.Data)
	}
	n.write(wire.AppendPing(b, 0))
	select {
	case <-n.pong:
	case <-n.done:
		n.t.Fatal("the broker closed the connection")
	case <-time.After(10 * time.Second):
		n.t.Fatal("the broker did not answer")
	}
}

func (n *node) write(b []byte) {
	n.t.Helper()
	if _, err := n.conn.Write(b); err != nil {
		n.t.Fatal(err)
	}
}

// leave receives what the broker still has for the node, closes the connection, and waits until the
// broker has told the other nodes.
func (n *node) leave(ctx context.Context, f *forwarder.Forwarder) {
	n.t.Helper()
	us := n.conn.LocalAddr().String()
	testkit.Eventually(n.t, "everything is written", func() bool {
		p, ok := find(f, us)
		return ok && p.Queued == 0 && p.QueuedBytes == 0
	})
	n.conn.CloseWrite()
	<-n.done
	testkit.Eventually(n.t, "the node is gone", func() bool {
		_, ok := find(f, us)
		return !ok
	})
}

// find returns the entry in Stats for the peer with this address.
func find(f *forwarder.Forwarder, addr string) (zmtp.PeerStats, bool) {
	st := f.Stats()
	var peers []zmtp.PeerStats
	for _, p := range st.Publishers {
		peers = append(peers, p.PeerStats)
	}
	for _, s := range st.Subscribers {
		peers = append(peers, s.PeerStats)
	}
	i := slices.IndexFunc(peers, func(p zmtp.PeerStats) bool { return p.Remote.String() == addr })
	if i < 0 {
		return zmtp.PeerStats{}, false
	}
	return peers[i], true
}

// compare checks what the node got. How often a subscription is repeated depends on the order in
// which nodes connected at the same time. So it compares the cancellations, the set of
// subscriptions, and the messages of each sender in order.
func (n *node) compare(port uint16) {
	n.t.Helper()
	sorted := func(all [][]byte) map[string][][]byte {
		by := map[string][][]byte{}
		for _, b := range all {
			m, err := zmtp.ParseMessage(b)
			if err != nil {
				n.t.Fatal(err)
			}
			key := string(m.Part(1)) // the sender
			if port == xsubPort {
				key = string(m.Part(0)[:1])
			}
			by[key] = append(by[key], b)
		}
		if port == xsubPort {
			slices.SortFunc(by["\x00"], bytes.Compare)
			slices.SortFunc(by["\x01"], bytes.Compare)
			by["\x01"] = slices.CompactFunc(by["\x01"], bytes.Equal)
		}
		return by
	}
	got, want := sorted(n.got), sorted(n.want)
	if !maps.EqualFunc(got, want, func(a,
		b [][]byte) bool {
		return slices.EqualFunc(a, b, bytes.Equal)
	}) {
		n.t.Errorf("port %d: got\n%q\nwant\n%q", port, got, want)
	}
}
