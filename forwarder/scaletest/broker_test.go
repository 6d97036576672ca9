//go:build unix

package scaletest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"zmtpd/forwarder"
	"zmtpd/zmtp"
)

// brokerVariable is the environment variable with which the test binary runs as the broker.
const brokerVariable = "ZMTPD_SCALETEST_BROKER"

// report is the broker's account of itself.
type report struct {
	XSub, XPub              string // where it listens
	Publishers, Subscribers int
	Topics, Subscriptions   int
	Goroutines              int
	Memory                  int64 // resident, in bytes, after a garbage collection
}

func TestMain(m *testing.M) {
	if os.Getenv(brokerVariable) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve runs the broker. It answers each line on standard input with a report, and ends at the end
// of the input.
func serve() error {
	f := forwarder.New(forwarder.Config{XPub: zmtp.Config{MaxPendingHandshakes: 20_000},
		XSub: zmtp.Config{MaxPendingHandshakes: 20_000}})
	defer f.Close()
	xpub, err := f.ListenXPub("tcp://127.0.0.1:*")
	if err != nil {
		return err
	}
	xsub, err := f.ListenXSub("tcp://127.0.0.1:*")
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "memory" {
			runtime.GC()
			debug.FreeOSMemory()
		}
		st := f.Stats()
		r := report{
			XSub: strings.TrimPrefix(xsub, "tcp://"), XPub: strings.TrimPrefix(xpub, "tcp://"),
			Publishers: len(st.Publishers), Subscribers: len(st.Subscribers),
			Topics: st.Topics, Goroutines: runtime.NumGoroutine(), Memory: resident(),
		}
		for _, s := range st.Subscribers {
			r.Subscriptions += s.Topics
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// resident returns the resident memory of this process, or the memory of Go's runtime where the
// system does not tell.
func resident() int64 {
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if field := strings.Fields(string(text)); len(field) > 1 {
			if pages, err := strconv.ParseInt(field[1], 10, 64); err == nil {
				return pages * int64(os.Getpagesize())
			}
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}

// broker is a running broker.
type broker struct {
	report
	t   *testing.T
	ask func(question string) report
}

func start(t *testing.T) *broker {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("broker: %v", err)
		}
	})
	answers := json.NewDecoder(out)
	b := &broker{t: t}
	b.ask = func(question string) (r report) {
		t.Helper()
		if _, err := fmt.Fprintln(in, question); err != nil {
			t.Fatal(err)
		}
		if err := answers.Decode(&r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	b.report = b.ask("where")
	return b
}

// memory returns the broker's memory in bytes after a garbage collection.
func (b *broker) memory() int64 { return b.ask("memory").Memory }
