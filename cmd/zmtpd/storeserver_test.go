package main

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"zmtpd/zmtp/testkit"
)

// TestStoreServer runs stores alone, with TLS at both doors: the tool and redis-cli use them, also
// after a SIGHUP with a certificate that cannot be read. A clone follows over a broker elsewhere.
func TestStoreServer(t *testing.T) {
	t.Parallel()
	redisCLI, err := osexec.LookPath("redis-cli")
	if err != nil {
		t.Fatal("redis-cli is missing; run make test-deps: ", err)
	}
	// The certificate of httptest is one for 127.0.0.1.
	server := httptest.NewTLSServer(nil)
	pair := server.TLS.Certificates[0]
	server.Close()
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "certificate"), filepath.Join(dir, "key")
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, certificate, block("CERTIFICATE", pair.Certificate[0]))
	writeFile(t, key, block("PRIVATE KEY", private))

	broker := startDaemon(t, "forwarder")
	share := []string{"--store-xsub", broker.Endpoint("XSUB"), "--store-xpub", broker.Endpoint("XPUB"),
		"--store-http", "127.0.0.1:0"}
	s := startDaemon(t, append([]string{"store-server", "--store", "hosts", "--store-dir", dir,
		"--store-http-certificate", certificate, "--store-http-key", key,
		"--store-redis", "127.0.0.1:0", "--store-redis-certificate", certificate,
		"--store-redis-key", key}, share...)...)
	tool := func(command string, args ...string) string {
		t.Helper()
		return runTool(t, nil, append([]string{"store", command, "--url", s.Endpoint("STORE"), "--ca",
			certificate, "hosts"}, args...)...)
	}
	redis := func(args ...string) string {
		t.Helper()
		host, port, _ := net.SplitHostPort(strings.TrimPrefix(s.Endpoint("REDIS"), "rediss://"))
		cmd := osexec.Command(redisCLI, append([]string{"-h", host, "-p", port, "--tls", "--cacert",
			certificate}, args...)...)
		cmd.Env = testkit.Environ()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli: %v, %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	tool("put", "a", "hello")
	if got := redis("GET", "a"); got != "hello" {
		t.Errorf("redis-cli gets %q", got)
	}
	plain := start(t, nil, "store", "get", "--url", s.Endpoint("STORE"), "hosts", "a")
	if status := plain.Wait(); status != 1 || !strings.Contains(plain.Stderr.String(), "certificate") {
		t.Errorf("without --ca: exit status %d, %s", status, plain.Stderr.String())
	}

	if err := os.Rename(certificate, certificate+".old"); err != nil {
		t.Fatal(err)
	}
	s.Signal(syscall.SIGHUP)
	testkit.Eventually(t, "both doors keep their certificates", func() bool {
		return strings.Count(s.Stderr.String(), "the one read before stays in use") == 2
	})
	if err := os.Rename(certificate+".old", certificate); err != nil {
		t.Fatal(err)
	}
	if got := redis("INCR", "n"); got != "1" {
		t.Errorf("redis-cli increments to %q", got)
	}

	clone := startDaemon(t, append([]string{"store-server", "--store-clone", "hosts"}, share...)...)
	if got := runTool(t, nil, "store", "keys", "--url", clone.Endpoint("STORE"), "hosts"); got != "a\nn\n" {
		t.Errorf("the clone has the keys %q", got)
	}
	if clone.Metric(`zmtpd_memory_used_bytes{kind="stores"}`) == 0 {
		t.Error("the clone does not count in the memory budget")
	}
	var status struct {
		Store struct {
			Stores []storeStatus `json:"stores"`
		} `json:"store"`
	}
	s.Status(&status)
	if all := status.Store.Stores; len(all) != 1 || all[0].Keys != 2 ||
		s.Metric(`zmtpd_store_keys{store="hosts"}`) != 2 ||
		s.Metric(`zmtpd_memory_used_bytes{kind="stores"}`) == 0 {
		t.Errorf("/status: %+v", all)
	}
	s.Terminate()
	clone.Terminate()
}
