//go:build unix

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"zmtpd/zmtp/testkit"
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

// zeekNode returns the compiled testdata/zeeknode.c.
var zeekNode = sync.OnceValues(func() (string, error) {
	program := filepath.Join(programs, "zeeknode")
	return program, testkit.Compile(program, filepath.Join("testdata", "zeeknode.c"), "-lzmq")
})
