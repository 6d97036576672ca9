package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"zmtpd/cmd/zmtpd/doctor"
	"zmtpd/forwarder/store/jetstream/testdata/natstest"
	"zmtpd/zmtp/testkit"
)

// ofMachine are faults of the machine on which the tests run. A set-up is healthy in spite of them.
var ofMachine = []string{"clock-not-synchronized", "descriptors-low", "memory-low", "disk-full",
	"disk-slow", "spool-in-memory"}

// examine runs zmtpd doctor and returns its exit status and its report without faults of the
// machine.
func examine(t *testing.T, args ...string) (status int, r doctor.Report) {
	t.Helper()
	var out, errs bytes.Buffer
	status = report(&errs, run(t.Context(), append([]string{"doctor", "--json"}, args...), nil, &out,
		&errs))
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %q, standard error %q", err, out.String(), errs.String())
	}
	if want := map[bool]int{true: 0, false: 1}[r.Healthy]; status != want {
		t.Errorf("healthy %v, exit status %d", r.Healthy, status)
	}
	all := len(r.Faults)
	r.Faults = slices.DeleteFunc(r.Faults, func(f doctor.Finding) bool {
		return slices.Contains(ofMachine, f.Fault)
	})
	if all > 0 && len(r.Faults) == 0 {
		status = 0
	}
	return status, r
}

// wantFault fails the test if a fault is not found.
func wantFault(t *testing.T, r doctor.Report, fault, what string) {
	t.Helper()
	for _, f := range r.Faults {
		if f.Fault == fault && strings.Contains(f.What, what) {
			return
		}
	}
	t.Errorf("no %s with %q in %+v", fault, what, r.Faults)
}

// wantHealthy fails the test if there are faults.
func wantHealthy(t *testing.T, status int, r doctor.Report) {
	t.Helper()
	if status != 0 || len(r.Faults) > 0 {
		t.Errorf("exit status %d, faults %+v", status, r.Faults)
	}
}

// zeekFiles writes the README's files for Zeek with the endpoints of a daemon.
func zeekFiles(t *testing.T, xsub, xpub, pull string) (layout, script string) {
	t.Helper()
	dir := t.TempDir()
	layout, script = filepath.Join(dir, "cluster-layout.zeek"), filepath.Join(dir, "zmtpd.zeek")
	writeFile(t, layout, `redef Cluster::nodes = {
	["manager"] = [$node_type=Cluster::MANAGER, $ip=127.0.0.1, $p=0/tcp],
	["proxy-1"] = [$node_type=Cluster::PROXY, $ip=127.0.0.1, $p=0/tcp],
};
redef Cluster::manager_is_logger = F;
`)
	writeFile(t, script, fmt.Sprintf(`redef Cluster::Backend::ZeroMQ::run_proxy_thread = F;
redef Cluster::Backend::ZeroMQ::connect_xpub_endpoint = %q;
redef Cluster::Backend::ZeroMQ::connect_xsub_endpoint = %q;
redef Cluster::Backend::ZeroMQ::connect_log_endpoints += vector(%q);
`, xsub, xpub, pull))
	return layout, script
}

// The doctor finds nothing on zmtpd up, with and without keys and with Zeek's scripts, and finds
// what is changed then.
func TestDoctorUp(t *testing.T) {
	dir := t.TempDir()
	up := startDaemon(t, "up", "--xsub", "tcp://127.0.0.1:*", "--xpub", "tcp://127.0.0.1:*",
		"--listen", "tcp://127.0.0.1:*", "--dir", dir)
	xsub, xpub, pull := up.Endpoint("XSUB"), up.Endpoint("XPUB"), up.Endpoint("PULL")
	http := strings.TrimPrefix(up.Endpoint("HTTP"), "http://")
	daemon := []string{"up", "--xsub", xsub, "--xpub", xpub, "--listen", pull, "--dir", dir,
		"--http", http}
	status, r := examine(t, daemon...)
	wantHealthy(t, status, r)

	// The nodes of the layout are not there; all else is well.
	layout, script := zeekFiles(t, xsub, xpub, pull)
	files := []string{"--layout", layout, "--script", script}
	_, r = examine(t, append(files, daemon...)...)
	wantFault(t, r, "nodes-missing", "manager")
	r.Faults = slices.DeleteFunc(r.Faults, func(f doctor.Finding) bool {
		return f.Fault == "nodes-missing"
	})
	wantHealthy(t, 0, r)

	// The operator swaps the ports.
	layout, swapped := zeekFiles(t, xpub, xsub, pull)
	_, r = examine(t, append([]string{"--layout", layout, "--script", swapped}, daemon...)...)
	wantFault(t, r, "ports-swapped", "--xpub of zmtpd")
	// The same for a zmtpd whose configuration is unknown: the sockets tell.
	_, r = examine(t, append([]string{"--layout", layout, "--script", swapped, "--status", http},
		"balance", "--listen", "tcp://127.0.0.1:*", "--to", pull)...)
	wantFault(t, r, "ports-swapped", "an XPUB socket listens at")

	if n := up.status().Forwarder.Account.Matched; n != 0 {
		t.Errorf("the doctor sent %d messages", n)
	}
}

func TestDoctorZeekctl(t *testing.T) {
	zeek := t.TempDir()
	port := consecutivePorts(t)
	xpub, xsub := fmt.Sprintf("tcp://127.0.0.1:%d", port), fmt.Sprintf("tcp://127.0.0.1:%d", port+1)
	d := startDaemon(t, "forwarder", "--xsub", xsub, "--xpub", xpub)
	for name, text := range map[string]string{
		"etc/node.cfg": "[manager]\ntype=manager\nhost=127.0.0.1\n[proxy-1]\ntype=proxy\n" +
			"host=127.0.0.1\n[worker-1]\ntype=worker\nhost=127.0.0.1\n",
		"etc/zeekctl.cfg":            fmt.Sprintf("ZeekPort = %d\n", port),
		"share/zeek/site/local.zeek": "redef Cluster::Backend::ZeroMQ::run_proxy_thread = F;\n",
		"bin/zeek": "#!/bin/sh\ncase $1 in\n--version) echo zeek version 8.1.0;;\n" +
			"-N) echo Zeek::Cluster_Backend_ZeroMQ;;\nesac\n",
	} {
		path := filepath.Join(zeek, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, text)
	}
	if err := os.Chmod(filepath.Join(zeek, "bin/zeek"), 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"--zeek", zeek, "forwarder", "--xsub", xsub, "--xpub", xpub, "--http",
		strings.TrimPrefix(d.Endpoint("HTTP"), "http://")}
	_, r := examine(t, args...)
	for _, f := range r.Faults {
		if f.Fault != "nodes-missing" { // there is no Zeek
			t.Errorf("fault %+v", f)
		}
	}
	if len(r.Faults) != 3 || !strings.Contains(strings.Join(r.Checked, "\n"), "zeek version 8.1.0") {
		t.Errorf("report %+v", r)
	}
}

// consecutivePorts returns the first of two ports at which nobody listens.
func consecutivePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := testkit.ReservePort(t)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no two consecutive ports are free")
	return 0
}

// Keys of one keygen fit together; those of another do not.
func TestDoctorCurve(t *testing.T) {
	dir := t.TempDir()
	keys, others := filepath.Join(dir, "keys"), filepath.Join(dir, "others")
	runTool(t, nil, "keygen", "--zeek", keys)
	runTool(t, nil, "keygen", "--zeek", others)
	security := []string{"--curve-secret-key-file", filepath.Join(keys, "server"),
		"--curve-clients", filepath.Join(keys, "clients")}
	d := startDaemon(t, append([]string{"forwarder"}, security...)...)
	xsub, xpub := d.Endpoint("XSUB"), d.Endpoint("XPUB")
	layout, script := zeekFiles(t, xsub, xpub, "tcp://127.0.0.1:1")
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	// The logger is none of this test.
	writeFile(t, script, strings.Join(strings.Split(string(text), "\n")[:3], "\n"))
	args := func(keys string) []string {
		return append([]string{"--layout", layout, "--script", script, "--script",
			filepath.Join(keys, "curve.zeek"), "forwarder", "--xsub", xsub, "--xpub", xpub, "--http",
			strings.TrimPrefix(d.Endpoint("HTTP"), "http://")}, security...)
	}
	_, r := examine(t, args(keys)...)
	for _, f := range r.Faults {
		if f.Fault != "nodes-missing" && f.Fault != "logs-nowhere" {
			t.Errorf("fault %+v", f)
		}
	}
	_, r = examine(t, args(others)...)
	wantFault(t, r, "keys-differ", "zmtpd's public key")
	wantFault(t, r, "keys-refused", "does not have the secret key")
}

// A server of NATS says what it is to whoever connects, and demands credentials.
func TestDoctorNATS(t *testing.T) {
	nats := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "zmtpd", "secret" })
	password := filepath.Join(t.TempDir(), "password")
	writeSecret(t, password, "secret\n")
	args := []string{"store-server", "--store", "hosts", "--store-nats", nats.URL, "--http",
		"127.0.0.1:0", "--store-http", "127.0.0.1:0"}
	_, r := examine(t, args...)
	wantFault(t, r, "nats-unsuitable", "demands credentials")
	_, r = examine(t, append(args, "--store-nats-user", "zmtpd", "--store-nats-password-file",
		password)...)
	if len(r.Faults) != 1 {
		t.Errorf("faults %+v", r.Faults)
	}
	wantFault(t, r, "nobody-listens", "it does not run")
	nats.Stop()
	_, r = examine(t, args...)
	wantFault(t, r, "nats-unreachable", "refused")
}

// A configuration with a fault is a finding, a wrong flag of the doctor is not.
func TestDoctorUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "zmtpd.yaml")
	writeFile(t, file, "sndhw: 5\n")
	_, r := examine(t, "--offline", "up", "--config", file)
	wantFault(t, r, "zmtpd-configuration", `the nearest name is "sndhwm"`)
	_, r = examine(t, "--offline", "up", "--store", "s", "--store-http", "127.0.0.1:5555",
		"--store-dir", filepath.Join(file, "missing"))
	wantFault(t, r, "port-conflict", "--store-http both want port 5555")
	wantFault(t, r, "folder-not-writable", "missing")
	for _, command := range [][]string{{"up", "--dir", t.TempDir()}, {"store-server"}} {
		_, r = examine(t, slices.Concat([]string{"--offline"}, command, []string{"--store", "s",
			"--store-redis", "0.0.0.0:9321", "--store-dir",
			filepath.Join(t.TempDir(), "is", "made")})...)
		wantFault(t, r, "port-conflict", "--store-redis and --http both want port 9321")
		wantFault(t, r, "store-open", "tcp://0.0.0.0:9321 is not encrypted")
		wantFault(t, r, "store-open", "tcp://0.0.0.0:9321 asks nobody for a token")
	}
	_, r = examine(t, "--offline", "up", "--store", "s", "--store-nats", "nats://127.0.0.1:1",
		"--store-nats-token-file", "/nonexistent")
	wantFault(t, r, "zmtpd-configuration", "credentials for --store-nats")
	for _, args := range [][]string{{"--nonsense"}, {"--", "sub"}} {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"doctor"}, args...), nil, &out, &out)
		if status := report(&out, err); status != 2 {
			t.Errorf("%q: exit status %d: %s", args, status, out.String())
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"doctor", "--offline", "up", "--dir", "/nonexistent"}, nil, &out,
		&out); report(&out, err) != 1 || !strings.Contains(out.String(), "[folder-missing]\n") {
		t.Errorf("text %s", out.String())
	}
}
