//go:build unix

package main

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// serviceManager receives what a service tells about itself.
type serviceManager struct{ conn *net.UnixConn }

// newServiceManager returns one, and the variables for its service.
func newServiceManager(t *testing.T) (*serviceManager, program) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &serviceManager{conn},
		program{"env", "NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=200000", ours[0]}
}

// await receives until a state comes, and returns its message.
func (m *serviceManager) await(t *testing.T, state string) string {
	t.Helper()
	b := make([]byte, 4096)
	m.conn.SetReadDeadline(time.Now().Add(testkit.Patience))
	for {
		n, err := m.conn.Read(b)
		if err != nil {
			t.Fatalf("the service manager did not hear %s: %v", state, err)
		}
		if strings.HasPrefix(string(b[:n]), state+"\n") || string(b[:n]) == state {
			return string(b[:n])
		}
	}
}

// A daemon tells systemd when it is ready, alive, reading its configuration, and ending.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	m, zmtpd := newServiceManager(t)
	up := zmtpd.startDaemon(t, "up", "--dir", t.TempDir(), "--shutdown-timeout", "7s")
	m.await(t, "READY=1")
	m.await(t, "WATCHDOG=1")
	m.await(t, "WATCHDOG=1")
	up.Signal(syscall.SIGHUP)
	m.await(t, "RELOADING=1")
	m.await(t, "READY=1")
	up.Terminate()
	if text := m.await(t, "STOPPING=1"); !strings.Contains(text, "EXTEND_TIMEOUT_USEC=12000000") {
		t.Errorf("the end is announced with %q", text)
	}
}
