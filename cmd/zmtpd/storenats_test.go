package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"zmtpd/forwarder/store/jetstream/testdata/natstest"
	"zmtpd/zmtp/testkit"
)

// TestStoreNATS: a store in NATS survives the end of zmtpd and of NATS, is refused to a second
// process, and says when it cannot be written to.
func TestStoreNATS(t *testing.T) {
	t.Parallel()
	nats := natstest.Start(t, func(o *server.Options) {
		o.Username, o.Password = "zmtpd", "secret"
	})
	dir := t.TempDir()
	password, wrong := filepath.Join(dir, "password"), filepath.Join(dir, "wrong")
	writeSecret(t, password, "secret\n")
	writeSecret(t, wrong, "guess\n")
	flags := func(more ...string) []string {
		return append([]string{"up", "--dir", t.TempDir(), "--store", "hosts",
			"--store-http", "127.0.0.1:0", "--store-nats", nats.URL,
			"--store-nats-user", "zmtpd"}, more...)
	}
	up := startDaemon(t, flags("--store-nats-password-file", password)...)
	run := func(args ...string) string {
		t.Helper()
		return runTool(t, nil, append([]string{"store", args[0], "--url", up.Endpoint("STORE"),
			"hosts"}, args[1:]...)...)
	}
	run("put", "a", "hello")
	var status struct {
		Store struct {
			Stores []storeStatus `json:"stores"`
		} `json:"store"`
	}
	up.Status(&status)
	if s := status.Store.Stores[0]; s.NATS == nil || !s.NATS.Connected || s.NATS.Replicas != 1 ||
		strings.Contains(s.NATS.Server, "secret") ||
		up.Metric(`zmtpd_store_nats_connected{store="hosts"}`) != 1 {
		t.Errorf("%+v", s.NATS)
	}
	good := []string{"--store-nats-password-file", password}
	for want, args := range map[string][]string{
		"master_exists":        good,
		"Authorization":        {"--store-nats-password-file", wrong},
		"give both or none":    nil,
		"others could read":    append(good, "--store-nats", "nats://a:b@127.0.0.1"),
		"give one of":          append(good, "--store-nats-token-file", password),
		"no such file":         {"--store-nats-password-file", password + "x"},
		"NATS has 1 to 5":      append(good, "--store-nats-replicas", "0"),
		"store-nats-key: give": append(good, "--store-nats-certificate", "x"),
	} {
		p := start(t, nil, flags(args...)...)
		if status := p.Wait(); status == 0 || !strings.Contains(p.Stderr.String(), want) {
			t.Errorf("%v: exit status %d, %s, want %s", args, status, p.Stderr.String(), want)
		}
	}

	nats.Stop()
	testkit.Eventually(t, "the loss of the connection", func() bool {
		return up.Metric(`zmtpd_store_nats_connected{store="hosts"}`) == 0
	})
	if got := run("get", "a"); got != "\"hello\"\n" {
		t.Errorf("without NATS %q is read", got)
	}
	p := start(t, nil, "store", "put", "--url", up.Endpoint("STORE"), "hosts", "a", "refused")
	if status := p.Wait(); status != 1 || !strings.Contains(p.Stderr.String(), "backend_failure") {
		t.Errorf("exit status %d, %s", status, p.Stderr.String())
	}
	nats.Restart(t)
	testkit.Eventually(t, "a write that is taken", func() bool {
		p := start(t, nil, "store", "put", "--url", up.Endpoint("STORE"), "hosts", "b", "later")
		return p.Wait() == 0
	})

	up.Signal(os.Kill)
	<-up.Done()
	up = startDaemon(t, flags("--store-nats-password-file", password)...)
	if got := run("get", "a") + run("get", "b"); got != "\"hello\"\n\"later\"\n" {
		t.Errorf("got %q", got)
	}
	up.Terminate()
}

func writeSecret(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
