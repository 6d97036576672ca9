package netnstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Host is another host, on a link that can be cut.
type Host struct {
	Here string // the IP address of our end of the link

	t    testing.TB
	name string // of the namespace, and of our end of the link
}

// New makes a host that is gone with the test. subnet is a number from 0 to 255, another one for each test that may run at the same
// time. It skips the test if it may not make a namespace.
func New(t testing.TB, subnet uint8) *Host {
	if os.Getuid() != 0 {
		t.Skip("cannot make a network namespace: run as root, as .ci/run does")
	}
	// The addresses are from those reserved for benchmarks of networks.
	h := &Host{Here: fmt.Sprintf("198.18.%d.1", subnet), t: t, name: fmt.Sprintf("zv%d-%d", subnet, os.Getpid())}
	there := fmt.Sprintf("198.18.%d.2", subnet)
	if out, err := exec.Command("ip", "netns", "add", h.name).CombinedOutput(); err != nil {
		t.Skipf("cannot make a network namespace: %v: %s", err, out)
	}
	t.Cleanup(func() {
		exec.Command("ip", "link", "del", h.name).Run() // gone already if the namespace has taken it along
		h.ip("netns", "del", h.name)
	})
	h.ip("link", "add", h.name, "type", "veth", "peer", "name", "eth0", "netns", h.name)
	h.ip("addr", "add", h.Here+"/30", "dev", h.name)
	h.ip("link", "set", h.name, "up")
	h.ip("-n", h.name, "addr", "add", there+"/30", "dev", "eth0")
	h.ip("-n", h.name, "link", "set", "eth0", "up")
	return h
}

func (h *Host) ip(args ...string) {
	h.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		h.t.Errorf("ip %q: %v: %s", args, err, out)
	}
}

// Dial connects from there over TCP. It blocks until that is done, 10 s at most.
func (h *Host) Dial(addr string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and its namespace with it
		var ns *os.File
		if ns, err = os.Open("/var/run/netns/" + h.name); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		conn, err = net.DialTimeout("tcp4", addr, 10*time.Second)
	}()
	<-done
	return conn, err
}

// Cut makes the host vanish: nothing arrives any more and nobody is told.
func (h *Host) Cut() { h.ip("link", "set", h.name, "down") }
