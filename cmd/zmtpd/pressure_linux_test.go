package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// beyondMemory is the memory that a daemon may take beyond --memory, in bytes.
const beyondMemory = 128 << 20

// hostilePeer completes the handshake as a socket of type typ. The test then writes to its
// connection.
func hostilePeer(t *testing.T, endpoint string, typ wire.SocketType) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	greeting := wire.AppendGreeting(nil, "NULL", false)
	ready := wire.AppendCommand(nil, wire.CmdReady,
		wire.AppendProperty(nil, wire.PropSocketType, []byte(typ)))
	if _, err := conn.Write(append(greeting, ready...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len(greeting))); err != nil {
		t.Fatal(err)
	}
	var header [2]byte // READY is a short command
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, header[1])); err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Time{})
	return conn
}

// unfinished returns a message of n bytes without its last byte.
func unfinished(n int) []byte {
	return wire.AppendFrame(nil, 0, make([]byte, n))[:n]
}

// keepsTo checks that the peak memory of a daemon is within its limit.
func keepsTo(t *testing.T, p *process, budget int) {
	t.Helper()
	peak := testkit.PeakMemory(t, p.Cmd.Process.Pid)
	t.Logf("%d MiB of a budget of %d", peak>>20, budget>>20)
	if peak > budget+beyondMemory {
		t.Errorf("the daemon took %d MiB of memory, the budget is %d MiB", peak>>20, budget>>20)
	}
}

// Peers that each leave a large message unfinished get no more than --memory together, and are
// closed in the end. An honest node goes on all the time.
func TestMemoryUnfinishedMessages(t *testing.T) {
	t.Parallel()
	zmtpd := operators(t)
	const budget = 256 << 20
	d := zmtpd.startDaemon(t, "logger", "--listen", anyPort, "--dir", t.TempDir(), "--memory",
		"256MiB")
	message := unfinished(60 << 20)
	for range 25 {
		conn := hostilePeer(t, d.Endpoint("PULL"), wire.PUSH)
		go conn.Write(message) // until one end closes the connection
	}
	source := testkit.Unpack(t, "cluster-logs") + "/log-writes.bin"
	honest := zmtpd.start(t, nil, "replay", source, "--push", d.Endpoint("PULL"), "--linger", "60s")
	if status := honest.Wait(); status != 0 {
		t.Errorf("an honest node ends with %d: %s", status, honest.Stderr.String())
	}
	testkit.Eventually(t, "the largest to be closed",
		func() bool { return d.Metric("zmtpd_memory_closed_total") > 0 })
	keepsTo(t, d, budget)
	d.Terminate()
}

// Subscribers that do not read get no more than --memory together, whatever waits for each. One that
// reads gets most messages even so, and those that it loses are counted.
func TestMemoryStalledSubscribers(t *testing.T) {
	t.Parallel()
	zmtpd := operators(t)
	const budget = 256 << 20
	d := zmtpd.startDaemon(t, "forwarder", "--xsub", anyPort, "--xpub", anyPort, "--memory",
		"256MiB",
		"--sndhwm", "0")
	// Messages of alternating topics are copied for each subscriber, and not sent from the buffer
	// into which they were read.
	topics := [][]byte{[]byte("even"), []byte("odd")}
	stalled := make(map[string]bool) // by address
	for i := range 100 {
		conn := hostilePeer(t, d.Endpoint("XPUB"), wire.SUB)
		stalled[conn.LocalAddr().String()] = true
		if _, err := conn.Write(wire.AppendSubscription(nil, false, true,
			topics[i%2])); err != nil {
			t.Fatal(err)
		}
	}
	honest := zmtp.NewSub(zmtp.Config{})
	if err := honest.Subscribe(""); err != nil {
		t.Fatal(err)
	}
	if err := honest.Connect(d.Endpoint("XPUB")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the subscriptions",
		func() bool { return d.Metric("zmtpd_forwarder_subscriptions") == 101 })
	const count, size = 2000, 10_000 // more than the kernel holds for each
	var received atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := honest.Recv(context.Background())
			if err != nil {
				return // the socket is closed
			}
			if n := len(m.Part(1)); n != size {
				t.Errorf("a message of %d bytes, want %d", n, size)
			}
			received.Add(1)
		}
	}()
	defer func() { honest.Close(); <-done }()
	pub := hostilePeer(t, d.Endpoint("XSUB"), wire.PUB)
	go io.Copy(io.Discard, pub)
	go func() {
		for i := range count {
			pub.Write(zmtp.NewMessage(topics[i%2], make([]byte, size)).Wire())
		}
	}()
	// On a busy machine, the honest subscriber may be slow for a moment as well. The policy then
	// drops messages for it.
	lost := func() (lost uint64) {
		var status struct {
			Forwarder struct {
				XPub daemon.SocketStatus `json:"xpub"`
			} `json:"forwarder"`
		}
		d.Status(&status)
		for _, p := range status.Forwarder.XPub.Peers {
			for _, n := range p.Dropped {
				if !stalled[p.Address] {
					lost += n
				}
			}
		}
		return lost
	}
	testkit.Eventually(t, "each message to arrive or to be counted as dropped",
		func() bool { return uint64(received.Load())+lost() == count })
	if n := received.Load(); n < count/2 {
		t.Errorf("the subscriber that reads received only %d of %d messages", n, count)
	}
	for line := range strings.Lines(d.Stderr.String()) {
		if strings.Contains(line, "has caught up") && strings.Contains(line, "bytes_per_second=0") {
			t.Errorf("a subscriber that reads nothing is said to have caught up: %s", line)
			break
		}
	}
	keepsTo(t, d, budget)
	d.Terminate()
}

// A message of millions of empty parts is refused at almost no cost. Without limits on parts and
// size, passing it on costs its size.
func TestMemoryManyParts(t *testing.T) {
	t.Parallel()
	zmtpd := operators(t)
	const budget = 256 << 20
	parts := append(bytes.Repeat([]byte{byte(wire.More), 0}, 33_000_000), 0, 0)
	for _, c := range []struct {
		daemon       []string
		socket, peer wire.SocketType
	}{
		{[]string{"logger", "--listen", anyPort, "--dir", t.TempDir()}, wire.PULL, wire.PUSH},
		{[]string{"forwarder", "--xsub", anyPort, "--xpub", anyPort}, wire.XSUB, wire.PUB},
		{[]string{"forwarder", "--xsub", anyPort, "--xpub", anyPort}, wire.XPUB, wire.XSUB},
	} {
		t.Run(string(c.socket), func(t *testing.T) {
			d := zmtpd.startDaemon(t, append(c.daemon, "--memory", "256MiB", "--max-message-size",
				"1GiB")...)
			conn := hostilePeer(t, d.Endpoint(string(c.socket)), c.peer)
			conn.Write(parts) // the daemon closes the connection before the end
			name := fmt.Sprintf(`zmtpd_socket_closed_connections_total{reason="too_many_parts",socket=%q}`, strings.ToLower(string(c.socket)))
			testkit.Eventually(t, "the refusal", func() bool { return d.Metric(name) == 1 })
			keepsTo(t, d, budget)
			d.Terminate()
		})
	}
}

// With few file descriptors, idle connections exclude neither an honest node nor HTTP.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	limited := program{"sh", "-c", `ulimit -n 256 && exec zmtpd "$@"`, "sh"}
	source := testkit.Unpack(t, "cluster-logs") + "/log-writes.bin"
	greeting := append(wire.AppendGreeting(nil, "NULL", false),
		wire.AppendCommand(nil, wire.CmdReady,
			wire.AppendProperty(nil, wire.PropSocketType, []byte(wire.PUSH)))...)
	for name, first := range map[string][]byte{"before the handshake": nil, "behind the handshake": greeting} {
		t.Run(name, func(t *testing.T) {
			d := limited.startDaemon(t, "logger", "--listen", anyPort, "--dir", t.TempDir())
			for range 300 {
				conn, err := net.Dial("tcp", strings.TrimPrefix(d.Endpoint("PULL"), "tcp://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.Write(first) // it may be refused already
			}
			honest := start(t, nil, "replay", source, "--push", d.Endpoint("PULL"), "--linger",
				"60s")
			if status := honest.Wait(); status != 0 {
				t.Errorf("an honest node ends with %d: %s", status, honest.Stderr.String())
			}
			if peers := d.Metric(`zmtpd_socket_peers{socket="pull"}`); peers > 64 { // by HTTP
				t.Errorf("%v connections under a limit of 256 file descriptors", peers)
			}
			d.Terminate()
		})
	}
}
