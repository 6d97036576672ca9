package forwarder

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Addresses of the two ends of the link, from those reserved for benchmarks of networks.
const (
	hereAddr  = "198.18.201.1"
	thereAddr = "198.18.201.2"
)

// host is another host, in a network namespace, on a link that can be cut.
type host struct {
	t    *testing.T
	name string // of the namespace, and of our end of the link
}

// newHost makes one, or skips the test if that cannot be done.
func newHost(t *testing.T) *host {
	if os.Getuid() != 0 {
		t.Skip("cannot make a network namespace: run as root, as .ci/run does")
	}
	h := &host{t, fmt.Sprintf("zv%d", os.Getpid())}
	if out, err := exec.Command("ip", "netns", "add", h.name).CombinedOutput(); err != nil {
		t.Skipf("cannot make a network namespace: %v: %s", err, out)
	}
	t.Cleanup(func() {
		exec.Command("ip", "link", "del", h.name).Run() // gone already if the namespace has taken it along
		h.ip("netns", "del", h.name)
	})
	h.ip("link", "add", h.name, "type", "veth", "peer", "name", "eth0", "netns", h.name)
	h.ip("addr", "add", hereAddr+"/30", "dev", h.name)
	h.ip("link", "set", h.name, "up")
	h.ip("-n", h.name, "addr", "add", thereAddr+"/30", "dev", "eth0")
	h.ip("-n", h.name, "link", "set", "eth0", "up")
	return h
}

func (h *host) ip(args ...string) {
	h.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		h.t.Errorf("ip %q: %v: %s", args, err, out)
	}
}

// dial connects from there.
func (h *host) dial(addr string) (conn net.Conn, err error) {
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

// cut makes the host vanish: nothing arrives any more and nobody is told.
func (h *host) cut() { h.ip("link", "set", h.name, "down") }

// TestVanishedHost has a subscriber whose host is gone without a word. The others get everything that the policy does not drop.
func TestVanishedHost(t *testing.T) {
	for _, policy := range []Policy{Adaptive, Block, Drop, Disconnect} {
		t.Run(policy.String(), func(t *testing.T) {
			h := newHost(t)
			cfg := stageConfig(policy)
			logs := new(logBook)
			cfg.Logger = logs.logger()
			if policy == Block { // only heartbeats can tell
				cfg.XPub.HeartbeatInterval = 500 * time.Millisecond
			}
			s := newStageOn(t, cfg, hereAddr, h.dial)
			s.stuck.subscribe("zeek.cluster.nodeid."+stuckID+".", true)
			eventually(t, "the node is known", func() bool { return s.other().NodeID == stuckID })
			address := s.stuck.LocalAddr().String()
			h.cut()

			const n = 2000 // 8 MiB, far more than the kernel and the queue hold
			if err := s.send(n, policy == Drop || policy == Disconnect); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the healthy subscriber has got everything", func() bool { return s.got.Load() == n })

			st := s.Stats()
			switch policy {
			case Adaptive, Drop:
				lost := s.other()
				if lost.Dropped == 0 || lost.Queued > stageHWM || lost.QueuedBytes > stageHWM*(5<<10) {
					t.Errorf("the subscriber that is gone: %+v", lost)
				}
				if st.XPub.Dropped[zmtp.DropFull] != lost.Dropped {
					t.Errorf("somebody else lost messages: %v, of which it %d", st.XPub.Dropped, lost.Dropped)
				}
			case Block:
				if st.XPub.Closed[wire.HeartbeatTimeout] != 1 {
					t.Errorf("closed: %v", st.XPub.Closed)
				}
			case Disconnect:
				eventually(t, "it is closed", func() bool { return s.Stats().XPub.Closed[wire.SlowConsumer] == 1 })
			}
			if policy != Drop && len(logs.matching(address, stuckID)) == 0 {
				t.Errorf("the log does not name it: %q", logs.lines)
			}
			s.Close() // in order it would wait for what the host has not taken
		})
	}
}
