package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zmtpd/capture"
	"zmtpd/capture/rewrite"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

func captureFile(name string) string {
	return filepath.Join("..", "..", "capture", "testdata", name+".pcap.gz")
}

// recordingAsCapture makes a capture of a PUSH socket that sends the messages of a recording, one
// in each interval.
func recordingAsCapture(t *testing.T, messages [][][]byte, interval time.Duration) string {
	t.Helper()
	var b bytes.Buffer
	w, err := rewrite.NewNull(&b)
	if err != nil {
		t.Fatal(err)
	}
	s := &capture.Session{ID: 1, Client: netip.MustParseAddrPort("192.0.2.1:40000"),
		Server: netip.MustParseAddrPort("192.0.2.2:5557")}
	ev := capture.Event{Session: s, Time: time.Unix(1700000000, 0)}
	write := func(kind capture.Kind, from capture.Side) {
		ev.Kind, ev.From = kind, from
		ev.Time = ev.Time.Add(interval)
		if err := w.Write(&ev); err != nil {
			t.Fatal(err)
		}
	}
	for from, socket := range map[capture.Side]wire.SocketType{capture.Client: wire.PUSH,
		capture.Server: wire.PULL} {
		ev.Metadata = wire.Metadata{{Name: wire.PropSocketType, Value: []byte(socket)}}
		write(capture.Metadata, from)
	}
	for _, parts := range messages {
		ev.Message = zmtp.NewMessage(parts...)
		write(capture.Message, capture.Client)
	}
	write(capture.Closed, capture.NoSide)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "capture.pcapng")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// The log files that are made of a capture are those that Zeek's logger wrote.
func TestCaptureLogs(t *testing.T) {
	t.Parallel()
	dir := testkit.Unpack(t, "cluster-logs")
	recorded, err := os.ReadFile(filepath.Join(dir, "log-writes.bin"))
	if err != nil {
		t.Fatal(err)
	}
	name, out := recordingAsCapture(t, testkit.Recorded(t, "log-writes.bin", recorded),
		time.Microsecond), t.TempDir()
	runTool(t, nil, "capture", "read", "-q", "--logs", out, name)
	got, want := logs(t, out, false), logs(t, filepath.Join(dir, "tsv"), true)
	delete(got, ".zmtpd.lock")
	for file, text := range want {
		if got[file] != text {
			t.Errorf("%s differs: %d bytes, want %d", file, len(got[file]), len(text))
		}
	}
	if len(want) < 30 {
		t.Errorf("%d logs", len(want))
	}
}

// Of a recorded cluster, the logs are those of its logger, but for what that logged itself.
func TestCaptureClusterLogs(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	runTool(t, nil, "capture", "read", "-q", "--logs", out, captureFile("cluster"))
	got := logs(t, out, false)
	want := logs(t, filepath.Join("..", "..", "capture", "testdata", "cluster.logs"), false)
	same := 0
	for file, text := range want {
		switch file {
		case "cluster.log", "reporter.log", "stats.log": // with records of the logger
			continue
		}
		if same++; got[file] != text {
			t.Errorf("%s:\n%s\nwant\n%s", file, got[file], text)
		}
	}
	if same != 7 {
		t.Errorf("%d logs", same)
	}
}

// captureLines returns the objects that zmtpd capture read prints.
func captureLines(t *testing.T, args ...string) (lines []map[string]any) {
	t.Helper()
	status, out, stderr := runHere(t, nil,
		append([]string{"capture", "read", "--format", "json"}, args...)...)
	if status != 0 {
		t.Fatalf("%q: exit status %d: %s", args, status, stderr)
	}
	for line := range strings.Lines(out) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		lines = append(lines, o)
	}
	return lines
}

func TestCaptureFilters(t *testing.T) {
	t.Parallel()
	cluster, mix := captureFile("cluster"), captureFile("libzmq-mix")
	for _, test := range []struct {
		name  string
		args  []string
		lines int
		field string
		value any
	}{
		{"path", []string{cluster, "--path", "conn", "--path", "none"}, 2, "path", "conn"},
		{"event", []string{cluster, "--event", "Cluster::hello", "--address", ":15556"}, 17,
			"event", "Cluster::hello"},
		{"topic", []string{cluster, "--topic", "zeek.cluster.node.worker-1.", "--socket", "xpub",
			"--address", "127.0.0.1:15556"}, 8, "topic", "zeek.cluster.node.worker-1."},
		{"command", []string{mix, "--command", "subscribe"}, 2, "command", "SUBSCRIBE"},
		// Opened and the greetings come before the types are known.
		{"socket", []string{mix, "--socket", "ROUTER"}, 6, "", nil},
		{"address", []string{mix, "--address", "192.0.2.0/24"}, 0, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			lines := captureLines(t, test.args...)
			if len(lines) != test.lines {
				t.Errorf("%d lines, want %d: %v", len(lines), test.lines, lines)
			}
			for _, l := range lines {
				if test.value != nil && l[test.field] != test.value {
					t.Errorf("%v", l)
				}
			}
		})
	}
	lines := captureLines(t, cluster, "--path", "http")
	rows, ok := lines[0]["rows"].([]any)
	if !ok || len(rows) != 1 || rows[0].(map[string]any)["method"] != "GET" ||
		lines[0]["node"] != "worker-1" {
		t.Errorf("%v", lines[0])
	}
}

// The summary of a cluster, and the reason why a handshake failed.
func TestCaptureSummary(t *testing.T) {
	t.Parallel()
	lines := captureLines(t, "-q", "--summary", captureFile("cluster"))
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	sum := lines[0]
	broker := sum["brokers"].([]any)[0].(map[string]any)
	if sum["zmtp_sessions"] != 14.0 || len(sum["membership"].([]any)) != 25 ||
		broker["in"] != 36.0 || broker["lost"] != 0.0 || broker["latency_max"].(float64) > 0.01 {
		t.Errorf("%v", sum)
	}
	text := runTool(t, nil, "capture", "read", "--summary", captureFile("cluster"),
		captureFile("libzmq-mix"))
	for _, want := range []string{"22 ZMTP sessions", "worker-1 got hello from proxy",
		"36 events in, 36 out, 0 lost", "command ERROR \"reason 400\"", "user zeek",
		`message "hi" "there"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%.3000s", want, text)
		}
	}
	if strings.Contains(text, "secret") {
		t.Error("a password is printed")
	}
	table := runTool(t, nil, "capture", "read", "--format", "tsv", captureFile("libzmq-mix"))
	for line := range strings.Lines(table) {
		if n := strings.Count(line, "\t"); n != 10 {
			t.Errorf("%d tabs: %q", n, line)
		}
	}
}

// The packets of selected sessions, and sessions written anew, say the same.
func TestCaptureWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pushed := filepath.Join(dir, "pushed.pcapng")
	status, _, stderr := runHere(t, nil, "capture", "read", "-q", "--socket", "PUSH", "--write",
		pushed, captureFile("cluster"))
	if status != 0 || !strings.Contains(stderr, "packets to") {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	want := captureLines(t, captureFile("cluster"), "--address", ":15557")
	got := captureLines(t, pushed)
	compare := func(got, want []map[string]any) {
		t.Helper()
		messages := func(lines []map[string]any) (out []string) {
			for _, l := range lines {
				switch l["kind"] {
				case "log", "event", "message", "subscribe", "unsubscribe", "metadata":
					delete(l, "session")
					b, _ := json.Marshal(l)
					out = append(out, string(b))
				}
			}
			return out
		}
		g, w := messages(got), messages(want)
		if len(g) != len(w) || len(w) == 0 {
			t.Fatalf("%d messages, want %d", len(g), len(w))
		}
		for i := range w {
			if g[i] != w[i] {
				t.Fatalf("%d: %s\nwant %s", i, g[i], w[i])
			}
		}
	}
	compare(got, want)
	null := filepath.Join(dir, "null.pcapng")
	runTool(t, nil, "capture", "read", "-q", "--write-null", null, captureFile("libzmq-mix"))
	want = captureLines(t, captureFile("libzmq-mix"), "--address", ":16006", "--address", ":16002")
	compare(captureLines(t, null, "--address", ":16006", "--address", ":16002"), want)
	// An encrypted capture.
	encrypted := filepath.Join("..", "..", "capture", "testdata", "pushed-curve")
	runTool(t, nil, "capture", "read", "-q", "--write-null", null, "--keylog", encrypted+".keys",
		encrypted+".pcap")
	got = captureLines(t, null)
	compare(got, captureLines(t, "--keylog", encrypted+".keys", encrypted+".pcap"))
	for _, l := range got {
		if l["kind"] == "greeting" && l["mechanism"] != "NULL" || l["kind"] == "encrypted" {
			t.Errorf("%v", l)
		}
	}
}

// A capture may come from standard input, compressed or not.
func TestCaptureStandardInput(t *testing.T) {
	t.Parallel()
	f, err := os.Open(captureFile("cluster"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	args := []string{"capture", "read", "--format", "tsv", "--summary"}
	got, want := runTool(t, f, append(args, "-")...), runTool(t, nil, append(args,
		captureFile("cluster"))...)
	if got != want || len(got) < 1000 {
		t.Errorf("%d bytes of output, want %d", len(got), len(want))
	}
	status, _, stderr := runHere(t, nil, "capture", "read", "-", "--write", "x.pcapng")
	if status != 2 || !strings.Contains(stderr, "give a file") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
}

// An output that is also an input, under any name, or two outputs in one file, are refused before
// anything is written.
func TestCaptureKeepsItsInputs(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(captureFile("libzmq-mix"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name, link, other := filepath.Join(dir, "in"), filepath.Join(dir, "link"),
		filepath.Join(dir, "out")
	writeFile(t, name, string(content))
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{name, "--write", name},
		{name, "--write", link},
		{captureFile("cluster"), link, "--write-null", name},
		{name, "--write", other, "--write-null", filepath.Join(dir, ".", "out")},
	} {
		status, _, stderr := runHere(t, nil, append([]string{"capture", "read", "-q"}, args...)...)
		if status != 2 || !strings.Contains(stderr, "name another file") {
			t.Errorf("%q: exit status %d: %s", args, status, stderr)
		}
		if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, content) {
			t.Fatalf("%q: the capture has %d of %d bytes, %v", args, len(now), len(content), err)
		}
		if _, err := os.Stat(other); err == nil {
			t.Fatalf("%q: an output was made", args)
		}
	}
}
