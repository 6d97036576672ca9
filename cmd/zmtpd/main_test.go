package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// The test binary is also zmtpd: in tests the command "zmtpd" runs main of this build, with the
// race detector.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"zmtpd": main})
}

// leakChecked runs the tests and fails if goroutines are left.
type leakChecked struct{ m *testing.M }

func (c leakChecked) Run() int {
	var err error
	if built.dir, err = os.MkdirTemp("", "zmtpd-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(built.dir)
	status := c.m.Run()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintf(os.Stderr, "goroutines are left after the tests: %v\n", err)
			return 1
		}
	}
	return status
}
