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
	return &loggerProcess{p, p.endpoint("PULL"), dir}
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

// connected returns how many loggers a balancer has.
func connected(p *process) (n int) {
	for _, l := range p.status().Balance.Loggers {
		if l.Connected {
			n++
		}
	}
	return n
}

// received ends loggers and returns how many messages they have received, all together.
func received(loggers ...*loggerProcess) (n uint64) {
	for _, l := range loggers {
		l.terminate()
		n += l.summary("logger")["received"]
	}
	return n
}

// nodes are PUSH sockets that send log messages, numbered by node and log, until they are stopped.
type nodes struct {
	t       *testing.T
	sent    atomic.Uint64 // taken by the sockets
	slow    atomic.Bool   // so that nodes send a message a millisecond
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

// await waits until so many more messages were sent.
func (ns *nodes) await(n uint64) {
	ns.t.Helper()
	until := ns.sent.Load() + n
	testkit.Eventually(ns.t, fmt.Sprint(n, " more messages sent"),
		func() bool { return ns.sent.Load() >= until })
}

// finish stops sending, waits until everything has gone out and returns how many messages that
// were.
func (ns *nodes) finish() uint64 {
	ns.t.Helper()
	ns.stop()
	ns.sending.Wait()
	for _, push := range ns.sockets {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := push.Shutdown(ctx)
		cancel()
		if st := push.Stats(); err != nil || st.Dropped.Total() > 0 {
			ns.t.Fatalf("a node could not send everything: %v, %v", err, st.Dropped)
		}
	}
	return ns.sent.Load()
}

// Through three loggers comes what Zeek's logger wrote: in turn the same records, and sticky the
// same files, each at one logger.
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
			// At a rate that makes more than one batch.
			tool(t, nil, "replay", filepath.Join(recording, "log-writes.bin"), "--push",
				balance.endpoint("PULL"), "--rate", "2000")
			balance.terminate()
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
							t.Errorf("%s is at two loggers", name)
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
				t.Errorf("%d loggers got anything", busy)
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
				t.Errorf("%s was not written by Zeek", name)
			}
		})
	}
}

// withoutHeader returns the lines of a log in TSV that are records.
func withoutHeader(content string) (lines []string) {
	for line := range strings.Lines(content) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// One of three loggers stops to read, and then is killed, under load: the nodes never notice, and
// what waited for it goes to the others. Only what it had been sent is missing.
func TestBalanceKilledLogger(t *testing.T) {
	t.Parallel()
	loggers := startLoggers(t, 3)
	balance := startBalance(t, loggers, "--sndhwm", "100")
	ns := startNodes(t, 2, balance.endpoint("PULL"))
	ns.await(1000)
	victim := loggers[1]
	victim.signal(syscall.SIGSTOP)
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
	victim.signal(syscall.SIGKILL)
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
		if got := balance.metric(series + label); got != float64(want) {
			t.Errorf("%s is %v, want %d", series, got, want)
		}
	}
	balance.terminate()
	if got := received(loggers[0], loggers[2]) + dead.Sent; got != n {
		t.Errorf("%d messages came to the loggers that live or had been sent to the dead one, "+
			"want %d", got, n)
	}
	if sum := balance.summary("balance"); sum["received"] != n || sum["dropped"] != 0 ||
		sum["doubtful"] != dead.Doubtful {
		t.Errorf("%v", sum)
	}
}

// While no logger is there the nodes wait, and the balancer is not ready; nothing is lost when they
// come, or come back.
func TestBalanceWithoutLoggers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	endpoints := []string{"ipc://" + filepath.Join(dir, "a"), "ipc://" + filepath.Join(dir, "b")}
	balance := start(t, nil, "balance", "--listen", "tcp://127.0.0.1:*", "--http", "127.0.0.1:0",
		"--to", endpoints[0], "--to", endpoints[1])
	testkit.Eventually(t, "a listener",
		func() bool { return strings.Contains(balance.stderr.String(), "socket=HTTP") })
	notReady := func() bool {
		status, _ := balance.get("/readyz")
		return status == http.StatusServiceUnavailable && !balance.status().Ready &&
			balance.metric("zmtpd_ready") == 0
	}
	if !notReady() {
		t.Error("ready without a logger")
	}
	ns := startNodes(t, 2, balance.endpoint("PULL"))
	waits := func() bool { return balance.metric("zmtpd_balance_waiting_nodes") == 2 }
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
	for _, l := range loggers { // in order, so that what was sent to them is written
		l.terminate()
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
	balance.terminate()
	got := received(loggers[2:]...)
	for _, l := range loggers[:2] {
		got += l.summary("logger")["received"]
	}
	sum := balance.summary("balance")
	if sum["received"] != n || sum["dropped"] != 0 {
		t.Errorf("%v, the nodes have sent %d", sum, n)
	}
	// Not even those are missing that were under way when the loggers ended: they have read to the
	// end.
	if got != n {
		t.Errorf("%d messages came of %d", got, n)
	}
}

// SIGTERM under load: all that the balancer has received is at the loggers.
func TestBalanceTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	for _, sticky := range []bool{false, true} {
		t.Run(fmt.Sprint("sticky=", sticky), func(t *testing.T) {
			t.Parallel()
			loggers := startLoggers(t, 3)
			balance := startBalance(t, loggers, fmt.Sprint("--sticky=", sticky),
				"--shutdown-timeout", "60s")
			ns := startNodes(t, 4, balance.endpoint("PULL"))
			ns.await(5000)
			balance.signal(syscall.SIGTERM) // which cuts the nodes off after 5 s
			ns.slow.Store(true)
			if status := balance.wait(); status != 0 {
				t.Errorf("exit status %d", status)
			}
			sum := balance.summary("balance")
			if sum["received"] < 4000 || sum["sent"] != sum["received"] || sum["dropped"] != 0 {
				t.Errorf("%v", sum)
			}
			if got := received(loggers...); got != sum["received"] {
				t.Errorf("%d messages came to the loggers of %d", got, sum["received"])
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

// When no logger takes anything within the time, what was received is counted, and the exit status
// says so.
func TestBalanceTerminatedWithoutRoom(t *testing.T) {
	t.Parallel()
	loggers := startLoggers(t, 2)
	balance := startBalance(t, loggers, "--sndhwm", "1000", "--shutdown-timeout", "500ms")
	// What waits is more than the room that a kernel may have left when it says that there is none:
	// Linux says so while less than a third is free.
	ns := startNodes(t, 2, balance.endpoint("PULL"), strings.Repeat("x", 16<<10))
	ns.await(100)
	for _, l := range loggers {
		l.signal(syscall.SIGSTOP)
	}
	// On a busy machine nodes wait before the loggers' kernels are full. Then nothing moves for a
	// while.
	var received uint64
	since := time.Now()
	testkit.Eventually(t, "both nodes to wait for good", func() bool {
		if n := balance.status().Balance.Pull.Received.Messages; n != received ||
			balance.metric("zmtpd_balance_waiting_nodes") != 2 {
			received, since = n, time.Now()
		}
		return time.Since(since) > time.Second
	})
	balance.signal(syscall.SIGTERM)
	if status := balance.wait(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	sum := balance.summary("balance")
	if sum["dropped"] == 0 || sum["received"] != sum["sent"]+sum["dropped"] {
		t.Errorf("%v", sum)
	}
	if want := fmt.Sprintf("%d log messages were received and not given to a logger",
		sum["dropped"]); !strings.Contains(balance.stderr.String(), want) {
		t.Errorf("it does not say: %s", want)
	}
	for _, l := range loggers {
		l.signal(syscall.SIGCONT)
	}
}

// Encrypted on both sides, with keys of its own for each, or with Zeek's.
func TestBalanceEncrypted(t *testing.T) {
	t.Parallel()
	t.Run("flags", func(t *testing.T) {
		forLoggers, forNodes := newKeyFolder(t), newKeyFolder(t)
		loggerKey, nodesKey := forLoggers.addServer("loggers"), forNodes.addServer("balancer")
		dir := t.TempDir()
		tool(t, nil, "keygen", "--dir", dir, "--name", "balancer")
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
		if err := push.Connect(balance.endpoint("PULL")); err != nil {
			t.Fatal(err)
		}
		const n = 500
		for i := range n {
			if err := push.Send(t.Context(),
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
		balance.terminate()
		if got := received(loggers...); got != n {
			t.Errorf("%d messages came of %d", got, n)
		}
	})
	t.Run("a logger that does not know the key", func(t *testing.T) {
		forLoggers := newKeyFolder(t)
		loggerKey := forLoggers.addServer("loggers")
		forLoggers.add("somebody else", func() curve.Key { k, _ := curve.GenerateKeyPair(); return k }())
		dir := t.TempDir()
		tool(t, nil, "keygen", "--dir", dir, "--name", "balancer")
		logger := startLogger(t, "", forLoggers.flags()...)
		balance := start(t, nil, "balance", "--listen", "tcp://127.0.0.1:*", "--http",
			"127.0.0.1:0", "--to", logger.to,
			"--logger-curve-server-key", loggerKey.String(), "--logger-curve-secret-key-file",
			filepath.Join(dir, "balancer.key_secret"))
		testkit.Eventually(t, "a refusal",
			func() bool { return strings.Contains(balance.stderr.String(), "handshake failed") })
		// The key is made known: the balancer has not given up.
		c, err := curve.ReadCertificate(filepath.Join(dir, "balancer.key"))
		if err != nil {
			t.Fatal(err)
		}
		forLoggers.add("balancer", c.Public)
		testkit.Eventually(t, "the logger", func() bool { return connected(balance) == 1 })
	})
}

// A logger that answers nothing counts as lost after --logger-timeout.
func TestBalanceLoggerTimeout(t *testing.T) {
	t.Parallel()
	loggers := startLoggers(t, 2)
	balance := startBalance(t, loggers, "--logger-timeout", "200ms", "--sticky")
	loggers[0].signal(syscall.SIGSTOP)
	testkit.Eventually(t, "one logger",
		func() bool {
			return balance.status().Balance.Loggers[0].Connections == 1 &&
				connected(balance) == 1
		})
	if err := errors.Join(loggers[0].cmd.Process.Signal(syscall.SIGCONT)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "both loggers", func() bool { return connected(balance) == 2 })
	if text := balance.stderr.String(); !strings.Contains(text, "logger lost") ||
		strings.Count(text, "logger connected") != 3 {
		t.Errorf("it does not tell:\n%s", text)
	}
	if balance.signal(os.Interrupt); balance.wait() != 0 {
		t.Error("no clean end")
	}
}
