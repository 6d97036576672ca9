//go:build unix

package scaletest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"zmtpd/zmtp/wire"
)

// patience bounds a test. It is long, for busy machines.
const patience = 4 * time.Minute

// dial connects to one side of the broker and completes the handshake.
func dial(addr string, typ wire.SocketType) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	return c, greet(c, typ)
}

// greet completes the handshake.
func greet(c net.Conn, typ wire.SocketType) error {
	hello := wire.AppendGreeting(nil, "NULL", false)
	hello = wire.AppendCommand(hello, wire.CmdReady,
		wire.AppendProperty(nil, wire.PropSocketType, []byte(typ)))
	if _, err := c.Write(hello); err != nil {
		return err
	}
	var head [wire.GreetingSize + 2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, head[len(head)-1]))
	return err
}

// topic returns the topic with a number.
func topic(i int) []byte { return fmt.Appendf(nil, "zeek.cluster.node.worker-%07d.", i) }

// number returns the number of a topic.
func number(topic []byte) (int, error) {
	if len(topic) < 8 {
		return 0, fmt.Errorf("topic %q has no number", topic)
	}
	return strconv.Atoi(string(topic[len(topic)-8 : len(topic)-1]))
}

// node is a cluster node: it publishes over one connection, subscribes over another, and keeps the
// subscriptions that the broker passes on.
type node struct {
	pub, sub net.Conn
	done     chan struct{} // closed when pub has ended

	mu   sync.Mutex
	held map[int]bool // topics subscribed by somebody
	err  error        // why the reading ended, if not with the connection
}

// join connects a node and subscribes the topics first to first+topics-1.
func (b *broker) join(first, topics int) (*node, error) {
	n := &node{done: make(chan struct{}), held: make(map[int]bool)}
	var err error
	if n.pub, err = dial(b.XSub, wire.XPUB); err != nil {
		return nil, err
	}
	go n.listen()
	if n.sub, err = dial(b.XPub, wire.XSUB); err != nil {
		n.pub.Close()
		return nil, err
	}
	var subscriptions []byte
	for i := range topics {
		subscriptions = wire.AppendSubscription(subscriptions, false, true, topic(first+i))
	}
	_, err = n.sub.Write(subscriptions)
	return n, err
}

// listen reads the subscriptions that the broker passes on.
func (n *node) listen() {
	defer close(n.done)
	var d wire.Decoder
	var b []byte
	buf := make([]byte, 16<<10)
	for {
		read, err := n.pub.Read(buf)
		b = append(b, buf[:read]...)
		if bad := n.take(&d, &b); bad != nil {
			n.mu.Lock()
			n.err = bad
			n.mu.Unlock()
			return
		}
		if err != nil {
			return
		}
	}
}

func (n *node) take(d *wire.Decoder, b *[]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	rest := *b
	defer func() { *b = append((*b)[:0], rest...) }()
	for len(rest) > 0 {
		it, err := d.Next(rest)
		if err != nil {
			return err
		}
		if it.Kind == wire.NeedMore {
			return nil
		}
		name, topic, err := wire.ParseCommand(it.Body)
		if err != nil {
			return err
		}
		i, err := number(topic)
		if err != nil {
			return err
		}
		switch {
		case bytes.Equal(name, []byte(wire.CmdSubscribe)):
			n.held[i] = true
		case !n.held[i]:
			return fmt.Errorf("cancellation of topic %d, which nobody held", i)
		default:
			delete(n.held, i)
		}
		rest = rest[it.From:it.To]
	}
	return nil
}

// sees returns how many subscribed topics the node knows. Any goroutine may call it.
func (n *node) sees(t *testing.T) int {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		t.Error(n.err)
		return -1
	}
	return len(n.held)
}

// die closes both connections.
func (n *node) die() {
	n.pub.Close()
	n.sub.Close()
}

// joinAll connects nodes at the same time.
func (b *broker) joinAll(nodes, topics, first int) []*node {
	b.t.Helper()
	all, errs := make([]*node, nodes), make([]error, nodes)
	var joining sync.WaitGroup
	for i := range all {
		joining.Go(func() { all[i], errs[i] = b.join(first+i*topics, topics) })
	}
	joining.Wait()
	for _, err := range errs {
		if err != nil {
			b.t.Fatal(err)
		}
	}
	b.t.Cleanup(func() {
		for _, n := range all {
			n.die()
			<-n.done
		}
	})
	return all
}
