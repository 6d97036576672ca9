package scaletest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"zmtpd/forwarder/netnstest"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// The limits of the broker in the overload tests.
const (
	overloadHWM   = 200
	overloadBytes = 1 << 20
	overloadBody  = 4 << 10
)

// role is the behaviour of a subscriber.
type role int

const (
	healthy role = iota
	trickles
	neverReads
	vanishes // its host is cut off
	numRoles
)

var roleNames = [numRoles]string{"healthy", "trickles", "never reads", "vanishes"}

// member is a subscriber to everything.
type member struct {
	role role
	id   int
	conn net.Conn
	rate int // bytes per second, 0 for as much as comes

	got   atomic.Int64  // messages
	holes atomic.Int64  // messages that were missing between those
	ended chan struct{} // closed when the connection has
	err   error         // set before ended, if what came was wrong

	// closed when it is to read, and when it is to read as fast as it can
	begin, hurry chan struct{}
}

// node is its Zeek node id.
func (m *member) node() string { return fmt.Sprintf("zeromq_%s-%d_host_1_N", "worker", m.id) }

func (m *member) address() string { return m.conn.LocalAddr().String() }

// read reads until the connection ends. Messages must come in order.
func (m *member) read() {
	defer close(m.ended)
	<-m.begin
	var d wire.Decoder
	var b []byte
	buf := make([]byte, 64<<10)
	next := int64(0)
	for {
		size := len(buf)
		if m.rate > 0 {
			select {
			case <-m.hurry:
			case <-time.After(50 * time.Millisecond):
				size = min(size, m.rate/20)
			}
		}
		n, err := m.conn.Read(buf[:size])
		b = append(b, buf[:n]...)
		rest := b
		for len(rest) > 0 {
			it, err := d.Next(rest)
			if err != nil {
				m.err = err
				return
			}
			if it.Kind == wire.NeedMore {
				break
			}
			if it.Kind == wire.AMessage {
				msg, err := zmtp.ParseMessage(rest[:it.Size])
				if err != nil {
					m.err = err
					return
				}
				number, err := strconv.ParseInt(string(msg.Part(1)), 10, 64)
				if err != nil || number < next {
					m.err = fmt.Errorf("message %q came behind message %d", msg.Part(1), next-1)
					return
				}
				m.holes.Add(number - next)
				next = number + 1
				m.got.Add(1)
			}
			rest = rest[it.From:it.To]
		}
		b = append(b[:0], rest...)
		if err != nil {
			return
		}
	}
}

// overloaded is the real broker with many subscribers that do not keep up.
type overloaded struct {
	t       *testing.T
	cmd     *exec.Cmd
	mu      sync.Mutex
	log     bytes.Buffer
	xsub    string   // endpoint
	xpub    []string // addresses: for us, and for the other host
	http    string
	members []*member
}

// Write appends to the log.
func (o *overloaded) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.Write(b)
}

func (o *overloaded) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(strings.Lines(o.log.String()))
}

// named returns the number of log lines about m that contain one of the texts.
func (o *overloaded) named(m *member, texts ...string) (n int) {
	for _, line := range o.lines() {
		if strings.Contains(line, "peer="+m.address()+" ") &&
			strings.Contains(line, "node="+m.node()+" ") {
			for _, text := range texts {
				if strings.Contains(line, text) {
					n++
				}
			}
		}
	}
	return n
}

var listens = regexp.MustCompile(`msg=listening flag=\S+ socket=(\S+) endpoint=(\S+)`)

// startBinary builds and starts the program as users have it. The test ends it.
func startBinary(t *testing.T, binary string, args ...string) *overloaded {
	o := &overloaded{t: t}
	o.cmd = exec.Command(binary, args...)
	o.cmd.Stderr = o
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.cmd.Process.Kill()
		o.cmd.Wait()
		if t.Failed() {
			lines := o.lines()
			t.Logf("%d lines of log, the first and the last are\n%s...\n%s", len(lines),
				strings.Join(lines[:min(20, len(lines))], ""),
				strings.Join(lines[max(0, len(lines)-20):], ""))
		}
	})
	testkit.Within(t, patience, "the broker listens", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.xpub = nil
		for _, m := range listens.FindAllStringSubmatch(o.log.String(), -1) {
			switch m[1] {
			case "XSUB":
				o.xsub = m[2]
			case "XPUB":
				o.xpub = append(o.xpub, strings.TrimPrefix(m[2], "tcp://"))
			case "HTTP":
				o.http = m[2]
			}
		}
		return o.http != ""
	})
	return o
}

// peerState is a peer in /status.
type peerState struct {
	Address string           `json:"address"`
	Node    string           `json:"node"`
	Queue   int              `json:"queue"`
	Bytes   int64            `json:"queue_bytes"`
	Dropped map[string]int64 `json:"dropped"` // by reason
	Blocked float64          `json:"blocked_seconds"`
}

// status returns the subscribers by address, and the number of closed connections by reason.
func (o *overloaded) status() (peers map[string]peerState, closed map[string]int) {
	o.t.Helper()
	r, err := http.Get(o.http + "/status")
	if err != nil {
		o.t.Fatal(err)
	}
	defer r.Body.Close()
	var s struct {
		Forwarder struct {
			XPub struct {
				Peers  []peerState    `json:"peers"`
				Closed map[string]int `json:"closed"`
			} `json:"xpub"`
		} `json:"forwarder"`
	}
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		o.t.Fatal(err)
	}
	peers = make(map[string]peerState)
	for _, p := range s.Forwarder.XPub.Peers {
		peers[p.Address] = p
	}
	return peers, s.Forwarder.XPub.Closed
}

// until polls until the condition holds, and checks the queue of each subscriber meanwhile. It
// polls rarely, so that it is no load itself.
func (o *overloaded) until(what string, ok func() bool) {
	o.t.Helper()
	end := time.After(patience)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		o.withinLimits()
		select {
		case <-tick.C:
		case <-end:
			o.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// withinLimits checks the queue of each subscriber.
func (o *overloaded) withinLimits() {
	o.t.Helper()
	peers, _ := o.status()
	for _, p := range peers {
		if p.Queue > overloadHWM || p.Bytes > overloadBytes {
			o.t.Fatalf("beyond the limits: %+v", p)
		}
	}
}

// kernelHolds returns how many bytes the kernel may buffer for a connection.
func kernelHolds() int64 {
	var least, usual, most int64
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_wmem")
	if err == nil {
		_, err = fmt.Sscan(string(text), &least, &usual, &most)
	}
	if err != nil {
		return 4 << 20
	}
	return most
}

// join connects a subscriber.
func (o *overloaded) join(h *netnstest.Host, r role, id int) *member {
	o.t.Helper()
	m := &member{role: r, id: id, ended: make(chan struct{}), begin: make(chan struct{}),
		hurry: make(chan struct{})}
	dialer := new(net.Dialer)
	if r != healthy {
		// With a large buffer the kernel would take everything that is sent, in pieces that a
		// trickling reader needs seconds for.
		dialer.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET,
					syscall.SO_RCVBUF, 16<<10)
			})
		}
	}
	var err error
	if r == vanishes {
		m.conn, err = h.Dial(o.xpub[1])
	} else {
		m.conn, err = dialer.Dial("tcp", o.xpub[0])
	}
	if err != nil {
		o.t.Fatal(err)
	}
	if err := greet(m.conn, wire.SUB); err != nil {
		o.t.Fatal(err)
	}
	hello := wire.AppendSubscription(nil, false, true, []byte("t"))
	hello = wire.AppendSubscription(hello, false, true,
		fmt.Append(nil, "zeek.cluster.nodeid.", m.node(), "."))
	if _, err := m.conn.Write(hello); err != nil {
		o.t.Fatal(err)
	}
	if r == healthy || r == trickles {
		close(m.begin)
	}
	return m
}

// of returns the members with a role.
func (o *overloaded) of(r role) (all []*member) {
	for _, m := range o.members {
		if m.role == r {
			all = append(all, m)
		}
	}
	return all
}

// slowest returns how many messages the slowest healthy subscriber has received.
func (o *overloaded) slowest() int64 {
	least := int64(1 << 62)
	for _, m := range o.of(healthy) {
		least = min(least, m.got.Load())
	}
	return least
}

// ping sends a PING from m now and then, since m does not answer the broker's.
func (m *member) ping(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, err := m.conn.Write(wire.AppendPing(nil, 0)); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
