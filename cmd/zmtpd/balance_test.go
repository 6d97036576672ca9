//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// loggerProcess is a logger behind a balancer.
type loggerProcess struct {
	*process
	to  string // for --to
	dir string
}

// startLogger starts a logger at an endpoint, on an ephemeral port if that is empty.
func startLogger(t testing.TB, endpoint string, args ...string) *loggerProcess {
	t.Helper()
	dir := t.TempDir()
	if endpoint == "" {
		endpoint = "tcp://127.0.0.1:*"
	}
	p := startDaemon(t, append([]string{"logger", "--listen", endpoint, "--dir", dir}, args...)...)
	return &loggerProcess{p, p.Endpoint("PULL"), dir}
}

func startLoggers(t testing.TB, n int, args ...string) (all []*loggerProcess) {
	t.Helper()
	for range n {
		all = append(all, startLogger(t, "", args...))
	}
	return all
}

// startBalance starts a balancer and waits until all its loggers are connected.
func startBalance(t testing.TB, loggers []*loggerProcess, args ...string) *process {
	t.Helper()
	args = append([]string{"balance", "--listen", "tcp://127.0.0.1:*"}, args...)
	for _, l := range loggers {
		args = append(args, "--to", l.to)
	}
	p := startDaemon(t, args...)
	testkit.Eventually(t, "all loggers",
		func() bool { return p.status().Balance.Push.Peers != nil && connected(p) == len(loggers) })
	return p
}

// connected returns the number of connected loggers of a balancer.
func connected(p *process) (n int) {
	for _, l := range p.status().Balance.Loggers {
		if l.Connected {
			n++
		}
	}
	return n
}

// received ends loggers and returns the number of messages that all of them have received.
func received(loggers ...*loggerProcess) (n uint64) {
	for _, l := range loggers {
		l.Terminate()
		n += l.summary("logger")["received"]
	}
	return n
}

// nodes are PUSH sockets that send log messages, numbered by node and log, until they are stopped.
type nodes struct {
	t       *testing.T
	sent    atomic.Uint64 // messages that the sockets have taken
	slow    atomic.Bool   // nodes send one message a millisecond
	stop    context.CancelFunc
	sending sync.WaitGroup
	sockets []*zmtp.Push
}

// startNodes starts to send messages of one record, which ends with padding.
func startNodes(t *testing.T, n int, endpoint string, padding ...string) *nodes {
	t.Helper()
	ns := &nodes{t: t}
	var ctx context.Context
	ctx, ns.stop = context.WithCancel(context.Background())
	for i := range n {
		push := connect(t, endpoint)
		ns.sockets = append(ns.sockets, push)
		ns.sending.Go(func() {
			for k := 0; ; k++ {
				m := logMessage(t, fmt.Sprint("node-", i), fmt.Sprint("log-", k%7),
					fmt.Sprint(i, " ", k, strings.Join(padding, "")))
				if push.Send(ctx, m) != nil {
					return
				}
				ns.sent.Add(1)
				if ns.slow.Load() {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	t.Cleanup(func() {
		ns.stop()
		ns.sending.Wait()
	})
	return ns
}

// await waits until n more messages were sent.
func (ns *nodes) await(n uint64) {
	ns.t.Helper()
	until := ns.sent.Load() + n
	testkit.Eventually(ns.t, fmt.Sprint(n, " more messages sent"),
		func() bool { return ns.sent.Load() >= until })
}

// finish stops sending, waits until everything is sent and returns the number of messages.
func (ns *nodes) finish() uint64 {
	ns.t.Helper()
	ns.stop()
	ns.sending.Wait()
	for _, push := range ns.sockets {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		err := push.Shutdown(ctx)
		cancel()
		if st := push.Stats(); err != nil || st.Dropped.Total() > 0 {
			ns.t.Fatalf("a node could not send everything: %v, %v", err, st.Dropped)
		}
	}
	return ns.sent.Load()
}

// Three loggers write what Zeek's logger wrote: if they take turns, the same records; with
// --sticky, the same files, each at one logger.
func TestBalanceGolden(t *testing.T) {
	t.Parallel()
	recording := testkit.Unpack(t, "cluster-logs")
	want := logs(t, filepath.Join(recording, "tsv"), true)
	for _, sticky := range []bool{false, true} {
		t.Run(fmt.Sprint("sticky=", sticky), func(t *testing.T) {
			t.Parallel()
			loggers := startLoggers(t, 3)
			var flags []string
			if sticky {
				flags = []string{"--sticky"}
			}
			balance := startBalance(t, loggers, flags...)
			// at this rate there is more than one batch
			runTool(t, nil, "replay", filepath.Join(recording, "log-writes.bin"), "--push",
				balance.Endpoint("PULL"), "--rate", "2000")
			balance.Terminate()
			sum := balance.summary("balance")
			if sum["received"] == 0 || sum["sent"] != sum["received"] || sum["dropped"] != 0 {
				t.Errorf("%v", sum)
			}
			got := map[string][]string{}
			busy := 0
			for _, l := range loggers {
				if received(l) > 0 {
					busy++
				}
				for name, content := range logs(t, l.dir, false) {
					if sticky {
						if len(got[name]) > 0 {
							t.Errorf("two loggers have written %s", name)
						}
						if content != want[name] {
							t.Errorf("%s differs from Zeek's: %s", name,
								firstDifference(content, want[name]))
						}
					}
					got[name] = append(got[name], withoutHeader(content)...)
				}
			}
			if busy < 2 {
				t.Errorf("%d loggers received messages", busy)
			}
			for name, content := range want {
				g, w := got[name], withoutHeader(content)
				slices.Sort(g)
				slices.Sort(w)
				if !slices.Equal(g, w) {
					t.Errorf("%s: %d records, want the %d of Zeek", name, len(g), len(w))
				}
				delete(got, name)
			}
			for name := range got {
				t.Errorf("Zeek's logger has not written %s", name)
			}
		})
	}
}

// withoutHeader returns the records of a TSV log.
func withoutHeader(content string) (lines []string) {
	for line := range strings.Lines(content) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// One of three loggers stops reading under load and is then killed. The nodes do not notice.
// Messages that wait for that logger go to the others; only those that were sent to it are missing.
func TestBalanceKilledLogger(t *testing.T) {
	t.Parallel()
	loggers := startLoggers(t, 3)
	balance := startBalance(t, loggers, "--sndhwm", "100")
	ns := startNodes(t, 2, balance.Endpoint("PULL"))
	ns.await(1000)
	victim := loggers[1]
	victim.Signal(syscall.SIGSTOP)
	ns.await(20000)
	var sent uint64
	still := 0
	testkit.Eventually(t, "a full queue and nothing more going out", func() bool {
		l := balance.status().Balance.Loggers[1]
		if still++; l.Queue < 100 || l.Sent != sent {
			still = 0
		}
		sent = l.Sent
		return still == 10
	})
	victim.Signal(syscall.SIGKILL)
	testkit.Eventually(t, "that the balancer has seen it",
		func() bool { return connected(balance) == 2 })
	ns.await(1000)
	n := ns.finish()
	testkit.Eventually(t, "everything sent", func() bool {
		st := balance.status().Balance
		return st.Pull.Received.Messages == n && st.Homeless == 0 &&
			st.Loggers[0].Queue+st.Loggers[2].Queue == 0
	})
	st := balance.status().Balance
	dead := st.Loggers[1]
	if dead.Connected || dead.Moved == 0 || dead.Queue != 0 {
		t.Errorf("%+v", dead)
	}
	label := `{logger="` + victim.to + `"}`
	for series, want := range map[string]uint64{
		"zmtpd_balance_logger_up":                      0,
		"zmtpd_balance_logger_connections_total":       1,
		"zmtpd_balance_logger_sent_messages_total":     dead.Sent,
		"zmtpd_balance_logger_moved_messages_total":    dead.Moved,
		"zmtpd_balance_logger_doubtful_messages_total": dead.Doubtful,
		"zmtpd_balance_logger_queue_messages":          0,
	} {
		if got := balance.Metric(series + label); got != float64(want) {
			t.Errorf("%s is %v, want %d", series, got, want)
		}
	}
	balance.Terminate()
	if got := received(loggers[0], loggers[2]) + dead.Sent; got != n {
		t.Errorf("%d messages reached living loggers or were sent to the dead one, want %d", got, n)
	}
	if sum := balance.summary("balance"); sum["received"] != n || sum["dropped"] != 0 ||
		sum["doubtful"] != dead.Doubtful {
		t.Errorf("%v", sum)
	}
}

// While no logger is connected, the nodes wait and the balancer is not ready. Nothing is lost when
// loggers connect, or connect again.
func TestBalanceWithoutLoggers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	endpoints := []string{"ipc://" + filepath.Join(dir, "a"), "ipc://" + filepath.Join(dir, "b")}
	balance := start(t, nil, "balance", "--listen", "tcp://127.0.0.1:*", "--http", "127.0.0.1:0",
		"--to", endpoints[0], "--to", endpoints[1])
	testkit.Eventually(t, "a listener",
		func() bool { return strings.Contains(balance.Stderr.String(), "socket=HTTP") })
	notReady := func() bool {
		status, _ := balance.Get("/readyz")
		return status == http.StatusServiceUnavailable && !balance.status().Ready &&
			balance.Metric("zmtpd_ready") == 0
	}
	if !notReady() {
		t.Error("ready without a logger")
	}
	ns := startNodes(t, 2, balance.Endpoint("PULL"))
	waits := func() bool { return balance.Metric("zmtpd_balance_waiting_nodes") == 2 }
	testkit.Eventually(t, "both nodes to wait", waits)

	var loggers []*loggerProcess
	for _, e := range endpoints {
		loggers = append(loggers, startLogger(t, e))
	}
	testkit.Eventually(t, "both loggers", func() bool { return connected(balance) == 2 })
	ns.await(5000)
	if notReady() {
		t.Error("not ready with two loggers")
	}
	for _, l := range loggers { // in order, so that they write what was sent to them
		l.Terminate()
	}
	testkit.Eventually(t, "that both are gone", func() bool { return connected(balance) == 0 })
	testkit.Eventually(t, "both nodes to wait", waits)
	if !notReady() {
		t.Error("ready without a logger")
	}
	for _, e := range endpoints {
		loggers = append(loggers, startLogger(t, e))
	}
	ns.await(5000)
	n := ns.finish()
	testkit.Eventually(t, "everything received",
		func() bool { return balance.status().Balance.Pull.Received.Messages == n })
	balance.Terminate()
	got := received(loggers[2:]...)
	for _, l := range loggers[:2] {
		got += l.summary("logger")["received"]
	}
	sum := balance.summary("balance")
	if sum["received"] != n || sum["dropped"] != 0 {
		t.Errorf("%v, the nodes have sent %d", sum, n)
	}
	// Messages on their way are not missing either: the loggers read to the end before they ended.
	if got != n {
		t.Errorf("the loggers received %d messages of %d", got, n)
	}
}

// After SIGTERM under load, the loggers have everything that the balancer received.
func TestBalanceTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	for _, sticky := range []bool{false, true} {
		t.Run(fmt.Sprint("sticky=", sticky), func(t *testing.T) {
			t.Parallel()
			loggers := startLoggers(t, 3)
			balance := startBalance(t, loggers, fmt.Sprint("--sticky=", sticky),
				"--shutdown-timeout", "60s")
			ns := startNodes(t, 4, balance.Endpoint("PULL"))
			ns.await(5000)
			balance.Signal(syscall.SIGTERM) // the balancer cuts the nodes off after 5 s
			ns.slow.Store(true)
			if status := balance.Wait(); status != 0 {
				t.Errorf("exit status %d", status)
			}
			sum := balance.summary("balance")
			if sum["received"] < 4000 || sum["sent"] != sum["received"] || sum["dropped"] != 0 {
				t.Errorf("%v", sum)
			}
			if got := received(loggers...); got != sum["received"] {
				t.Errorf("the loggers received %d messages of %d", got, sum["received"])
			}
			if !sticky {
				return
			}
			seen := map[string]string{}
			for _, l := range loggers {
				for name := range logs(t, l.dir, false) {
					if other, ok := seen[name]; ok {
						t.Errorf("%s is in %s and %s", name, other, l.dir)
					}
					seen[name] = l.dir
				}
			}
		})
	}
}

// If no logger takes messages within --shutdown-timeout, the balancer counts the rest as lost and
// ends with exit status 1.
func TestBalanceTerminatedWithoutRoom(t *testing.T) {
	t.Parallel()
	loggers := startLoggers(t, 2)
	balance := startBalance(t, loggers, "--sndhwm", "1000", "--shutdown-timeout", "500ms")
	// More data wait than the kernel may have room for when it reports that it has none: Linux
	// reports that while less than a third is free.
	ns := startNodes(t, 2, balance.Endpoint("PULL"), strings.Repeat("x", 16<<10))
	ns.await(100)
	for _, l := range loggers {
		l.Signal(syscall.SIGSTOP)
	}
	// On a busy machine nodes wait before the loggers' kernels are full. So wait until nothing has
	// moved for a while.
	var received uint64
	since := time.Now()
	testkit.Eventually(t, "both nodes to wait for good", func() bool {
		if n := balance.status().Balance.Pull.Received.Messages; n != received ||
			balance.Metric("zmtpd_balance_waiting_nodes") != 2 {
			received, since = n, time.Now()
		}
		return time.Since(since) > time.Second
	})
	balance.Signal(syscall.SIGTERM)
	if status := balance.Wait(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	sum := balance.summary("balance")
	if sum["dropped"] == 0 || sum["received"] != sum["sent"]+sum["dropped"] {
		t.Errorf("%v", sum)
	}
	if want := fmt.Sprintf("%d log messages that were received could not be delivered to a logger",
		sum["dropped"]); !strings.Contains(balance.Stderr.String(), want) {
		t.Errorf("standard error does not say: %s", want)
	}
	for _, l := range loggers {
		l.Signal(syscall.SIGCONT)
	}
}

// Both sides are encrypted, with keys of their own or with Zeek's.
func TestBalanceEncrypted(t *testing.T) {
	t.Parallel()
	t.Run("flags", func(t *testing.T) {
		forLoggers, forNodes := newKeyFolder(t), newKeyFolder(t)
		loggerKey, nodesKey := forLoggers.addServer("loggers"), forNodes.addServer("balancer")
		dir := t.TempDir()
		runTool(t, nil, "keygen", "--dir", dir, "--name", "balancer")
		c, err := curve.ReadCertificate(filepath.Join(dir, "balancer.key"))
		if err != nil {
			t.Fatal(err)
		}
		forLoggers.add("balancer", c.Public)
		nodeKey, nodeSecret := curve.GenerateKeyPair()
		forNodes.add("node", nodeKey)

		loggers := startLoggers(t, 2, forLoggers.flags()...)
		balance := startBalance(t, loggers,
			append(forNodes.flags(), "--logger-curve-server-key", loggerKey.String(),
				"--logger-curve-secret-key-file", filepath.Join(dir, "balancer.key_secret"))...)
		push := zmtp.NewPush(client(t, nodesKey, nodeSecret), zmtp.PushOptions{})
		t.Cleanup(func() { push.Close() })
		if err := push.Connect(balance.Endpoint("PULL")); err != nil {
			t.Fatal(err)
		}
		const n = 500
		for i := range n {
			if err := push.Send(testkit.Context(t),
				logMessage(t, "node", "conn", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Eventually(t, "all messages",
			func() bool { return balance.status().Balance.Pull.Received.Messages == n })
		if node := balance.status().Balance.Pull.Peers[0]; node.Node != "node" ||
			node.Client != "node" {
			t.Errorf("%+v", node)
		}
		balance.Terminate()
		if got := received(loggers...); got != n {
			t.Errorf("the loggers received %d messages of %d", got, n)
		}
	})
	t.Run("a logger that does not know the key", func(t *testing.T) {
		forLoggers := newKeyFolder(t)
		loggerKey := forLoggers.addServer("loggers")
		somebody, _ := curve.GenerateKeyPair()
		forLoggers.add("somebody else", somebody)
		dir := t.TempDir()
		runTool(t, nil, "keygen", "--dir", dir, "--name", "balancer")
		logger := startLogger(t, "", forLoggers.flags()...)
		balance := start(t, nil, "balance", "--listen", "tcp://127.0.0.1:*", "--http",
			"127.0.0.1:0", "--to", logger.to,
			"--logger-curve-server-key", loggerKey.String(), "--logger-curve-secret-key-file",
			filepath.Join(dir, "balancer.key_secret"))
		testkit.Eventually(t, "a refusal",
			func() bool { return strings.Contains(balance.Stderr.String(), "handshake failed") })
		// When the logger knows the key, the balancer connects: it has not given up.
		c, err := curve.ReadCertificate(filepath.Join(dir, "balancer.key"))
		if err != nil {
			t.Fatal(err)
		}
		forLoggers.add("balancer", c.Public)
		testkit.Eventually(t, "the logger", func() bool { return connected(balance) == 1 })
	})
}

// A logger that does not answer counts as lost after --logger-timeout.
func TestBalanceLoggerTimeout(t *testing.T) {
	t.Parallel()
	loggers := startLoggers(t, 2)
	balance := startBalance(t, loggers, "--logger-timeout", "200ms", "--sticky")
	loggers[0].Signal(syscall.SIGSTOP)
	testkit.Eventually(t, "one logger",
		func() bool {
			return balance.status().Balance.Loggers[0].Connections == 1 &&
				connected(balance) == 1
		})
	if err := errors.Join(loggers[0].Cmd.Process.Signal(syscall.SIGCONT)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "both loggers", func() bool { return connected(balance) == 2 })
	testkit.Eventually(t, "the log has these events", func() bool { // status is ahead of the log
		text := balance.Stderr.String()
		return strings.Contains(text, "logger lost") &&
			strings.Count(text, "logger connected") == 3
	})
	if balance.Signal(os.Interrupt); balance.Wait() != 0 {
		t.Error("the exit status is not 0")
	}
}
