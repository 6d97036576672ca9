//go:build unix

package testkit

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// StartChromium starts a Chromium without a screen, with further arguments, and returns the address
// at which it takes commands of Chrome's DevTools protocol. It ends with the test, with all
// processes that it has started. The test is skipped on a machine without Chromium: a browser is
// large.
func StartChromium(t testing.TB, args ...string) (devTools string) {
	t.Helper()
	var program string
	for _, name := range []string{"chromium-headless-shell", "chromium", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("no Chromium; on Debian: apt-get install chromium-headless-shell")
	}
	cmd := exec.Command(program, append([]string{"--headless", "--no-sandbox", "--disable-gpu",
		"--remote-debugging-port=0", "--user-data-dir=" + t.TempDir()}, args...)...)
	// The program may be a script that starts the browser.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address, drained := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(drained)
		defer close(address)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if a, ok := strings.CutPrefix(lines.Text(), "DevTools listening on ws://"); ok {
				host, _, _ := strings.Cut(a, "/")
				address <- host
				break
			}
		}
		io.Copy(io.Discard, stderr)
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-drained // all of its processes have ended
		cmd.Wait()
	})
	select {
	case devTools = <-address:
	case <-time.After(Patience):
	}
	if devTools == "" {
		t.Fatal("Chromium does not start")
	}
	return devTools
}
