//go:build unix

package interop

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// idle is how long connections with heartbeats are watched. It is longer than their timeout, so
// that one PING without an answer ends a connection in time.
const (
	idle             = 12 * time.Second
	heartbeat        = 50 * time.Millisecond
	heartbeatTimeout = 10 * time.Second // a busy machine may well stop a process for seconds
)

// TestHeartbeatsKeepUp has connections between all types with heartbeats of libzmq, of ours and of
// both: while nothing else is sent, they stay.
func TestHeartbeatsKeepUp(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	with := options{heartbeat: heartbeat, heartbeatTimeout: heartbeatTimeout,
		heartbeatTTL: heartbeatTimeout}
	modes := map[string][2]options{"ours": {with, {}}, "libzmq": {{}, with}, "both": {with, with}}
	type connection struct {
		name     string
		snd, rcv end
		own      *ourEnd
		mon      *zmtp.Monitor
	}
	var all []connection
	for _, pair := range pairs {
		for _, role := range roles(p) {
			for mode, o := range modes {
				if role[0] != side(ours{}) {
					o[0], o[1] = o[1], o[0]
				}
				c := connection{name: fmt.Sprintf("%s of %v to %s, PINGs of %s", pair[0], role[0],
					pair[1], mode)}
				c.snd, c.rcv = role[0].open(t, pair[0], o[0]), role[1].open(t, pair[1], o[1])
				if pair[1] != "PULL" {
					c.rcv.subscribe("")
				}
				link(c.snd, c.rcv, "tcp://127.0.0.1:*")
				settle(t, c.snd, c.rcv)
				for _, e := range []end{c.snd, c.rcv} {
					if o, ok := e.(*ourEnd); ok {
						c.own = o
					}
				}
				c.mon = c.own.Monitor(100)
				all = append(all, c)
			}
		}
	}
	<-time.After(idle)
	for _, c := range all {
		select {
		case e := <-c.mon.Events():
			t.Errorf("%s: %v, %v", c.name, e.Type, e.Err)
			continue
		default:
		}
		if n := c.own.Stats().Handshakes; n != 1 {
			t.Errorf("%s: %d handshakes", c.name, n)
		}
		c.snd.send("still", "there")
		checkMessage(t, c.rcv.recv(), []string{"still", "there"})
	}
}

// TestHeartbeatOfAStoppedPeer stops libzmq's process: nothing answers our PINGs, and the connection
// is given up. When the process goes on, it connects again.
func TestHeartbeatOfAStoppedPeer(t *testing.T) {
	t.Parallel()
	stopped(t, options{heartbeat: heartbeat, heartbeatTimeout: time.Second}, options{},
		wire.HeartbeatTimeout)
}

// TestTTLOfAStoppedPeer is the same for the time to live in libzmq's PINGs, without PINGs of ours.
func TestTTLOfAStoppedPeer(t *testing.T) {
	t.Parallel()
	stopped(t, options{}, options{heartbeat: heartbeat, heartbeatTimeout: patience,
		heartbeatTTL: 500 * time.Millisecond}, wire.TTLExpired)
}

func stopped(t *testing.T, o, theirs options, want wire.Reason) {
	p := startPeer(t)
	xpub, sub := open(t, "XPUB", o), libzmq{p}.open(t, "SUB", theirs)
	mon := xpub.Monitor(1000)
	sub.subscribe("a")
	link(xpub, sub, "tcp://127.0.0.1:*")
	checkMessage(t, xpub.recv(), []string{"\x01a"})
	xpub.send("a", "first")
	checkMessage(t, sub.recv(), []string{"a", "first"})
	var e zmtp.Event
	testkit.Eventually(t, "the end of the connection", func() bool {
		// A peer that was stopped before its first PING has set no time to live, so it gets another
		// try.
		<-time.After(4 * heartbeat)
		p.Signal(syscall.SIGSTOP)
		deadline := time.After(idle)
		for {
			select {
			case e = <-mon.Events():
				if e.Type == zmtp.EventDisconnected {
					return true
				}
			case <-deadline:
				p.Signal(syscall.SIGCONT)
				return false
			}
		}
	})
	var fault *wire.Error
	if !errors.As(e.Err, &fault) || fault.Reason != want {
		t.Errorf("the connection ended with %v, want %v", e.Err, want)
	}
	checkMessage(t, xpub.recv(), []string{"\x00a"})
	p.Signal(syscall.SIGCONT)
	checkMessage(t, xpub.recv(), []string{"\x01a"})
	xpub.send("a", "second")
	checkMessage(t, sub.recv(), []string{"a", "second"})
}

// TestProperties sends application properties of ZMQ_METADATA in both directions.
func TestProperties(t *testing.T) {
	t.Parallel()
	p := startPeer(t)
	push, pull := libzmq{p}.open(t, "PUSH", options{property: "X-Node:zeek"}),
		open(t, "PULL", options{property: "X-Node:ours"})
	link(pull, push, "tcp://127.0.0.1:*")
	push.send("x")
	m, ok := pull.message(patience)
	if !ok {
		t.Fatal("no message")
	}
	want := wire.Metadata{{Name: "Socket-Type", Value: []byte("PUSH")},
		{Name: "X-Node", Value: []byte("zeek")}}
	if got := m.Peer().Metadata(); !slices.EqualFunc(got, want, func(a, b wire.Property) bool {
		return a.Name == b.Name && string(a.Value) == string(b.Value)
	}) {
		t.Errorf("its properties are %q, want %q", got, want)
	}
	if got := m.Peer().SocketType(); got != wire.PUSH {
		t.Errorf("its type is %s", got)
	}

	back, there := open(t, "PUSH", options{property: "X-Node:ours"}), p.socket(t, "PULL", options{})
	link(back, there, "tcp://127.0.0.1:*")
	for name, want := range map[string]string{"X-Node": "ours", "Socket-Type": "PUSH", "Peer-Address": "127.0.0.1"} {
		back.send("x", "y")
		r := there.call("property",
			testkit.Args{"property": name, "timeout": patience.Milliseconds()})
		if !r.OK || r.Text == nil || *r.Text != want {
			t.Errorf("libzmq finds %v as %s, want %s", r.Text, name, want)
		}
	}
}

// TestHeartbeatsBetweenMessages has PINGs and PONGs go between and within large messages: order and
// content stay.
func TestHeartbeatsBetweenMessages(t *testing.T) {
	t.Parallel()
	o := options{heartbeat: time.Millisecond, heartbeatTimeout: patience}
	for _, role := range roles(startPeer(t)) {
		t.Run(fmt.Sprintf("from %v", role[0]), func(t *testing.T) {
			push, pull := role[0].open(t, "PUSH", o), role[1].open(t, "PULL", o)
			link(pull, push, "tcp://127.0.0.1:*")
			settle(t, push, pull)
			for range 3 {
				for _, m := range theMessages(huge) {
					push.send(m...)
				}
				for _, m := range theMessages(huge) {
					checkMessage(t, pull.recv(), m)
				}
			}
			wait := pull.tally(2000, patience)
			push.burst("topic", "push", 2000, 5000)()
			wait().complete(t, 2000, "push")
		})
	}
}
