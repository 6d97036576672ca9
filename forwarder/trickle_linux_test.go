package forwarder

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// A subscriber that reads 128 KiB/s loses nothing of a burst that fits the queues.
func TestTrickleTCP(t *testing.T) {
	cfg := stageConfig(Adaptive)
	cfg.XPub.SendBuffer = 256 << 10
	s := newStageOn(t, cfg, "127.0.0.1", func(xpub string) (net.Conn, error) {
		// The buffer is so small that its kernel accepts data each time the subscriber reads.
		d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET,
					syscall.SO_RCVBUF, 16<<10)
			})
		}}
		return d.Dial("tcp", xpub)
	})
	hurry := make(chan struct{})
	in, out := io.Pipe()
	go func() {
		buf := make([]byte, 64<<10/10)
		for {
			n, err := s.stuck.Read(buf)
			out.Write(buf[:n])
			if err != nil {
				out.Close()
				return
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-hurry:
			}
		}
	}()
	c := new(collector)
	go c.read(t, in)
	const n = 150 // of 4 KiB: its queue and the kernel have room for them
	if err := s.send(n, true); err != nil {
		t.Fatal(err)
	}
	s.healthy()
	close(hurry)
	testkit.Eventually(t, "the slow one has everything", func() bool { return len(c.all()) == n })
	if st := s.Stats(); st.XPub.Dropped.Total() > 0 {
		t.Errorf("dropped %v", st.XPub.Dropped)
	}
}
