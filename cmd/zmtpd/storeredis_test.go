package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
)

// TestStoreRedis uses a store as a client of Redis and over HTTP, with the same token, and finds
// what was answered after a kill -9.
func TestStoreRedis(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clients, token := filepath.Join(dir, "clients"), filepath.Join(dir, "token")
	writeFile(t, clients, `clients: [{name: zeek, token: 0123456789abcdef, read: [hosts],`+
		` write: [hosts/p]}]`)
	writeFile(t, token, "0123456789abcdef\n")
	flags := []string{"up", "--dir", t.TempDir(), "--store", "hosts", "--store-dir", dir,
		"--store-http", "127.0.0.1:0", "--store-redis", "127.0.0.1:0", "--store-clients", clients}
	up := startDaemon(t, flags...)
	talk := func(requests string) string {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(up.Endpoint("REDIS"), "redis://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(testkit.Patience))
		io.WriteString(c, requests+"QUIT\r\n")
		b, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(string(b), "+OK\r\n")
	}
	const auth = "AUTH zeek 0123456789abcdef\r\n"
	if got := talk("GET p\r\nAUTH wrong\r\n"); !strings.HasPrefix(got, "-NOAUTH") ||
		!strings.Contains(got, "-WRONGPASS") {
		t.Errorf("%q", got)
	}
	got := talk(auth + "SET p:1 v NX\r\nINCR p:n\r\nSET q v\r\nFLUSHDB\r\nGET p:1\r\n")
	if !strings.HasPrefix(got, "+OK\r\n+OK\r\n:1\r\n-NOPERM") || !strings.HasSuffix(got, "$1\r\nv\r\n") ||
		strings.Count(got, "-NOPERM") != 2 {
		t.Errorf("%q", got)
	}
	up.Signal(os.Kill)
	<-up.Done()
	up = startDaemon(t, flags...)
	if got := talk("AUTH 0123456789abcdef\r\nMGET p:1 p:n\r\n"); got !=
		"+OK\r\n*2\r\n$1\r\nv\r\n$1\r\n1\r\n" {
		t.Errorf("%q", got)
	}
	if got := runTool(t, nil, "store", "get", "--url", up.Endpoint("STORE"), "--token-file", token,
		"hosts", "p:n", "--json"); !strings.Contains(got, `"who":"zeek"`) {
		t.Error(got)
	}
	if n := up.Metric(`zmtpd_store_redis_commands_total{command="mget"}`); n != 1 {
		t.Error("mget was counted", n)
	}
	up.Terminate()
}
