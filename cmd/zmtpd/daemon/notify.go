package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// notifier tells the service manager what the daemon does, as sd_notify(3) describes. nil is one
// without a service manager. Any goroutine may call its methods, which do not wait for an answer.
type notifier struct {
	conn *net.UnixConn
	log  *slog.Logger
}

// newNotifier connects to the service manager that NOTIFY_SOCKET names, if there is one. It removes
// the variable, so that processes which the daemon starts do not speak for it.
func newNotifier(log *slog.Logger) *notifier {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	os.Unsetenv("NOTIFY_SOCKET")
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		log.Warn("the service manager cannot be told what zmtpd does", "err", err)
		return nil
	}
	return &notifier{conn: conn, log: log}
}

func (n *notifier) send(state string) {
	if n == nil {
		return
	}
	if _, err := n.conn.Write([]byte(state)); err != nil {
		n.log.Warn("the service manager cannot be told what zmtpd does", "err", err)
	}
}

// ready says that all endpoints are bound, or that the configuration was read again.
func (n *notifier) ready() { n.send("READY=1\nSTATUS=serving") }

// reloading says that the configuration is read again. ready has to follow.
func (n *notifier) reloading() { n.send("RELOADING=1\nSTATUS=reading the configuration") }

// stopping says that the end has begun, which takes up to timeout.
func (n *notifier) stopping(timeout time.Duration) {
	// Some time more, for files to be closed.
	n.send(fmt.Sprintf("STOPPING=1\nSTATUS=delivering what was received\nEXTEND_TIMEOUT_USEC=%d",
		(timeout + 5*time.Second).Microseconds()))
}

// watch sends signs of life twice as often as the service manager wants them, until stop is called.
// Before each, it calls alive: a daemon in which that blocks is not alive.
func (n *notifier) watch(alive func()) (stop func()) {
	interval, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if n == nil || err != nil || interval <= 0 || !forThisProcess() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(time.Duration(interval) * time.Microsecond / 2)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				alive()
				n.send("WATCHDOG=1")
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

// forThisProcess reports whether the service manager watches this process.
func forThisProcess() bool {
	pid := os.Getenv("WATCHDOG_PID")
	return pid == "" || pid == strconv.Itoa(os.Getpid())
}

func (n *notifier) close() {
	if n != nil {
		n.conn.Close()
	}
}
