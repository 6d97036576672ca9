package netnstest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
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

// made counts the hosts of this process.
var made atomic.Uint32

// New makes a host that is gone with the test. It skips the test if it may not make a namespace.
func New(t testing.TB) *Host {
	if os.Getuid() != 0 {
		t.Skip("cannot make a network namespace: run as root, as .ci/run does")
	}
	// Other tests may have hosts at the same time, in this process and in others. The addresses are
	// from those reserved for benchmarks of networks, 198.18.0.0/15; each link has four.
	n := made.Add(1)
	link := (uint32(os.Getpid())<<3 + n&7) % (1 << 15)
	address := func(i uint32) string {
		a := 198<<24 | 18<<16 | link<<2 | i
		return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8),
			byte(a)}).String()
	}
	h := &Host{Here: address(1), t: t, name: fmt.Sprintf("zv%d-%d", os.Getpid(), n)}
	there := address(2)
	if out, err := exec.Command("ip", "netns", "add", h.name).CombinedOutput(); err != nil {
		t.Skipf("cannot make a network namespace: %v: %s", err, out)
	}
	t.Cleanup(func() {
		// gone already if the namespace has taken it along
		exec.Command("ip", "link", "del", h.name).Run()
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

// there calls f on a thread that is there.
func (h *Host) there(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// for good: the thread ends with the goroutine, and its namespace with it
		runtime.LockOSThread()
		var ns *os.File
		if ns, err = os.Open("/var/run/netns/" + h.name); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	}()
	<-done
	return err
}

// Dial connects from there over TCP. It blocks until that is done, 10 s at most.
func (h *Host) Dial(addr string) (conn net.Conn, err error) {
	err = h.there(func() error {
		conn, err = net.DialTimeout("tcp4", addr, 10*time.Second)
		return err
	})
	return conn, err
}

// RawSocket returns a socket to which Ethernet packets can be written that the host sends over the
// link. The caller closes it.
func (h *Host) RawSocket() (fd int, err error) {
	err = h.there(func() error {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		// Without a protocol it receives nothing.
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: device.Index}); err != nil {
			unix.Close(fd)
		}
		return err
	})
	return fd, err
}

// Cut makes the host vanish: nothing arrives any more and nobody is told.
func (h *Host) Cut() { h.ip("link", "set", h.name, "down") }
