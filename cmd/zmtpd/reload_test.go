//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReload changes the configuration of a running broker.
func TestReload(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "zmtpd.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("overload: block\n")
	d := startDaemon(t, "forwarder", "--config", file, "--xsub", "tcp://127.0.0.1:*", "--xpub", "tcp://127.0.0.1:*")
	said := 0
	hangup := func(want ...string) {
		t.Helper()
		d.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, fmt.Sprintf("SIGHUP is answered with %q", want), func() bool {
			text := d.stderr.String()[said:]
			for _, w := range want {
				if !strings.Contains(text, w) {
					return false
				}
			}
			return true
		})
		said = len(d.stderr.String())
	}
	write("overload: drop\nstall-timeout: 1s\nlog-level: debug\n")
	hangup("differs_from_start=\"[log-level overload stall-timeout]\"")
	write("overload: nonsense\n")
	hangup("cannot be read", "nonsense")
	write("overload: drop\nsndhwm: 17\n")
	hangup("start", "flags=[sndhwm]")
}
