//go:build linux

package hostile

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// large says that the attacks have their full size.
var large = os.Getenv("ZMTPD_HOSTILE") == "large"

// beside lets a small test run beside others, since their processes are independent. Attacks in
// full size run alone, so that their figures mean something.
func beside(t *testing.T) {
	if !large {
		t.Parallel()
	}
}

// scaled returns small or full, depending on large.
func scaled[T any](small, full T) T {
	if large {
		return full
	}
	return small
}

// zmtpd is the file of the operators' binary: the race detector, which the tests may have,
// multiplies memory and time.
var zmtpd string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hostile-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	zmtpd = filepath.Join(dir, "zmtpd")
	build := exec.Command("go", "build", "-trimpath", "-o", zmtpd, "zmtpd/cmd/zmtpd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	status := m.Run()
	fmt.Print(table.String())
	return status
}

// result is a line of the table.
type result struct {
	attack, daemon, inputs string
	peak                   int           // memory, in bytes
	cpu                    time.Duration // of the daemon, during the attack
	before, during         float64       // messages a second that honest peers got
	offered, lost          int           // messages of honest peers during the attack
	failed                 bool
}

// results is the table.
type results struct {
	mu  sync.Mutex
	all []result
}

var table results

func (r *results) add(one result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
}

// String returns the table.
func (r *results) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.all, func(a, b result) int {
		return cmp.Or(cmp.Compare(a.attack, b.attack), cmp.Compare(a.daemon, b.daemon))
	})
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w,
		"attack\tdaemon\tinputs\tpeak MiB\tCPU s\tmessages/s before\tduring\toffered\tlost\t")
	for _, l := range r.all {
		verdict := ""
		if l.failed {
			verdict = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.2f\t%.0f\t%.0f\t%d\t%d\t%s\n",
			l.attack, l.daemon, l.inputs, l.peak>>20, l.cpu.Seconds(), l.before, l.during,
			l.offered, l.lost, verdict)
	}
	w.Flush()
	return b.String()
}
