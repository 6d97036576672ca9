package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/pipeline/recording"
	"zmtpd/zmtp/testkit"
)

// patience bounds every wait of a test for a process.
const patience = 60 * time.Second

// process is a running zmtpd.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout output
	stderr output
	done   chan struct{} // closed when it has ended
}

// output is what a process has written so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// ephemeral are the variables that keep a daemon from the ports of its defaults, which a zmtpd that
// runs on this machine may have.
var ephemeral = []string{
	"ZMTPD_HTTP=127.0.0.1:0", "ZMTPD_XSUB=tcp://127.0.0.1:*", "ZMTPD_XPUB=tcp://127.0.0.1:*",
	"ZMTPD_LISTEN=tcp://127.0.0.1:*",
}

// program is what starts a zmtpd, with arguments before those of zmtpd.
type program []string

// ours is the zmtpd of this build, see TestMain.
var ours = program{"zmtpd"}

// operators builds zmtpd as operators have it: the race detector multiplies memory.
func operators(t *testing.T) program {
	t.Helper()
	return program{testkit.Build(t, "zmtpd/cmd/zmtpd")}
}

// start starts ours.
func start(t testing.TB, stdin io.Reader, args ...string) *process {
	t.Helper()
	return ours.start(t, stdin, args...)
}

// startDaemon starts a daemon of ours.
func startDaemon(t testing.TB, args ...string) *process {
	t.Helper()
	return ours.startDaemon(t, args...)
}

// startUnready starts a daemon of ours that need not get ready.
func startUnready(t testing.TB, args ...string) *process {
	t.Helper()
	return ours.startUnready(t, args...)
}

// start starts zmtpd. The test kills it at its end.
func (z program) start(t testing.TB, stdin io.Reader, args ...string) *process {
	t.Helper()
	p := &process{t: t, done: make(chan struct{}),
		cmd: exec.Command(z[0], append(slices.Clone(z[1:]), args...)...)}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, &p.stdout, &p.stderr
	p.cmd.Env = append(append(testkit.Environ(), ephemeral...), "TZ=UTC")
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("zmtpd %s wrote to stderr:\n%s", args, p.stderr.String())
		}
	})
	return p
}

// startDaemon starts a daemon with ephemeral ports and waits until it is ready.
func (z program) startDaemon(t testing.TB, args ...string) *process {
	t.Helper()
	p := z.startUnready(t, args...)
	testkit.Eventually(t, "ready", func() bool {
		status, _ := p.get("/readyz")
		return status == http.StatusOK
	})
	return p
}

// startUnready starts a daemon with ephemeral ports and waits until it listens.
func (z program) startUnready(t testing.TB, args ...string) *process {
	t.Helper()
	p := z.start(t, nil, append(args, "--http", "127.0.0.1:0")...)
	testkit.Eventually(t, "listening", func() bool {
		select {
		case <-p.done:
			t.Fatalf("%s ended: %s", args, p.stderr.String())
		default:
		}
		return strings.Contains(p.stderr.String(), "socket=HTTP")
	})
	return p
}

var listeningLine = regexp.MustCompile(`msg=listening flag=(\S+) socket=(\S+) endpoint=(\S+)`)

// endpoint returns the address at which a daemon's socket listens, as its log tells.
func (p *process) endpoint(socket string) string {
	p.t.Helper()
	for _, m := range listeningLine.FindAllStringSubmatch(p.stderr.String(), -1) {
		if m[2] == socket {
			return m[3]
		}
	}
	p.t.Fatalf("no %s endpoint in\n%s", socket, p.stderr.String())
	return ""
}

// boundEndpoint waits until a tool listens and returns its address.
func (p *process) boundEndpoint() string {
	p.t.Helper()
	var endpoint string
	testkit.Eventually(p.t, "the tool to listen", func() bool {
		_, after, ok := strings.Cut(p.stderr.String(), "listening on ")
		endpoint, _, _ = strings.Cut(after, "\n")
		return ok && endpoint != ""
	})
	return endpoint
}

// get asks the daemon's HTTP server.
func (p *process) get(path string) (status int, body string) {
	p.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	r, err := client.Get(p.endpoint("HTTP") + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// status is an answer to /status.
type status struct {
	daemon.Status
	Forwarder *forwarderStatus `json:"forwarder"`
	Logger    *loggerStatus    `json:"logger"`
	Balance   *balanceStatus   `json:"balance"`
}

// status asks for /status.
func (p *process) status() (s status) {
	p.t.Helper()
	_, body := p.get("/status")
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		p.t.Fatalf("%v in\n%s", err, body)
	}
	return s
}

// metric returns the value of a series, by its name and labels as they stand in /metrics.
func (p *process) metric(series string) float64 {
	p.t.Helper()
	_, body := p.get("/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.t.Fatalf("%s: %v", line, err)
			}
			return v
		}
	}
	p.t.Fatalf("no series %s", series)
	return 0
}

// wait waits for the end and returns the exit status, -1 for an end by a signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("did not end within %v", patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// hasEnded says whether the process has ended.
func (p *process) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// terminate asks for the end, and checks that it is a clean one.
func (p *process) terminate() {
	p.t.Helper()
	p.signal(os.Interrupt)
	if status := p.wait(); status != 0 {
		p.t.Fatalf("exit status %d, want 0", status)
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// summary returns what a job said at the end.
func (p *process) summary(job string) map[string]uint64 {
	p.t.Helper()
	_, line, ok := strings.Cut(p.stderr.String(), "msg=stopped job="+job+" ")
	if !ok {
		p.t.Fatalf("no summary of %s in\n%s", job, p.stderr.String())
	}
	line, _, _ = strings.Cut(line, "\n")
	values := map[string]uint64{}
	for field := range strings.FieldsSeq(line) {
		var v uint64
		name, value, _ := strings.Cut(field, "=")
		if _, err := fmt.Sscan(value, &v); err != nil {
			p.t.Fatalf("%s: %v", field, err)
		}
		values[name] = v
	}
	return values
}

// tool runs zmtpd to its end, which must be a clean one, and returns its standard output.
func tool(t testing.TB, stdin io.Reader, args ...string) string {
	t.Helper()
	p := start(t, stdin, args...)
	if status := p.wait(); status != 0 {
		t.Fatalf("zmtpd %s: exit status %d\n%s", args, status, p.stderr.String())
	}
	return p.stdout.String()
}

// sink returns what /status tells of a sink.
func (s *loggerStatus) sink(t testing.TB, name string) sinkStatus {
	t.Helper()
	for _, sink := range s.Sinks {
		if sink.Sink == name {
			return sink
		}
	}
	t.Fatalf("no sink %s in %+v", name, s)
	return sinkStatus{}
}

// writeFile writes a file.
func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeRecording writes a recording of messages with one part each.
func writeRecording(t testing.TB, name string, messages ...string) {
	t.Helper()
	var content []byte
	for _, m := range messages {
		var err error
		if content, err = recording.AppendMessage(content, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, name, string(content))
}
