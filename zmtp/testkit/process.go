package testkit

import (
	"bytes"
	"encoding/json"
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
)

// Process is a running zmtpd.
type Process struct {
	Cmd            *exec.Cmd
	Stdout, Stderr Output

	t    testing.TB
	done chan struct{}
}

// Output is what a process has written so far.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements [io.Writer].
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

// String returns all of it. It may be called from any goroutine.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Ephemeral are the environment variables that give a daemon ephemeral ports. Another zmtpd on this
// machine may have the default ports.
var Ephemeral = []string{
	"ZMTPD_HTTP=127.0.0.1:0", "ZMTPD_XSUB=tcp://127.0.0.1:*", "ZMTPD_XPUB=tcp://127.0.0.1:*",
	"ZMTPD_LISTEN=tcp://127.0.0.1:*",
}

// Environ returns the environment without the variables of zmtpd: those that choose tests are no
// flags, and those of a zmtpd that runs on this machine have nothing to do with a test.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(),
		func(entry string) bool { return strings.HasPrefix(entry, "ZMTPD_") })
}

// Start starts a program, which is zmtpd or runs it, with the arguments. It listens on ephemeral
// ports unless an argument says otherwise. The test kills it at its end, and logs what it wrote to
// standard error if the test failed.
func Start(t testing.TB, program string, stdin io.Reader, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, Cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr = stdin, &p.Stdout, &p.Stderr
	p.Cmd.Env = append(append(Environ(), "TZ=UTC"), Ephemeral...)
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("zmtpd %s wrote to stderr:\n%s", args, shorten(p.Stderr.String()))
		}
	})
	return p
}

// shorten leaves the beginning and the end of a long text.
func shorten(text string) string {
	const most = 16 << 10
	if len(text) <= most {
		return text
	}
	return text[:most/2] + "\n...\n" + text[len(text)-most/2:]
}

// StartDaemon starts a daemon and waits until it is ready. If it still runs when the test ends, its
// accounts must add up, see [Process.WantBalanced].
func StartDaemon(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	p := StartListening(t, program, args...)
	Eventually(t, "ready", func() bool {
		p.WantRunning()
		status, _ := p.Get("/readyz")
		return status == http.StatusOK
	})
	t.Cleanup(func() {
		select {
		case <-p.done:
		default:
			if !t.Failed() {
				p.WantBalanced()
			}
		}
	})
	return p
}

// StartListening starts a daemon and waits until it listens at all endpoints, ready or not.
func StartListening(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	p := Start(t, program, nil, args...)
	Eventually(t, "listening", func() bool {
		p.WantRunning()
		// Its line is the last one.
		return strings.Contains(p.Stderr.String(), "msg=listening flag=--http")
	})
	return p
}

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// WantRunning fails the test if the process has ended.
func (p *Process) WantRunning() {
	p.t.Helper()
	select {
	case <-p.done:
		p.t.Fatalf("zmtpd %s ended with %s", p.Cmd.Args[1:], p.Cmd.ProcessState)
	default:
	}
}

var listeningLine = regexp.MustCompile(`msg=listening flag=(\S+) socket=(\S+) endpoint=(\S+)`)

// Endpoint returns the address at which a daemon's socket listens, as its log tells.
func (p *Process) Endpoint(socket string) string {
	p.t.Helper()
	for _, m := range listeningLine.FindAllStringSubmatch(p.Stderr.String(), -1) {
		if m[2] == socket {
			return m[3]
		}
	}
	p.t.Fatalf("no %s endpoint in\n%s", socket, shorten(p.Stderr.String()))
	return ""
}

// Get asks the daemon's HTTP server, over a new connection.
func (p *Process) Get(path string) (status int, body string) {
	p.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: Patience}
	r, err := client.Get(p.Endpoint("HTTP") + path)
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

// Status decodes the answer to /status into v.
func (p *Process) Status(v any) {
	p.t.Helper()
	_, body := p.Get("/status")
	if err := json.Unmarshal([]byte(body), v); err != nil {
		p.t.Fatalf("%v in\n%s", err, body)
	}
}

// Metric returns the value of a series, by its name and labels as they stand in /metrics.
func (p *Process) Metric(series string) float64 {
	p.t.Helper()
	_, body := p.Get("/metrics")
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

// Wait waits for the end and returns the exit status, -1 for an end by a signal.
func (p *Process) Wait() int {
	p.t.Helper()
	Done(p.t, "the end of the process", p.done)
	return p.Cmd.ProcessState.ExitCode()
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Terminate asks for the end, and checks that it is a clean one.
func (p *Process) Terminate() {
	p.t.Helper()
	p.Signal(os.Interrupt)
	if status := p.Wait(); status != 0 {
		p.t.Fatalf("exit status %d, want 0", status)
	}
}
