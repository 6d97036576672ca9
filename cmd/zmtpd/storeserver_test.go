package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
	dir := t.TempDir()
	certificate, key := certificateOf127(t, dir)

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

// certificateOf127 writes a certificate for 127.0.0.1, which is its own authority, and its key.
func certificateOf127(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "certificate"), filepath.Join(dir, "key")
	writeFile(t, certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	return certificate, key
}

// TestStoreClientCertificates: clients at both doors need a certificate of an authority.
func TestStoreClientCertificates(t *testing.T) {
	t.Parallel()
	redisCLI, err := osexec.LookPath("redis-cli")
	if err != nil {
		t.Fatal("redis-cli is missing; run make test-deps: ", err)
	}
	dir := t.TempDir()
	certificate, key := certificateOf127(t, dir)
	s := startDaemon(t, "store-server", "--store", "hosts", "--store-dir", "",
		"--store-http", "127.0.0.1:0", "--store-http-certificate", certificate,
		"--store-http-key", key, "--store-http-client-ca", certificate,
		"--store-redis", "127.0.0.1:0", "--store-redis-certificate", certificate,
		"--store-redis-key", key, "--store-redis-client-ca", certificate)
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(s.Endpoint("REDIS"), "rediss://"))
	for _, with := range []bool{true, false} {
		tool := []string{"store", "put", "--url", s.Endpoint("STORE"), "--ca", certificate}
		redis := []string{"-h", host, "-p", port, "--tls", "--cacert", certificate}
		if with {
			tool = append(tool, "--certificate", certificate, "--key", key)
			redis = append(redis, "--cert", certificate, "--key", key)
		}
		p := start(t, nil, append(tool, "hosts", "a", "b")...)
		if status := p.Wait(); (status == 0) != with {
			t.Errorf("the tool, certificate %v: exit status %d, %s", with, status, p.Stderr.String())
		}
		cmd := osexec.CommandContext(testkit.Context(t), redisCLI, append(redis, "SET", "c", "d")...)
		cmd.Env = testkit.Environ()
		out, _ := cmd.CombinedOutput()
		if (strings.TrimSpace(string(out)) == "OK") != with {
			t.Errorf("redis-cli, certificate %v: %s", with, out)
		}
	}
	s.Terminate()
}
