package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

// TestStore uses a store of zmtpd up with its tools, kills the daemon, and finds everything again.
func TestStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clients, token := filepath.Join(dir, "clients"), filepath.Join(dir, "token")
	writeFile(t, clients, `clients: [{name: ops, token: 0123456789abcdef, read: ["*"], write: [hosts]}]`)
	writeFile(t, token, "0123456789abcdef\n")
	flags := []string{"up", "--dir", t.TempDir(), "--store", "hosts,notes", "--store-dir", dir,
		"--store-http", "127.0.0.1:0", "--store-clients", clients}
	up := startDaemon(t, flags...)
	run := func(stdin, command, store string, args ...string) string {
		t.Helper()
		return runTool(t, strings.NewReader(stdin), append([]string{"store", command, "--url",
			up.Endpoint("STORE"), "--token-file", token, store}, args...)...)
	}
	refused := func(want, command, store string, args ...string) {
		t.Helper()
		p := start(t, nil, append([]string{"store", command, "--url", up.Endpoint("STORE"), store}, args...)...)
		if status := p.Wait(); status != 1 || !strings.Contains(p.Stderr.String(), want) {
			t.Errorf("%s %v: exit status %d, %s, want %s", command, args, status, p.Stderr.String(), want)
		}
	}
	run("", "put", "hosts", "a", "hello")
	run("", "put", "hosts", "addr:10.0.0.1", "vector[count]:1,2", "--ttl", "1h")
	if got := run("", "get", "hosts", "addr:10.0.0.1"); got != "[1, 2]\n" {
		t.Errorf("got %q", got)
	}
	refused("Authorization", "get", "hosts", "a")
	refused("may not", "put", "notes", "a", "b", "--token-file", token)
	refused("condition", "put", "hosts", "a", "b", "--unique", "--token-file", token)
	refused("no_such_key", "get", "hosts", "b", "--token-file", token)
	refused("no_such_master", "get", "others", "b", "--token-file", token)

	watch := start(t, nil, "store", "watch", "--url", up.Endpoint("STORE"), "--token-file", token, "hosts")
	testkit.Eventually(t, "the watch", func() bool { return up.Metric("zmtpd_store_http_watches") == 1 })
	dump := run("", "dump", "hosts")
	run(dump, "load", "hosts", "--clear")
	testkit.Eventually(t, "the changes", func() bool {
		return strings.Contains(watch.Stdout.String(), `"change":"put","key":"a"`)
	})
	var status struct {
		Store struct {
			Stores []storeStatus `json:"stores"`
		} `json:"store"`
	}
	up.Status(&status)
	if s := status.Store.Stores; len(s) != 2 || s[0].Keys != 2 || s[0].Writes.Count != 3 ||
		up.Metric(`zmtpd_store_keys{store="hosts"}`) != 2 ||
		up.Metric(`zmtpd_store_http_requests_total{result="forbidden"}`) != 1 {
		t.Errorf("%+v", s)
	}

	up.Signal(os.Kill)
	<-up.Done()
	up = startDaemon(t, flags...)
	if got := run("", "keys", "hosts"); got != "a\n"+`{"@data-type":"address","data":"10.0.0.1"}`+"\n" {
		t.Errorf("keys %q", got)
	}
	if got := run("", "get", "hosts", "a", "--json"); !strings.Contains(got, `"who":"ops"`) {
		t.Error(got)
	}
	up.Terminate()

	writeFile(t, filepath.Join(dir, "hosts.sqlite"), "damaged")
	p := start(t, nil, flags...)
	if status := p.Wait(); status != 1 || !strings.Contains(p.Stderr.String(), "stays as it is") {
		t.Errorf("a damaged file: exit status %d, %s", status, p.Stderr.String())
	}
}

// TestStoreClone follows a store of another process over its broker.
func TestStoreClone(t *testing.T) {
	t.Parallel()
	flags := []string{"up", "--store-dir", "", "--store-http", "127.0.0.1:0"}
	master := startDaemon(t, append(flags, "--dir", t.TempDir(), "--store", "hosts")...)
	at := []string{"--store-xsub", master.Endpoint("XSUB"), "--store-xpub", master.Endpoint("XPUB")}
	clone := startDaemon(t, slices.Concat(flags, at, []string{"--dir", t.TempDir(), "--store-clone",
		"hosts"})...) // it is ready once it has a snapshot
	runTool(t, nil, "store", "put", "--url", master.Endpoint("STORE"), "hosts", "a", "b")
	testkit.Eventually(t, "the change in the clone", func() bool {
		return runTool(t, nil, "store", "keys", "--url", clone.Endpoint("STORE"), "hosts") == "a\n"
	})
	// Writes at the clone go to the master.
	runTool(t, nil, "store", "put", "--url", clone.Endpoint("STORE"), "hosts", "c", "d")
	got := runTool(t, nil, "store", "get", "--url", master.Endpoint("STORE"), "hosts", "c", "--json")
	if !strings.Contains(got, `"value":"d"`) || !strings.Contains(got, `"who":"http@zmtpd_`) {
		t.Errorf("the master has %q", got)
	}
	again := start(t, nil, "store", "put", "--unique", "--url", clone.Endpoint("STORE"), "hosts", "c",
		"e")
	if status := again.Wait(); status != 1 || !strings.Contains(again.Stderr.String(), "condition") {
		t.Errorf("a condition at the clone: exit status %d, %s", status, again.Stderr.String())
	}
	testkit.Eventually(t, "the master to count its clone", func() bool {
		return master.Metric(`zmtpd_store_clones{store="hosts"}`) == 1 &&
			master.Metric(`zmtpd_store_clones_behind{store="hosts"}`) == 0
	})
	if clone.Metric(`zmtpd_store_clone_stale{store="hosts"}`) != 0 ||
		clone.Metric(`zmtpd_store_clone_snapshots_total{store="hosts"}`) != 1 {
		t.Error("the clone is stale, or has not had one snapshot")
	}
	second := start(t, nil, slices.Concat(flags, at, []string{"--dir", t.TempDir(), "--store", "hosts"})...)
	if status := second.Wait(); status != 1 || !strings.Contains(second.Stderr.String(), "master_exists") {
		t.Errorf("the second master: exit status %d, %s", status, second.Stderr.String())
	}
}
