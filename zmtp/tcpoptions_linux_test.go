package zmtp

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// sockopt returns an option of the kernel for a connection of s.
func sockopt(t *testing.T, s *Socket, level, option int) (value int) {
	t.Helper()
	raw, err := one(t, s).conn.(syscall.Conn).SyscallConn()
	if err == nil {
		control := raw.Control(func(fd uintptr) {
			value, err = syscall.GetsockoptInt(int(fd), level, option)
		})
		if err == nil {
			err = control
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// Buffers and keepalive of a TCP connection are those of the system, or what Config says, at both
// ends (libzmq, test_setsockopt; JeroMQ, KeepAliveTest).
func TestTCPOptions(t *testing.T) {
	type values struct{ send, recv, alive, idle, interval, count int }
	const socket, tcp = syscall.SOL_SOCKET, syscall.IPPROTO_TCP
	get := func(cfg Config) (all [2]values) {
		pull, push := NewPull(cfg), NewPush(cfg)
		defer closeNow(t, pull)
		defer closeNow(t, push)
		bound, err := pull.Listen("tcp://127.0.0.1:*")
		if err != nil {
			t.Fatal(err)
		}
		if err := push.Connect(bound); err != nil {
			t.Fatal(err)
		}
		mustSend(t, push, "m")
		mustRecv(t, pull, "m")
		for i, s := range []*Socket{pull.Socket, push.Socket} {
			all[i] = values{
				send:     sockopt(t, s, socket, syscall.SO_SNDBUF),
				recv:     sockopt(t, s, socket, syscall.SO_RCVBUF),
				alive:    sockopt(t, s, socket, syscall.SO_KEEPALIVE),
				idle:     sockopt(t, s, tcp, syscall.TCP_KEEPIDLE),
				interval: sockopt(t, s, tcp, syscall.TCP_KEEPINTVL),
				count:    sockopt(t, s, tcp, syscall.TCP_KEEPCNT),
			}
		}
		return all
	}
	for i, system := range get(Config{}) {
		if system.alive != 0 {
			t.Errorf("end %d: keepalive is on", i)
		}
	}
	for i, v := range get(Config{SendBuffer: 30_000, RecvBuffer: 40_000,
		KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 7 * time.Second,
			Interval: 3 * time.Second, Count: 5}}) {
		// Linux reserves as much again for its own use (socket(7)).
		if want := (values{60_000, 80_000, 1, 7, 3, 5}); v != want {
			t.Errorf("end %d: %+v, want %+v", i, v, want)
		}
	}
}
