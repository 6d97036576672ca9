package redis

import (
	"context"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/forwarder/store"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a Server on stores in memory, and returns it and its address. They end with the
// test.
func serve(t testing.TB, cfg Config, stores ...string) (*Server, string) {
	t.Helper()
	if len(stores) == 0 {
		stores = []string{"zeek"}
	}
	var all []*store.Store
	for _, name := range stores {
		s, err := store.Open(store.Config{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	s := New(all, cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error("Shutdown:", err)
		}
		for _, s := range all {
			if err := s.Close(); err != nil {
				t.Error("Close:", err)
			}
		}
	})
	return s, l.Addr().String()
}

// redisServer starts a redis-server and returns its address: a socket in a temporary folder.
func redisServer(t testing.TB) string {
	t.Helper()
	program, err := osexec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is missing; run make test-deps: ", err)
	}
	dir, err := os.MkdirTemp("", "redis") // short, as the path of a socket has to be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	log := new(strings.Builder)
	cmd := osexec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "",
		"--databases", "2", "--dir", dir, "--notify-keyspace-events", "AKE")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(log)
		}
	})
	testkit.Eventually(t, "redis-server listens", func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return socket
}

// dial connects to a server at an address or a socket.
func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(testkit.Patience))
	return c
}

// talk sends bytes to a server, ends sending, and returns all that it answers.
func talk(t testing.TB, address, text string) string {
	t.Helper()
	c := dial(t, address)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	c.(interface{ CloseWrite() error }).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return string(b)
}
