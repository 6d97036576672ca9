//go:build unix

package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// programs is where the C programs are compiled to.
var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// python returns a Python that has pyzmq on libzmq 4.3 or later. Debian's package belongs to Debian's Python, which need
// not be the first in PATH.
var python = sync.OnceValues(func() (string, error) {
	var all error
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		out, err := exec.Command(name, "-c", "import zmq; assert zmq.zmq_version_info() >= (4, 3)").CombinedOutput()
		if err == nil {
			return name, nil
		}
		all = errors.Join(all, fmt.Errorf("%s: %w: %s", name, err, lastLine(out)))
	}
	return "", fmt.Errorf("no Python with pyzmq; on Debian: apt-get install -y python3-zmq\n%w", all)
})

// zeekNode returns the compiled testdata/zeeknode.c.
var zeekNode = sync.OnceValues(func() (string, error) { return compile("zeeknode") })

func compile(name string) (string, error) {
	bin := filepath.Join(programs, name)
	out, err := exec.Command("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o", bin, filepath.Join("testdata", name+".c"), "-lzmq").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot compile %s.c; on Debian: apt-get install -y gcc libc6-dev libzmq3-dev\n%w\n%s", name, err, out)
	}
	return bin, nil
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
