package zmtp

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"zmtpd/zmtp/zmtptest"
)

func TestParseTCP(t *testing.T) {
	for address, want := range map[string]tcpAddress{
		"127.0.0.1:5555":           {host: "127.0.0.1", port: 5555},
		"host.example:1":           {host: "host.example", port: 1},
		"*:5555":                   {host: "*", port: 5555},
		"*:*":                      {host: "*"},
		"eth0:0":                   {host: "eth0"},
		"[::1]:17700":              {host: "::1", port: 17700},
		"::1:17700":                {host: "::1", port: 17700}, // as Zeek writes it
		"[fe80::1%eth0]:65535":     {host: "fe80::1%eth0", port: 65535},
		"10.0.0.1:0;10.0.0.2:5555": {host: "10.0.0.2", port: 5555, source: "10.0.0.1:0"},
		"*:7000;host:5555":         {host: "host", port: 5555, source: ":7000"},
		"[::1]:7000;[::2]:5555":    {host: "::2", port: 5555, source: "[::1]:7000"},
	} {
		if got, err := parseTCP(address); err != nil || got != want {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for _, path := range []string{"/run/zeek/socket", "relative", "*", "@abstract", strings.Repeat("p", 100)} {
		if err := checkPath(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Both Listen and Connect refuse a malformed endpoint, and say why.
func TestEndpointsWithoutMeaning(t *testing.T) {
	s := NewPull(Config{})
	defer closeNow(t, s)
	for text, why := range map[string]string{
		"":                                  "transport://address",
		"127.0.0.1:5555":                    "transport://address",
		"udp://127.0.0.1:5555":              "not supported",
		"vmci://name":                       "not supported",
		"TCP://127.0.0.1:5555":              "not supported",
		"tcp://":                            "port is missing",
		"tcp://host":                        "port is missing",
		"tcp://:5555":                       "host is missing",
		"tcp://host:":                       "not a number",
		"tcp://host:65536":                  "not a number",
		"tcp://host:-1":                     "not a number",
		"tcp://host:+1":                     "not a number",
		"tcp://host:1x":                     "not a number",
		"tcp://host:http":                   "not a number",
		"tcp://ho st:1":                     "no host has",
		"tcp://host/:1":                     "no host has",
		"tcp://[::1:5":                      "brackets",
		"tcp://::1]:5":                      "brackets",
		"tcp://[::1]5":                      "brackets",
		"tcp://[]:5":                        "host is missing",
		"tcp://a:b:5":                       "not an IPv6 address",
		"tcp://[host:1]:5":                  "not an IPv6 address",
		"tcp://src;host:5":                  "port is missing",
		"tcp://a:1;b:2;c:3":                 "not an IPv6 address",
		"ipc://":                            "want ipc://path",
		"ipc://@":                           "want ipc://path",
		"ipc://a\x00b":                      "want ipc://path",
		"ipc://" + strings.Repeat("p", 200): "the operating system allows",
	} {
		_, err := s.Listen(text)
		for _, err := range []error{err, s.Connect(text)} {
			if !errors.Is(err, ErrEndpoint) || !strings.Contains(err.Error(), why) {
				t.Errorf("%q: %v, want %q in it", text, err, why)
			}
		}
	}
}

// Connect and Listen refuse at once an endpoint that can never work.
func TestEndpointsThatCannotWork(t *testing.T) {
	s := NewPull(Config{})
	defer closeNow(t, s)
	for _, text := range []string{"tcp://*:5555", "tcp://127.0.0.1:0", "tcp://127.0.0.1:*", "ipc://*", "nothing", "tcp://nowhere.invalid:1;127.0.0.1:5"} {
		if err := s.Connect(text); !errors.Is(err, ErrEndpoint) {
			t.Errorf("Connect %s: %v", text, err)
		}
	}
	m := s.Monitor(10)
	for _, text := range []string{"tcp://127.0.0.1:0;127.0.0.1:0", "nothing"} {
		if _, err := s.Listen(text); !errors.Is(err, ErrEndpoint) {
			t.Errorf("Listen %s: %v", text, err)
		}
		if e := waitEvent(t, m, EventBindFailed); !errors.Is(e.Err, ErrEndpoint) ||
			e.Endpoint != text {
			t.Errorf("event %+v", e)
		}
	}
}

// loopback returns the name of the loopback interface.
func loopback(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 {
			return i.Name
		}
	}
	t.Skip("no loopback interface")
	return ""
}

func haveIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}

// Listen returns the endpoint that it has bound, to which a socket can connect.
func TestListen(t *testing.T) {
	for text, c := range map[string]struct {
		prefix string
		ipv6   bool
	}{
		"tcp://127.0.0.1:*":           {"tcp://127.0.0.1:", false},
		"tcp://127.0.0.1:0":           {"tcp://127.0.0.1:", false},
		"tcp://localhost:*":           {"tcp://127.0.0.1:", false},
		"tcp://*:*":                   {"tcp://0.0.0.0:", false},
		"tcp://" + loopback(t) + ":*": {"tcp://127.0.0.1:", false},
		"tcp://[::1]:*":               {"tcp://[::1]:", true},
		"tcp://::1:*":                 {"tcp://[::1]:", true},
	} {
		if c.ipv6 && !haveIPv6() {
			continue
		}
		pull := NewPull(Config{})
		bound, err := pull.Listen(text)
		if err != nil || !strings.HasPrefix(bound, c.prefix) || strings.HasSuffix(bound, ":0") {
			t.Errorf("Listen %s: %s, %v", text, bound, err)
		}
		exchange1(t, pull, strings.Replace(bound, "0.0.0.0", "127.0.0.1", 1))
		if _, err := pull.Listen(bound); err == nil {
			t.Errorf("Listen %s a second time", bound)
		}
		closeNow(t, pull)
	}
	if haveIPv6() {
		pull := NewPull(Config{IPv6: true})
		defer closeNow(t, pull)
		bound, err := pull.Listen("tcp://*:*")
		if err != nil || !strings.HasPrefix(bound, "tcp://[::]:") {
			t.Fatal(bound, err)
		}
		port := strings.TrimPrefix(bound, "tcp://[::]:")
		exchange1(t, pull, "tcp://::1:"+port)
		exchange1(t, pull, "tcp://127.0.0.1:"+port)
		exchange1(t, pull, "tcp://127.0.0.1:0;127.0.0.1:"+port)
	}
}

// exchange1 sends a message to a Pull that listens at endpoint.
func exchange1(t *testing.T, pull *Pull, endpoint string) {
	t.Helper()
	push := NewPush(Config{}, PushOptions{})
	defer shutdown(t, push)
	if err := push.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := push.Send(ctx, NewMessageString("through "+endpoint)); err != nil {
		t.Fatal(err)
	}
	m, err := pull.Recv(ctx)
	if err != nil || text(m) != "through "+endpoint {
		t.Fatalf("%q, %v", text(m), err)
	}
	if m.Peer().Endpoint() == "" || m.Peer().Remote() == nil || m.Peer().SocketType() != "PUSH" {
		t.Errorf("peer %+v", m.Peer().Stats())
	}
}

func TestListenIPC(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths differ")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	pull := NewPull(Config{})
	defer closeNow(t, pull)
	for _, text := range []string{"ipc://" + path, "ipc://*"} {
		bound, err := pull.Listen(text)
		if err != nil || !strings.HasPrefix(bound, "ipc:///") {
			t.Fatal(bound, err)
		}
		exchange1(t, pull, bound)
		if _, err := pull.Listen(bound); err == nil {
			t.Errorf("a second socket took %s from a live one", bound)
		}
		exchange1(t, pull, bound) // which has not noticed
		if err := pull.Unbind(bound); err != nil {
			t.Fatal(err)
		}
	}

	// A path that a dead process left behind.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal("the test leaves nothing behind", err)
	}
	bound, err := pull.Listen("ipc://" + path)
	if err != nil {
		t.Fatal(err)
	}
	exchange1(t, pull, bound)

	// A file that is no socket, and a folder.
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, dir} {
		if _, err := pull.Listen("ipc://" + path); err == nil ||
			!strings.Contains(err.Error(), "is not a socket") {
			t.Errorf("Listen on %s: %v", path, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Error("the file was touched", err)
	}
	if _, err := pull.Listen("ipc://" + filepath.Join(dir, "no", "folder")); err == nil {
		t.Error("Listen in a folder that does not exist")
	}
}

func TestListenAbstract(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has abstract sockets")
	}
	pull := NewPull(Config{})
	defer closeNow(t, pull)
	bound, err := pull.Listen("ipc://@zmtpd-test-" + filepath.Base(t.TempDir()) +
		filepath.Base(filepath.Dir(t.TempDir())))
	if err != nil || !strings.HasPrefix(bound, "ipc://@zmtpd-test-") {
		t.Fatal(bound, err)
	}
	exchange1(t, pull, bound)
}

// When a listener ends, it leaves the socket file of another process alone that has taken its path.
func TestListenIPCRemovesOnlyItsOwnFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths differ")
	}
	path := filepath.Join(t.TempDir(), "s")
	first, second := NewPull(Config{}), NewPull(Config{})
	defer closeNow(t, second)
	if _, err := first.Listen("ipc://" + path); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	bound, err := second.Listen("ipc://" + path)
	if err != nil {
		t.Fatal(err)
	}
	closeNow(t, first)
	exchange1(t, second, bound)
	closeNow(t, second)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket file of a listener that has ended: %v", err)
	}
}

// memTransport connects sockets of one process through a network in memory.
type memTransport struct{ network *zmtptest.Network }

func (m memTransport) Listen(_ context.Context, address string, _ *Config) (net.Listener, string,
	error) {
	l, err := m.network.Listen(address)
	return l, address, err
}

func (m memTransport) Dialer(address string, _ *Config) (func(context.Context) (net.Conn, error),
	error) {
	return func(ctx context.Context) (net.Conn, error) { return m.network.Dial(ctx, address) }, nil
}

// The scheme of an endpoint selects a transport of the application.
func TestConfigTransports(t *testing.T) {
	cfg := Config{Transports: map[string]Transport{"mem": memTransport{new(zmtptest.Network)}}}
	pull, push := NewPull(cfg), NewPush(cfg, PushOptions{})
	defer closeNow(t, pull)
	defer closeNow(t, push)
	bound, err := pull.Listen("mem://somewhere")
	if err != nil || bound != "mem://somewhere" {
		t.Fatal(bound, err)
	}
	if err := push.Connect(bound); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := push.Send(ctx, NewMessageString("hello")); err != nil {
		t.Fatal(err)
	}
	if m, err := pull.Recv(ctx); err != nil || text(m) != "hello" {
		t.Fatalf("%q, %v", text(m), err)
	}
}
