package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// deadline bounds one measurement.
const deadline = 3 * time.Minute

// result is one measurement.
type result struct {
	messages  int
	cpu, wall time.Duration
}

// measure runs a load against a fresh broker.
func measure(ctx context.Context, argv []string, zmtpHandshake bool, keys *keys, l load,
	messages int) (result, error) {
	b, err := start(ctx, argv, keys)
	if err != nil {
		return result{}, err
	}
	defer b.stop()
	g := &generator{load: l, handshake: zmtpHandshake, keys: keys,
		messages: messages / l.publishers}
	if !zmtpHandshake {
		g.load.topics = 1 // a relay of bytes knows no topics
	}
	return g.run(b)
}

// generator is the source of the load.
type generator struct {
	load
	handshake bool
	keys      *keys // nil for NULL
	messages  int   // of each publisher
}

// message appends a message of a topic. The body is its last part.
func (g *generator) message(b []byte, topic int) []byte {
	return zmtp.AppendMessage(b,
		fmt.Appendf(nil, "zeek.cluster.worker.%02d", topic),
		[]byte("zeromq_worker-1_host1_4711_NABCDEF"), []byte("broker-bin-v1"), make([]byte, g.body))
}

// block returns about 64 KiB of prepared messages, equally many of each topic, and their number.
func (g *generator) block() ([]byte, int) {
	var b []byte
	n := 0
	for len(b) < 64<<10 || n%g.topics != 0 {
		b = g.message(b, n%g.topics)
		n++
	}
	return b, n
}

// peers are the connections of a generator, ready for traffic.
type peers struct {
	pubs, subs []net.Conn
	all        []net.Conn // to close
}

func (p *peers) close() {
	for _, c := range p.all {
		c.Close()
	}
}

// connect connects publishers and subscribers to a broker, and waits until the publishers have the
// subscriptions. The caller must call close, also after an error.
func (g *generator) connect(b *broker) (*peers, error) {
	p := new(peers)
	dial := func(addr, socketType string) (net.Conn, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		p.all = append(p.all, c)
		c.SetDeadline(time.Now().Add(deadline))
		switch {
		case g.handshake && g.keys != nil:
			return g.keys.dial(c, socketType)
		case g.handshake:
			return c, handshake(c, socketType)
		}
		_, err = io.ReadFull(c, make([]byte, 1)) // the relay has taken it in
		return c, err
	}
	for range g.publishers {
		c, err := dial(b.xsub, "PUB")
		if err != nil {
			return p, err
		}
		p.pubs = append(p.pubs, c)
	}
	for i := range g.subscribers {
		c, err := dial(b.xpub, "SUB")
		if err != nil {
			return p, err
		}
		p.subs = append(p.subs, c)
		topic := "zeek."
		if g.topics > 1 {
			topic = fmt.Sprintf("zeek.cluster.worker.%02d", i)
		}
		if g.handshake {
			b := wire.AppendSubscription(nil, false, true, []byte(topic))
			b = wire.AppendSubscription(b, false, true, fmt.Appendf(nil, "%s%d.", subscribed, i))
			if _, err := c.Write(b); err != nil {
				return p, err
			}
		}
	}
	for _, c := range p.pubs {
		if err := g.awaitSubscriptions(c); err != nil {
			return p, fmt.Errorf("waiting for the subscriptions: %w", err)
		}
	}
	return p, nil
}

// run sends as fast as the broker reads.
func (g *generator) run(b *broker) (result, error) {
	block, inBlock := g.block()
	blocks := max(1, g.messages/inBlock)
	want := int64(g.wireSize(block)) * int64(blocks) * int64(g.publishers) / int64(g.topics)
	p, err := g.connect(b)
	defer p.close()
	if err != nil {
		return result{}, err
	}
	for _, c := range p.pubs {
		go io.Copy(io.Discard, plainConn(c))
	}
	before, err := b.cpu()
	if err != nil {
		return result{}, err
	}
	begin := time.Now()
	errs := make(chan error, len(p.all))
	var all sync.WaitGroup
	for _, c := range p.pubs {
		all.Go(func() {
			for range blocks {
				if _, err := c.Write(block); err != nil {
					errs <- fmt.Errorf("publisher: %w", err)
					return
				}
			}
		})
	}
	for _, c := range p.subs {
		all.Go(func() {
			if n, err := io.Copy(io.Discard,
				io.LimitReader(onlyReader{plainConn(c)}, want)); n != want {
				errs <- fmt.Errorf("subscriber got %d bytes of %d: %w", n, want,
					errors.Join(err, io.ErrUnexpectedEOF))
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return result{}, err
	default:
	}
	after, err := b.cpu()
	return result{blocks * inBlock * g.publishers, after - before, time.Since(begin)}, err
}

// onlyReader hides the methods with which io.Copy would splice.
type onlyReader struct{ io.Reader }

// subscribed begins the topic that each subscriber subscribes last, a different one each. A broker
// passes a topic on once, however many have subscribed to it, so only distinct topics can be
// awaited.
const subscribed = "brokerbench."

// awaitSubscriptions reads until the broker has passed on the last subscription of every
// subscriber.
func (g *generator) awaitSubscriptions(c net.Conn) error {
	if !g.handshake {
		return nil
	}
	var seen []byte
	buf := make([]byte, 4096)
	for i := 0; i < g.subscribers; {
		if bytes.Contains(seen, fmt.Appendf(nil, "%s%d.", subscribed, i)) {
			i++
			continue
		}
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		seen = append(seen, buf[:n]...)
	}
	return nil
}

// handshake exchanges greetings and READY.
func handshake(c net.Conn, socketType string) error {
	hello := wire.AppendGreeting(nil, "NULL", false)
	ready := wire.AppendCommand(nil, wire.CmdReady,
		wire.AppendProperty(nil, wire.PropSocketType, []byte(socketType)))
	if _, err := c.Write(append(hello, ready...)); err != nil {
		return err
	}
	var head [wire.GreetingSize + 2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, head[wire.GreetingSize+1]))
	return err
}
