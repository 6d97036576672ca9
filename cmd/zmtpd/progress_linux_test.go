package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"zmtpd/pipeline/recording"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// openTerminal returns both sides of a pseudo terminal. The test closes them.
func openTerminal(t *testing.T, columns uint16) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: columns})
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}

// replayOn replays messages at 40/s for a second or so, with its standard error on stderr.
func replayOn(t *testing.T, stderr io.Writer) {
	t.Helper()
	pull := zmtp.NewPull(zmtp.Config{})
	defer pull.Close()
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	var messages []byte
	for range 20 {
		if messages, err = recording.AppendMessage(messages, []byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "recording")
	if err := os.WriteFile(file, messages, 0o666); err != nil {
		t.Fatal(err)
	}
	replay := exec.Command("zmtpd", "replay", file, "--push", endpoint, "--rate", "40", "--repeat",
		"2")
	replay.Stderr = stderr
	if err := replay.Run(); err != nil {
		t.Fatal(err)
	}
}

var progressLine = regexp.MustCompile(`\r(\d+)%, (\d+) messages, (\d+) B, (\d+)/s, 0:0(\d) left`)

// On a terminal, the progress line counts up during the replay and fits the width. At the end only
// the summary is left.
func TestReplayProgress(t *testing.T) {
	master, terminal := openTerminal(t, 60)
	var shown bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&shown, master) // until the terminal is closed
	}()
	replayOn(t, terminal)
	terminal.Close()
	<-done
	lines := progressLine.FindAllStringSubmatch(shown.String(), -1)
	if len(lines) < 2 {
		t.Fatalf("%d lines of progress in %q", len(lines), shown.String())
	}
	percent, messages := 0, 0
	for _, m := range lines {
		var p, n int
		if _, err := fmt.Sscan(m[1]+" "+m[2], &p, &n); err != nil || p <= percent && p < 100 ||
			n <= messages && n < 40 || p != n*100/40 {
			t.Errorf("%q after %d%% and %d messages", m[0], percent, messages)
		}
		percent, messages = p, n
	}
	got := testkit.Screen(strings.ReplaceAll(shown.String(), "\r\n", "\n"))
	if len(got) != 2 || !strings.HasPrefix(got[0], "zmtpd: replayed 40 messages, 400 bytes in ") ||
		got[1] != "" {
		t.Errorf("at the end the terminal shows %q", got)
	}
}

// Without a terminal there is no progress line.
func TestReplayProgressWithoutTerminal(t *testing.T) {
	var stderr bytes.Buffer
	replayOn(t, &stderr)
	if got := stderr.String(); !regexp.MustCompile(`^zmtpd: replayed 40 messages, 400 bytes in [^\r\n]*\n$`).MatchString(got) {
		t.Errorf("standard error %q", got)
	}
}
