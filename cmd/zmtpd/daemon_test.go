package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/zmtptest"
)

// logMessage returns a log message of one record, a string in one column.
func logMessage(t testing.TB, node, path, text string) zmtp.Message {
	t.Helper()
	schema := &zeek.Schema{Stream: "Test::LOG", Writer: "Log::WRITER_ASCII", Filter: "default",
		Path:   path,
		Fields: []zeek.Field{{Name: "text", Type: zeek.TypeString}}}
	batch, err := zeek.AppendBatch(nil, schema,
		[][]zeek.Value{{{Type: zeek.TypeString, Text: text}}})
	if err != nil {
		t.Fatal(err)
	}
	return zmtp.NewMessage([]byte("log-write"), []byte(node), []byte(zeek.SerializerName), batch)
}

// connect returns a PUSH socket that is connected to endpoint.
func connect(t testing.TB, endpoint string) *zmtp.Push {
	t.Helper()
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	t.Cleanup(func() { push.Close() })
	if err := push.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	return push
}

// records returns the lines of a log without its header.
func records(t testing.TB, file string) (lines []string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func TestTerminatedUnderLoadLoggerLosesNothing(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			logger := startDaemon(t, "logger", "--listen", "tcp://127.0.0.1:*", "--dir", dir,
				"--shutdown-timeout", "60s")
			endpoint := logger.Endpoint("PULL")

			// Four senders send numbered records without end. The logger cuts them off after 5 s,
			// so they become slow at the end.
			const senders = 4
			ctx, stop := context.WithCancel(t.Context())
			var sending sync.WaitGroup
			defer sending.Wait()
			defer stop()
			for n := range senders {
				push := connect(t, endpoint)
				sending.Go(func() {
					node := fmt.Sprint("node-", n)
					for i := 0; ; i++ {
						if push.Send(ctx, logMessage(t, node, node, fmt.Sprint(i))) != nil {
							return
						}
						if i > 3000 {
							time.Sleep(time.Millisecond)
						}
					}
				})
			}
			testkit.Eventually(t, "a load", func() bool {
				s := logger.status()
				return len(s.Logger.Pull.Peers) == senders && s.Logger.Received.Messages > 5000
			})
			logger.Signal(signal)
			if status := logger.Wait(); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}

			total := uint64(0)
			for n := range senders {
				node := fmt.Sprint("node-", n)
				for i, line := range records(t, filepath.Join(dir, node+".log")) {
					if line != fmt.Sprint(i) {
						t.Fatalf("%s: record %d is %q: one is missing, there twice or out of order",
							node, i, line)
					}
					total++
				}
			}
			s := logger.summary("logger")
			if total != s["received"] || s["refused"] != 0 || s["files.dropped"] != 0 ||
				s["files.queued"] != 0 {
				t.Errorf("%d records in the logs, but the logger says %v", total, s)
			}
		})
	}
}

// The daemon counts the reason of each malformed input, and other peers do not notice it.
func TestDaemonSurvivesMalformedInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startDaemon(t, "up", "--listen", "tcp://127.0.0.1:*", "--xsub", "tcp://127.0.0.1:*",
		"--xpub", "tcp://127.0.0.1:*",
		"--dir", dir, "--max-message-size", "1MiB", "--handshake-timeout", "500ms")
	good := connect(t, d.Endpoint("PULL"))
	written := 0
	serves := func(after string) {
		t.Helper()
		if err := good.Send(testkit.Context(t), logMessage(t, "good", "good", after)); err != nil {
			t.Fatal(err)
		}
		written++
		testkit.Eventually(t, "a good message after "+after, func() bool {
			return d.Metric(`zmtpd_logger_received_messages_total`) >= float64(written)
		})
	}
	serves("nothing")

	greeting := func(mechanism string) []byte {
		g := make([]byte, 64)
		g[0], g[9], g[10], g[11] = 0xff, 0x7f, 3, 1
		copy(g[12:], mechanism)
		return g
	}
	ready := func(socket string) []byte {
		return zmtptest.Bytes(fmt.Sprintf("04 %02x 05 5245414459 0b %x 000000%02x %x",
			22+len(socket), "Socket-Type", len(socket), socket))
	}
	connections := []struct {
		name, reason string
		failures     string // metric that counts it
		send         []byte
	}{
		{"HTTP", "not_zmtp", "handshake_failures", []byte("GET / HTTP/1.1\r\n\r\n")},
		{"another mechanism", "mechanism_mismatch", "handshake_failures", greeting("PLAIN")},
		{"ZMTP 2.0", "unsupported_version", "handshake_failures",
			zmtptest.Bytes("ff 0000000000000001 7f 01 08 00 00")},
		{"a message in the handshake", "unexpected_command", "handshake_failures",
			append(greeting("NULL"), 0, 1, 'x')},
		{"nothing more", "handshake_timeout", "handshake_failures", greeting("NULL")},
		{"a socket type that does not fit", "socket_type_mismatch", "handshake_failures",
			append(greeting("NULL"), ready("REP")...)},
		{"reserved flags", "malformed_frame", "closed_connections",
			append(append(greeting("NULL"), ready("PUSH")...), 0xf8, 0)},
		{"a size of 2^62", "message_too_large", "closed_connections",
			append(append(greeting("NULL"), ready("PUSH")...), 2, 0x40, 0, 0, 0, 0, 0, 0, 0)},
		{"more than the limit", "message_too_large", "closed_connections",
			append(append(greeting("NULL"), ready("PUSH")...), 2, 0, 0, 0, 0, 0, 0x10, 0, 1)},
	}
	for _, c := range connections {
		for _, socket := range []string{"PULL", "XSUB", "XPUB"} {
			if socket != "PULL" && c.failures != "handshake_failures" {
				continue
			}
			series := fmt.Sprintf(`zmtpd_socket_%s_total{reason=%q,socket=%q}`, c.failures,
				c.reason, strings.ToLower(socket))
			count := func() float64 { return d.Metric(series) }
			before := count()
			conn, err := net.Dial("tcp", strings.TrimPrefix(d.Endpoint(socket), "tcp://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(c.send); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, c.name+" is counted in "+series,
				func() bool { return count() == before+1 })
		}
		serves(c.name)
	}

	// messages that are not log batches
	batch := logMessage(t, "bad", "bad", "x").Part(3)
	messages := []struct {
		name, reason string
		parts        []string
	}{
		{"one part", "parts", []string{"x"}},
		{"five parts", "parts", []string{"log-write", "bad", zeek.SerializerName, string(batch),
			""}},
		{"another serializer", "serializer",
			[]string{"log-write", "bad", "broker-bin-v1", string(batch)}},
		{"an empty batch", "truncated", []string{"log-write", "bad", zeek.SerializerName, ""}},
		{"half a batch", "", []string{"log-write", "bad", zeek.SerializerName,
			string(batch[:len(batch)/2])}},
		{"a path that leaves the folder", "path", nil},
	}
	for _, m := range messages {
		parts := zmtp.NewMessageString(m.parts...)
		if m.parts == nil {
			parts = logMessage(t, "bad", "../../outside", "x")
		}
		dropped := func() (n float64) {
			s := d.status().Logger
			for _, l := range s.Refused {
				n += float64(l.Messages)
			}
			for _, l := range s.sink(t, sinkFiles).Dropped {
				n += float64(l.Messages)
			}
			return n
		}
		before := dropped()
		if err := good.Send(testkit.Context(t), parts); err != nil {
			t.Fatal(err)
		}
		written++
		testkit.Eventually(t, m.name+" is dropped", func() bool { return dropped() == before+1 })
		if m.reason != "" && d.Metric(fmt.Sprintf(`zmtpd_logger_refused_messages_total{reason=%q}`,
			m.reason))+
			d.Metric(fmt.Sprintf(`zmtpd_sink_dropped_messages_total{reason=%q,sink="files"}`,
				m.reason)) < 1 {
			t.Errorf("%s: reason %s was not counted", m.name, m.reason)
		}
		serves(m.name)
	}

	d.Terminate()
	if got, want := len(records(t, filepath.Join(dir, "good.log"))),
		len(connections)+len(messages)+1; got != want {
		t.Errorf("%d good records in the log, want %d", got, want)
	}
	if entries, _ := filepath.Glob(filepath.Join(dir, "*")); len(entries) != 1 {
		t.Errorf("files %q, want good.log only", entries)
	}
}

func TestUpForwardsAndLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startDaemon(t, "up", "--listen", "tcp://127.0.0.1:*", "--listen", "tcp://127.0.0.1:*",
		"--xsub", "tcp://127.0.0.1:*", "--xpub", "tcp://127.0.0.1:*", "--dir", dir)
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/status"} {
		if status, body := d.Get(path); status != http.StatusOK || body == "" {
			t.Errorf("%s: status %d, %q", path, status, body)
		}
	}
	if status, _ := d.Get("/nothing"); status != http.StatusNotFound {
		t.Errorf("/nothing: status %d", status)
	}

	// Through the broker: 2 messages of 2 parts and one subscription.
	sub := start(t, nil, "sub", "--connect", d.Endpoint("XPUB"), "--topic",
		"zeek.cluster.nodeid.node-7.", "--count", "2")
	testkit.Eventually(t, "a subscription",
		func() bool { return d.Metric("zmtpd_forwarder_topics") == 1 })
	s := d.status()
	if peers := s.Forwarder.XPub.Peers; len(peers) != 1 || peers[0].Node != "node-7" ||
		peers[0].Type != "SUB" || peers[0].Topics != 1 {
		t.Errorf("subscribers %+v", peers)
	}
	runTool(t,
		strings.NewReader("zeek.cluster.nodeid.node-7.\tone\nother\ttopic\nzeek.cluster.nodeid.node-7.\ttwo\n"),
		"pub", "--connect", d.Endpoint("XSUB"))
	if status := sub.Wait(); status != 0 {
		t.Fatalf("sub: exit status %d", status)
	}
	if got, want := sub.Stdout.String(),
		"zeek.cluster.nodeid.node-7.\tone\nzeek.cluster.nodeid.node-7.\ttwo\n"; got != want {
		t.Errorf("sub printed %q, want %q", got, want)
	}
	// Zeek counts parts: two messages of two. The third message had no subscriber, so pub did not
	// send it.
	for series, want := range map[string]float64{
		"zeek_cluster_zeromq_proxy_frontend_messages_received_total": 4,
		"zeek_cluster_zeromq_proxy_frontend_bytes_received_total":    2*27 + 6,
		"zeek_cluster_zeromq_proxy_backend_messages_sent_total":      4,
		"zeek_cluster_zeromq_proxy_backend_bytes_sent_total":         2*27 + 6,
	} {
		if got := d.Metric(series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	testkit.Eventually(t, "the end of the subscription",
		func() bool { return d.Metric("zmtpd_forwarder_topics") == 0 })
	if got := d.Metric("zeek_cluster_zeromq_proxy_backend_messages_received_total"); got != 2 {
		t.Errorf("%v parts from subscribers, want a subscription and its cancellation", got)
	}

	// Through the logger, at both of its endpoints.
	for _, e := range d.status().Endpoints {
		if e.Socket == "PULL" {
			message := logMessage(t, "node-7", "test", e.Endpoint)
			if err := connect(t, e.Endpoint).Send(testkit.Context(t), message); err != nil {
				t.Fatal(err)
			}
		}
	}
	testkit.Eventually(t, "two records written", func() bool {
		s := d.status()
		return s.Logger.sink(t, sinkFiles).Written.Records == 2
	})
	if got := d.Metric(`zmtpd_sink_written_records_total{path="test",sink="files"}`); got != 2 {
		t.Errorf("%v records of path test", got)
	}
	s = d.status()
	for _, p := range s.Logger.Pull.Peers {
		if p.Node != "node-7" || p.Type != "PUSH" || p.Received.Messages != 1 {
			t.Errorf("peer %+v", p)
		}
	}
	if len(s.Logger.Pull.Peers) != 2 || len(s.Endpoints) != 5 || !s.Ready ||
		s.Logger.Files.Open != 1 {
		t.Errorf("status %+v", s)
	}

	d.Terminate()
	if got := records(t, filepath.Join(dir, "test.log")); len(got) != 2 {
		t.Errorf("records %q", got)
	}
	if s := d.summary("forwarder"); s["received"] != 2 || s["sent"] != 2 {
		t.Errorf("summary %v", s)
	}
}

// The first signal leaves a stalled subscriber --shutdown-timeout, the second signal does not.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "forwarder", "--xsub", "tcp://127.0.0.1:*", "--xpub", "tcp://127.0.0.1:*",
		"--shutdown-timeout", "10m")
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.Endpoint("XPUB"), "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	stalled := zmtptest.NewRaw(t, conn)
	greeting := make([]byte, 64)
	greeting[0], greeting[9], greeting[10] = 0xff, 0x7f, 3
	copy(greeting[12:], "NULL")
	stalled.Send(greeting)
	// READY, Socket-Type SUB
	stalled.SendHex("04 19 05 5245414459 0b 536f636b65742d54797065 00000003 535542")
	// The peer subscribes to everything and does not read.
	stalled.SendHex("00 01 01")
	testkit.Eventually(t, "the subscription",
		func() bool { return d.Metric("zmtpd_forwarder_topics") == 1 })

	pub := start(t, bytes.NewReader(bytes.Repeat([]byte(strings.Repeat("x", 1<<16)+"\n"), 500)),
		"pub", "--connect", d.Endpoint("XSUB"))
	testkit.Eventually(t, "a queue",
		func() bool { return d.Metric(`zmtpd_socket_send_queue_messages{socket="xpub"}`) > 100 })
	pub.Cmd.Process.Kill()
	d.Signal(syscall.SIGTERM)
	testkit.Eventually(t, "the shutdown",
		func() bool { return strings.Contains(d.Stderr.String(), "shutting down") })
	if status, _ := d.Get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz has status %d while it shuts down", status)
	}
	if status, _ := d.Get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz has status %d while it shuts down", status)
	}
	d.Signal(syscall.SIGTERM)
	if status := d.Wait(); status != 128+int(syscall.SIGTERM) {
		t.Errorf("exit status %d, want that of an end by SIGTERM", status)
	}
}

func TestPortInUseNamesFlagAndAddress(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	free := []string{"--http", "", "--listen", "tcp://127.0.0.1:*", "--xsub", "tcp://127.0.0.1:*",
		"--xpub", "tcp://127.0.0.1:*", "--dir", t.TempDir()}
	for flag, address := range map[string]string{
		"--http": taken, "--listen": "tcp://" + taken,
		"--xsub": "tcp://" + taken, "--xpub": "tcp://" + taken,
	} {
		args := append([]string{"up"}, free...)
		for i := range args {
			if args[i] == flag {
				args[i+1] = address
			}
		}
		status, _, stderr := runHere(t, nil, args...)
		if status != 1 {
			t.Errorf("%s: exit status %d, want 1", flag, status)
		}
		if want := fmt.Sprintf("zmtpd: %s %s: another process listens there already", flag,
			address); !strings.Contains(stderr, want) {
			t.Errorf("%s: stderr %q, want %q", flag, stderr, want)
		}
	}
}

// Every line of the log is JSON, and the endpoints are logged at every level.
func TestLogFormatJSON(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "logger", "--listen", "tcp://127.0.0.1:*", "--http", "127.0.0.1:0", "--dir",
		t.TempDir(), "--log-format", "json", "--log-level", "error")
	testkit.Eventually(t, "two endpoints",
		func() bool { return strings.Count(p.Stderr.String(), `"msg":"listening"`) == 2 })
	p.Terminate()
	sockets := map[string]bool{}
	for line := range strings.Lines(p.Stderr.String()) {
		var entry struct {
			Time                     time.Time
			Level, Msg, Flag, Socket string
			Endpoint                 string
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		sockets[entry.Socket] = entry.Flag != "" && entry.Endpoint != "" && !entry.Time.IsZero()
	}
	if !sockets["PULL"] || !sockets["HTTP"] {
		t.Errorf("log\n%s", p.Stderr.String())
	}
}
