//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// reloaded is a daemon whose configuration file changes.
type reloaded struct {
	*process
	file string
	said int // length of the log that was checked
}

// startReloaded starts a daemon with a configuration file.
func startReloaded(t *testing.T, text string, args ...string) *reloaded {
	t.Helper()
	d := &reloaded{file: filepath.Join(t.TempDir(), "zmtpd.yaml")}
	if err := os.WriteFile(d.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flag := range map[string][]string{"forwarder": {"--xsub", "--xpub"}, "logger": {"--listen"}}[args[0]] {
		args = append(args, flag, "tcp://127.0.0.1:*")
	}
	d.process = startDaemon(t, append(args, "--config", d.file)...)
	return d
}

// hangup changes the configuration, sends SIGHUP, and waits until the log has all the wanted words.
func (d *reloaded) hangup(text string, want ...string) {
	d.t.Helper()
	if err := os.WriteFile(d.file, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.Signal(syscall.SIGHUP)
	testkit.Eventually(d.t, fmt.Sprintf("SIGHUP is answered with %q", want), func() bool {
		text := d.Stderr.String()[d.said:]
		for _, w := range want {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	})
	d.said = len(d.Stderr.String())
}

// The log names changed flags, faults, and changed flags that need a restart.
func TestReload(t *testing.T) {
	t.Parallel()
	d := startReloaded(t, "overload: block\n", "forwarder")
	d.hangup("overload: drop\nwait-share: 20%\nlog-level: debug\nsndhwm: 17\n",
		`SIGHUP: read the configuration again" changed="[log-level overload sndhwm wait-share]"`,
		"there are no keys")
	d.hangup("overload: nonsense\n", "cannot read", "nonsense")
	d.hangup("overload: drop\nshutdown-timeout: 3s\nlog-format: json\n",
		`changed="[log-format log-level shutdown-timeout sndhwm wait-share]"`, "after a restart",
		`flags="[log-format shutdown-timeout]"`)
	d.hangup("overload: drop\nlog-format: json\n", `changed=[shutdown-timeout]`,
		`flags=[log-format]`)
	d.hangup("overload: block\n", `changed="[log-format overload]"`)
	if strings.Contains(d.Stderr.String()[strings.LastIndex(d.Stderr.String(), "changed="):],
		"flags=") {
		t.Error("the log names flags that are back at their first values")
	}
	d.Terminate()
}

// A fault in the configuration does not stop the reload of the keys, and the reverse.
func TestReloadWithFaults(t *testing.T) {
	t.Parallel()
	keys := newKeyFolder(t)
	keys.addServer("server")
	key := func() curve.Key { public, _ := curve.GenerateKeyPair(); return public }
	keys.add("one", key())
	d := startReloaded(t, "", append([]string{"forwarder"}, keys.flags()...)...)
	clients := func(want int) {
		t.Helper()
		if s := d.status().Security; s.Clients != want {
			t.Errorf("%d clients, want %d", s.Clients, want)
		}
	}
	broken := filepath.Join(keys.clients, "broken.key")
	if err := os.WriteFile(broken, []byte("curve\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.hangup("overload: drop\n", "SIGHUP: read the configuration again", "changed=[overload]",
		"keys cannot be read", "broken.key")
	clients(1)
	keys.remove(broken)
	keys.add("two", key())
	d.hangup("overload: nonsense\n", "SIGHUP: cannot read the configuration",
		"keys were read again")
	clients(2)
	d.hangup("", "SIGHUP: read the configuration again", "keys were read again")
}

// A reload that denies an address closes its connections. One that allows it again admits them.
func TestReloadAddresses(t *testing.T) {
	t.Parallel()
	d := startReloaded(t, "", "logger", "--dir", t.TempDir())
	push := zmtp.NewPush(zmtp.Config{ReconnectInterval: 10 * time.Millisecond,
		ReconnectMax: 10 * time.Millisecond}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(d.Endpoint("PULL")); err != nil {
		t.Fatal(err)
	}
	connected := func(n int) func() bool {
		return func() bool { return len(d.status().Logger.Pull.Peers) == n }
	}
	refused := func() bool {
		return d.Metric(`zmtpd_socket_handshake_failures_total{reason="auth_refused",socket="pull"}`) > 0
	}
	testkit.Eventually(t, "connected", connected(1))
	d.hangup("allow: 127.0.0.0/8\n", "changed=[allow]")
	if d.hangup("allow: 127.0.0.1\ndeny: 10.0.0.0/8\n",
		"changed=\"[allow deny]\""); !connected(1)() || refused() {
		t.Error("an allowed connection was closed")
	}
	d.hangup("deny: 127.0.0.1\n", "changed=\"[allow deny]\"", "connection closed", "address")
	testkit.Eventually(t, "refused", refused)
	if !connected(0)() {
		t.Error("the denied client is connected")
	}
	d.hangup("", "changed=[deny]")
	testkit.Eventually(t, "connected again", connected(1))
}

// subscribeRaw connects a subscriber to everything that sends nothing else and answers no PING.
func subscribeRaw(t *testing.T, endpoint string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.(*net.TCPConn).SetReadBuffer(64 << 10)
	hello := wire.AppendGreeting(nil, "NULL", false)
	hello = wire.AppendCommand(hello, wire.CmdReady,
		wire.AppendProperty(nil, wire.PropSocketType, []byte(wire.SUB)))
	hello = wire.AppendSubscription(hello, false, true, nil)
	if _, err := c.Write(hello); err != nil {
		t.Fatal(err)
	}
	var head [wire.GreetingSize + 2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, head[len(head)-1])); err != nil {
		t.Fatal(err)
	}
	return c
}

// After a reload turns heartbeats on, a half-open peer is closed and the others stay.
func TestReloadHeartbeats(t *testing.T) {
	t.Parallel()
	d := startReloaded(t, "", "forwarder")
	subscribeRaw(t, d.Endpoint("XPUB"))
	sub := zmtp.NewSub(zmtp.Config{})
	defer sub.Close()
	if err := sub.Connect(d.Endpoint("XPUB")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "two subscribers",
		func() bool { return len(d.status().Forwarder.XPub.Peers) == 2 })
	before := time.Now()
	// A peer has the same time for its answer, which on a busy machine takes a while.
	d.hangup("heartbeat-interval: 2s\n", "changed=[heartbeat-interval]")
	testkit.Eventually(t, "one of them is closed", func() bool {
		return len(d.status().Forwarder.XPub.Peers) == 1 &&
			d.Metric(`zmtpd_socket_closed_connections_total{reason="heartbeat_timeout",socket="xpub"}`) == 1
	})
	if d := time.Since(before); d < 4*time.Second {
		t.Errorf("the peer was closed after %v, before it could answer", d)
	}
}

// numberedMessages reads messages from a raw connection. Their second part is a number. It returns
// an error unless each number follows the one before, and adds the number of messages to got.
func numberedMessages(c io.Reader, got *atomic.Int64) error {
	var d wire.Decoder
	var b []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		b = append(b, buf[:n]...)
		rest := b
		for len(rest) > 0 {
			it, err := d.Next(rest)
			if err != nil {
				return err
			}
			if it.Kind == wire.NeedMore {
				break
			}
			if it.Kind == wire.AMessage {
				m, err := zmtp.ParseMessage(rest[:it.Size])
				if err != nil {
					return err
				}
				if want := fmt.Sprint(got.Load()); string(m.Part(1)) != want {
					return fmt.Errorf("got message %s, want %s", m.Part(1), want)
				}
				got.Add(1)
			}
			rest = rest[it.From:it.To]
		}
		b = append(b[:0], rest...)
		if err != nil {
			return err
		}
	}
}

// The limits of the queues change again and again while publishers wait for a slow subscriber. With
// the policy block, no message is lost or reordered, no connection is closed, and the queues keep
// to the limits.
func TestReloadLimitsUnderLoad(t *testing.T) {
	t.Parallel()
	d := startReloaded(t, "overload: block\nsndhwm: 1000\n", "forwarder")
	late := subscribeRaw(t, d.Endpoint("XPUB"))
	healthy := subscribeRaw(t, d.Endpoint("XPUB"))
	var sent, healthyGot, lateGot atomic.Int64
	ended := make(chan error, 2)
	go func() { ended <- numberedMessages(healthy, &healthyGot) }()
	pub := zmtp.NewXPub(zmtp.Config{SendHWM: 10}, zmtp.XPubOptions{NoDrop: true})
	defer pub.Close()
	if err := pub.Connect(d.Endpoint("XSUB")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the publisher knows", func() bool { return pub.Topics() == 1 })
	ctx, stop := context.WithCancel(t.Context())
	publishing := make(chan struct{})
	body := make([]byte, 2<<10)
	go func() {
		defer close(publishing)
		for pub.Send(ctx, zmtp.NewMessage([]byte("t"), fmt.Append(nil, sent.Load()), body)) == nil {
			sent.Add(1)
		}
	}()
	peer := func() daemon.PeerStatus {
		for _, p := range d.status().Forwarder.XPub.Peers {
			if p.Address == late.LocalAddr().String() {
				return p
			}
		}
		t.Fatal("the connection of the late subscriber is gone")
		return daemon.PeerStatus{}
	}
	testkit.Eventually(t, "the queue is full", func() bool { return peer().Queue == 1000 })
	d.hangup("overload: block\nsndhwm: 3000\nsndbytes: 0\n", "changed=\"[sndbytes sndhwm]\"")
	testkit.Eventually(t, "the larger queue is full", func() bool { return peer().Queue == 3000 })
	d.hangup("overload: block\nsndhwm: 0\nsndbytes: 8MiB\n", "changed=\"[sndbytes sndhwm]\"")
	testkit.Eventually(t, "as many bytes wait as may",
		func() bool { return peer().QueueBytes > 8<<20-3<<10 })
	if n := peer().QueueBytes; n > 8<<20 {
		t.Errorf("%d bytes wait, the limit is 8 MiB", n)
	}
	d.hangup("overload: block\nsndhwm: 100\nsndbytes: 1MiB\n", "changed=\"[sndbytes sndhwm]\"")
	if n := peer().QueueBytes; n < 8<<20-3<<10 {
		t.Errorf("%d bytes are left of those that waited when the limit was lowered", n)
	}
	// The subscriber reads, and the limits go on changing.
	go func() { ended <- numberedMessages(late, &lateGot) }()
	for i := range 20 {
		target := healthyGot.Load() + 500
		testkit.Eventually(t, "the messages flow",
			func() bool { return healthyGot.Load() > target && lateGot.Load() > target })
		d.hangup(fmt.Sprintf("overload: block\nsndhwm: %d\nsndbytes: %dKiB\n",
			[]int{0, 1, 7, 1000}[i%4], []int{1, 0, 10000}[i%3]), "changed=")
	}
	testkit.Eventually(t, "the queue is within the last limits",
		func() bool { return peer().Queue <= 1000 })
	stop()
	<-publishing
	testkit.Eventually(t, "both have everything",
		func() bool { return healthyGot.Load() == sent.Load() && lateGot.Load() == sent.Load() })
	if s := d.status().Forwarder.XPub; len(s.Peers) != 2 || len(s.Dropped) > 0 {
		t.Errorf("%d subscribers, dropped %v", len(s.Peers), s.Dropped)
	}
	select {
	case err := <-ended:
		t.Errorf("a subscriber ended: %v", err)
	default:
	}
}

// A higher limit on the messages of a node takes effect at once.
func TestReloadReceiveLimits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startReloaded(t, "rcvhwm: 1\nrcvbytes: 0\n", "logger", "--dir", dir)
	push := connect(t, d.Endpoint("PULL"))
	for i := range 2000 {
		if err := push.Send(testkit.Context(t),
			logMessage(t, "node", "numbers", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if i%500 == 100 {
			d.hangup(fmt.Sprintf("rcvhwm: %d\nrcvbytes: %dKiB\n", 1+i%7, i%2), "changed=")
		}
	}
	testkit.Eventually(t, "all are written",
		func() bool { return d.Metric("zmtpd_logger_received_messages_total") == 2000 })
	d.Terminate()
	for i, line := range records(t, filepath.Join(dir, "numbers.log")) {
		if line != fmt.Sprint(i) {
			t.Fatalf("record %d is %q", i, line)
		}
	}
}

// SIGHUP does not end a daemon that is shutting down, which here waits for a subscriber that does
// not read.
func TestHangupInShutdown(t *testing.T) {
	t.Parallel()
	d := startReloaded(t, "", "forwarder", "--shutdown-timeout", "2s")
	subscribeRaw(t, d.Endpoint("XPUB"))
	pub := zmtp.NewPub(zmtp.Config{})
	defer pub.Close()
	if err := pub.Connect(d.Endpoint("XSUB")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the publisher knows", func() bool { return pub.Topics() == 1 })
	for range 10 {
		pub.TrySend(zmtp.NewMessage(make([]byte, 4<<20)))
	}
	testkit.Eventually(t, "messages wait", func() bool {
		p := d.status().Forwarder.XPub.Peers
		return len(p) == 1 && p[0].Queue > 1
	})
	d.Signal(syscall.SIGTERM)
	testkit.Eventually(t, "it shuts down",
		func() bool { return strings.Contains(d.Stderr.String(), "shutting down") })
	for range 5 {
		d.Signal(syscall.SIGHUP)
	}
	if status := d.Wait(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	if !strings.Contains(d.Stderr.String(), "msg=stopped") {
		t.Error("the daemon did not stop in order")
	}
}
