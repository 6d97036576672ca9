package zmtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// maxSocketPath is the size of a Unix socket's path with its terminating zero, in bytes.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path)

// ipcTransport is libzmq's ipc: Unix domain sockets. An address is a path, "@name" for an abstract
// one (Linux), or "*" to listen on a new path.
type ipcTransport struct{}

func (ipcTransport) Listen(ctx context.Context, path string, _ *Config) (net.Listener, string,
	error) {
	if err := checkPath(path); err != nil {
		return nil, "", err
	}
	dir := ""
	if path == "*" {
		var err error
		if dir, err = os.MkdirTemp("", "zmtp-"); err != nil {
			return nil, "", err
		}
		path = filepath.Join(dir, "socket")
	}
	l, err := listenUnix(ctx, path)
	if err != nil {
		if dir != "" {
			os.RemoveAll(dir)
		}
		return nil, "", err
	}
	return &ipcListener{UnixListener: l, path: path, dir: dir, file: lstat(path)}, path, nil
}

func (ipcTransport) Dialer(path string, cfg *Config) (func(context.Context) (net.Conn, error),
	error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if path == "*" {
		return nil, fmt.Errorf("%w: ipc://* is for Listen only", ErrEndpoint)
	}
	dial := cfg.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context) (net.Conn, error) { return dial(ctx, "unix", path) }, nil
}

func checkPath(path string) error {
	if path == "" || path == "@" || strings.ContainsRune(path, 0) {
		return endpointError("ipc://"+path, "want ipc://path, ipc://@name or ipc://*")
	}
	if len(path) >= maxSocketPath {
		return endpointError("ipc://"+path, "the path has %d bytes, the operating system allows %d",
			len(path), maxSocketPath-1)
	}
	return nil
}

// listenUnix listens on path. It replaces a socket file that a dead process has left behind, but
// not that of a live listener, and no other file.
func listenUnix(ctx context.Context, path string) (*net.UnixListener, error) {
	listen := func() (*net.UnixListener, error) {
		l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		ul := l.(*net.UnixListener)
		ul.SetUnlinkOnClose(false) // see ipcListener.Close
		return ul, nil
	}
	l, err := listen()
	if err == nil || !errors.Is(err, syscall.EADDRINUSE) || strings.HasPrefix(path, "@") {
		return l, err
	}
	if info, serr := os.Stat(path); serr != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("%w (%s exists and is not a socket)", err, path)
	}
	// Only a refusal proves that there is no listener: one whose queue is full, or that belongs to
	// another user, gives other errors.
	c, derr := net.Dial("unix", path)
	if derr == nil {
		c.Close()
	}
	if !errors.Is(derr, syscall.ECONNREFUSED) {
		return nil, err
	}
	if rerr := os.Remove(path); rerr != nil {
		return nil, err
	}
	return listen()
}

// ipcListener removes its socket file when it is closed.
type ipcListener struct {
	*net.UnixListener
	path string
	dir  string      // the folder that was made for the path, or ""
	file os.FileInfo // of the socket file, nil for an abstract name
	once sync.Once
}

// Close removes the socket file only if it is still the one that this listener has made: another
// process may have replaced it.
func (l *ipcListener) Close() error {
	l.once.Do(func() {
		if now := lstat(l.path); l.file != nil && now != nil && os.SameFile(l.file, now) {
			os.Remove(l.path)
		}
	})
	err := l.UnixListener.Close()
	if l.dir != "" {
		os.RemoveAll(l.dir)
	}
	return err
}

func lstat(path string) os.FileInfo {
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	return info
}
