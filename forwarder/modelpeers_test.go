package forwarder

import (
	"io"
	"testing/synctest"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// Peers of the real broker.

// A modelSubscriber sends the SUBSCRIBEs and CANCELs of the steps, directly or through a socket
// that counts.
type modelSubscriber struct {
	kind   string // as in a step
	sub    interface{ Subscribe(string) error }
	cancel func(string) error
	up     func(string)
	close  func()
	counts map[string]int // of a socket
	conn   *zmtptest.Conn // the subscriber's end
	got    collector

	stalled bool
	hurry   chan struct{} // of one that trickles; closed, and then nil, to end that
	dropped uint64        // messages lost before the current step
	since   int           // number of steps since it has kept up
}

// goOn ends whatever keeps s from reading.
func (s *modelSubscriber) goOn() {
	s.stalled = false
	s.conn.Stall(false)
	if s.hurry != nil {
		close(s.hurry)
		s.hurry = nil
	}
}

// trickling reads 20 bytes at a time, with pauses until hurry is closed.
type trickling struct {
	io.Reader
	hurry <-chan struct{}
}

func (s trickling) Read(b []byte) (int, error) {
	select {
	case <-s.hurry:
		return s.Reader.Read(b)
	case <-time.After(50 * time.Millisecond):
		return s.Reader.Read(b[:min(len(b), 20)])
	}
}

type modelPublisher struct {
	send  func([]zmtp.Message)
	close func()
	told  *collector // nil if the peer cannot report them
}

func (m *model) attach(kind string) *modelSubscriber {
	s := &modelSubscriber{kind: kind, counts: map[string]int{}, since: recovery}
	connect := func(socket interface {
		receiver
		Connect(string) error
		Close() error
	}) {
		if err := socket.Connect("tcp://" + xpubAddr); err != nil {
			m.t.Fatal(err)
		}
		go s.got.receive(socket)
		s.close = func() { socket.Close() }
	}
	switch kind {
	case "sub":
		sub := zmtp.NewSub(m.cfg)
		s.sub, s.cancel = sub, sub.Unsubscribe
		connect(sub)
	case "xsub":
		xsub := zmtp.NewXSub(m.cfg)
		s.sub, s.cancel = xsub, xsub.Unsubscribe
		s.up = func(text string) { xsub.TrySend(zmtp.NewMessageString(text)) }
		connect(xsub)
	case "xsub message":
		xsub := zmtp.NewXSub(m.cfg)
		s.sub = sendSubscription(func(topic string) error {
			return xsub.TrySend(zmtp.NewMessageString("\x01" + topic))
		})
		s.cancel = func(topic string) error {
			return xsub.TrySend(zmtp.NewMessageString("\x00" + topic))
		}
		connect(xsub)
	case "raw", "trickle":
		r := m.dialRaw(m.t, xpubAddr, wire.XSUB)
		s.sub = sendSubscription(func(topic string) error { r.subscribe(topic, true); return nil })
		s.cancel = func(topic string) error { r.subscribe(topic, false); return nil }
		s.up = func(text string) { r.write(zmtp.NewMessageString(text).Wire()) }
		s.close = func() { r.Close() }
		var in io.Reader = r
		if kind == "trickle" {
			s.hurry = make(chan struct{})
			in = trickling{r, s.hurry}
		}
		go s.got.read(m.t, in)
	}
	synctest.Wait()
	conns := m.net.Conns(xpubAddr)
	s.conn = conns[len(conns)-1].Peer()
	return s
}

type sendSubscription func(string) error

func (f sendSubscription) Subscribe(topic string) error { return f(topic) }

func (m *model) attachPublisher(kind string) *modelPublisher {
	p := new(modelPublisher)
	switch kind {
	case "xpub":
		xpub := zmtp.NewXPub(m.cfg, zmtp.XPubOptions{Verboser: true})
		if err := xpub.Connect("tcp://" + xsubAddr); err != nil {
			m.t.Fatal(err)
		}
		p.told = collect(xpub)
		p.send = func(all []zmtp.Message) {
			for _, msg := range all {
				xpub.TrySend(msg)
			}
		}
		p.close = func() { xpub.Close() }
	case "pub":
		pub := zmtp.NewPub(m.cfg)
		if err := pub.Connect("tcp://" + xsubAddr); err != nil {
			m.t.Fatal(err)
		}
		p.send = func(all []zmtp.Message) {
			for _, msg := range all {
				pub.TrySend(msg)
			}
		}
		p.close = func() { pub.Close() }
	case "raw": // sends what the peer has not asked for
		r := m.dialRaw(m.t, xsubAddr, wire.PUB)
		go io.Copy(io.Discard, r)
		writes := make(chan []byte, 1000)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for b := range writes {
				r.write(b)
			}
		}()
		p.send = func(all []zmtp.Message) {
			var b []byte
			for _, msg := range all {
				b = append(b, msg.Wire()...)
			}
			writes <- b
		}
		p.close = func() { close(writes); <-ended; r.Close() }
	}
	return p
}
