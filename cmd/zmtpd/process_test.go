package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/pipeline/recording"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// process is a running zmtpd.
type process struct {
	*testkit.Process
	t testing.TB
}

// program is the command that starts a zmtpd, with arguments before those of zmtpd.
type program []string

// ours is the zmtpd of this build, see TestMain.
var ours = program{"zmtpd"}

// operators returns zmtpd as operators have it: the race detector multiplies memory and CPU time.
// The first call builds it.
func operators(t *testing.T) program {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.program == "" {
		built.program = testkit.Build(t, built.dir, "zmtpd/cmd/zmtpd")
	}
	return program{built.program}
}

// built is the program of operators.
var built struct {
	sync.Mutex
	dir     string // leakChecked makes and removes it
	program string // "" before the first build
}

// start starts ours.
func start(t testing.TB, stdin io.Reader, args ...string) *process {
	t.Helper()
	return ours.start(t, stdin, args...)
}

// startDaemon starts a daemon of ours and waits until it is ready.
func startDaemon(t testing.TB, args ...string) *process {
	t.Helper()
	return ours.startDaemon(t, args...)
}

// startListening starts a daemon of ours and waits until it listens, ready or not.
func startListening(t testing.TB, args ...string) *process {
	t.Helper()
	return ours.startListening(t, args...)
}

// args returns the arguments of the command.
func (z program) args(args []string) []string { return append(slices.Clone(z[1:]), args...) }

// start starts zmtpd with ephemeral ports. The test kills it at its end.
func (z program) start(t testing.TB, stdin io.Reader, args ...string) *process {
	t.Helper()
	return &process{testkit.Start(t, z[0], stdin, z.args(args)...), t}
}

// startDaemon starts a daemon with ephemeral ports and waits until it is ready.
func (z program) startDaemon(t testing.TB, args ...string) *process {
	t.Helper()
	return &process{testkit.StartDaemon(t, z[0], z.args(args)...), t}
}

// startListening starts a daemon with ephemeral ports and waits until it listens, ready or not.
func (z program) startListening(t testing.TB, args ...string) *process {
	t.Helper()
	return &process{testkit.StartListening(t, z[0], z.args(args)...), t}
}

// hasEnded reports whether the process has ended.
func (p *process) hasEnded() bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// wantLogged waits until the log has a text. What /status and /metrics count may be logged later.
func (p *process) wantLogged(text string) {
	p.t.Helper()
	testkit.Eventually(p.t, "the log has "+text,
		func() bool { return strings.Contains(p.Stderr.String(), text) })
}

// boundEndpoint waits until a tool listens and returns its address.
func (p *process) boundEndpoint() string {
	p.t.Helper()
	var endpoint string
	testkit.Eventually(p.t, "the tool to listen", func() bool {
		_, after, ok := strings.Cut(p.Stderr.String(), "listening on ")
		endpoint, _, _ = strings.Cut(after, "\n")
		return ok && endpoint != ""
	})
	return endpoint
}

// status is an answer to /status.
type status struct {
	daemon.Status
	Forwarder *forwarderStatus `json:"forwarder"`
	Logger    *loggerStatus    `json:"logger"`
	Balance   *balanceStatus   `json:"balance"`
	Cluster   *clusterStatus   `json:"cluster"`
}

// status asks for /status.
func (p *process) status() (s status) {
	p.t.Helper()
	p.Status(&s)
	return s
}

// summary returns the numbers in a job's last line of the log.
func (p *process) summary(job string) map[string]uint64 {
	p.t.Helper()
	_, line, ok := strings.Cut(p.Stderr.String(), "msg=stopped job="+job+" ")
	if !ok {
		p.t.Fatalf("no summary of %s in\n%s", job, p.Stderr.String())
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

// runTool runs zmtpd to its end, which must be an orderly one, and returns its standard output.
func runTool(t testing.TB, stdin io.Reader, args ...string) string {
	t.Helper()
	p := start(t, stdin, args...)
	if status := p.Wait(); status != 0 {
		t.Fatalf("zmtpd %s: exit status %d\n%s", args, status, p.Stderr.String())
	}
	return p.Stdout.String()
}

// runHere runs zmtpd in the process of the test and returns the exit status. That takes a fraction
// of the CPU time of a process, and is for command lines that end by themselves: usage errors, and
// tools that read files. If zmtpd does not end within the time of testkit.Context, as when it
// accepts what it should refuse, it is asked to end and the status is 0.
func runHere(t testing.TB, stdin io.Reader, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	var out, log testkit.Output
	status = report(&log, run(testkit.Context(t), args, stdin, &out, &log))
	return status, out.String(), log.String()
}

// sink returns the status of a sink.
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
	all := make([]zmtp.Message, len(messages))
	for i, m := range messages {
		all[i] = zmtp.NewMessageString(m)
	}
	writeMessages(t, name, all...)
}

// writeMessages writes a recording.
func writeMessages(t testing.TB, name string, messages ...zmtp.Message) {
	t.Helper()
	var content []byte
	for _, m := range messages {
		var err error
		if content, err = recording.AppendMessage(content, m.AppendParts(nil)...); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, name, string(content))
}
