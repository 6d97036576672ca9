package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"zmtpd/zmtp/testkit"
)

// The command line: a script for each behaviour. They start zmtpd hundreds of times, which takes
// six times as long with the race detector; so it is on in the nightly run only.
func TestScripts(t *testing.T) {
	path := os.Getenv("PATH")
	if !testkit.Nightly() {
		path = filepath.Dir(operators(t)[0]) + string(os.PathListSeparator) + path
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", path)
			env.Vars = append(env.Vars, testkit.Ephemeral...)
			return nil
		},
		Deadline: time.Now().Add(10 * testkit.Patience),
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// status N program args... runs a program that must end with exit status N.
			"status": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: status N program args...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					exit, ok := errors.AsType[*exec.ExitError](err)
					if !ok {
						ts.Fatalf("%v", err)
					}
					got = exit.ExitCode()
				}
				if got != want {
					ts.Fatalf("exit status %d, want %d", got, want)
				}
			},
		},
	})
}
