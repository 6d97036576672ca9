package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/forwarder/netnstest"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// linkOf returns the interface with an address.
func linkOf(t *testing.T, address string) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		addrs, _ := i.Addrs() // it may be that of another test, and gone
		for _, a := range addrs {
			if strings.HasPrefix(a.String(), address+"/") {
				return i.Name
			}
		}
	}
	t.Fatalf("no interface has the address %s", address)
	return ""
}

// What a node in another network namespace sends over a link is shown, with the ring's counters.
func TestCaptureLive(t *testing.T) {
	t.Parallel()
	host := netnstest.New(t)
	pull := start(t, nil, "pull", "--bind", "tcp://"+host.Here+":*")
	endpoint := strings.TrimPrefix(pull.boundEndpoint(), "tcp://")
	_, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, "capture", "live", "-i", linkOf(t, host.Here), "--format", "json",
		"--stats-interval", "100ms", "tcp", "port", port)
	testkit.Eventually(t, "the ring is open", func() bool {
		return strings.Contains(p.Stderr.String(), "capturing on")
	})
	var conn net.Conn
	testkit.Eventually(t, "the link is up", func() bool {
		conn, err = host.Dial(endpoint)
		return err == nil
	})
	defer conn.Close()
	b := wire.AppendGreeting(nil, "NULL", false)
	b = wire.AppendCommand(b, wire.CmdReady, wire.AppendProperty(nil, wire.PropSocketType,
		[]byte("PUSH")))
	b = wire.AppendFrame(b, 0, []byte("hello over the link"))
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the message is shown", func() bool {
		return strings.Contains(p.Stdout.String(), "hello over the link") &&
			strings.Contains(p.Stderr.String(), "packets received")
	})
	p.Terminate()
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d: %s", status, p.Stderr.String())
	}
	messages := 0
	for s := bufio.NewScanner(strings.NewReader(p.Stdout.String())); s.Scan(); {
		var o map[string]any
		if err := json.Unmarshal(s.Bytes(), &o); err != nil {
			t.Fatal(err)
		}
		if o["kind"] == "message" {
			messages++
		}
	}
	if messages != 1 {
		t.Errorf("%d messages: %s", messages, p.Stdout.String())
	}
}

// Two rings count the packets of an interface.
func TestCaptureStats(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("packets can be captured as root only")
	}
	out := runTool(t, nil, "capture", "stats", "-i", "lo", "--rings", "2", "--interval", "50ms",
		"--count", "2", "--format", "json", "--buffer-size", "4MiB")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var o struct {
		Time  time.Time
		Rings []any
	}
	if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &o) != nil || len(o.Rings) != 2 {
		t.Errorf("%s", out)
	}
}

// A daemon's key log decrypts what passed an interface and was written to a file: the logs in it
// are those that the daemon wrote. The log has no long-term key.
func TestCaptureKeyLog(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("packets can be captured as root only")
	}
	keys, dir := newKeyFolder(t), t.TempDir()
	serverKey := keys.addServer("server")
	public, secret := curve.GenerateKeyPair()
	keys.add("replay", public)
	own := filepath.Join(dir, "replay.key")
	pair := curve.Certificate{Public: public, Secret: &secret}
	if err := pair.WriteFiles(own, time.Now()); err != nil {
		t.Fatal(err)
	}
	written, keylog, packets := filepath.Join(dir, "written"), filepath.Join(dir, "keylog"),
		filepath.Join(dir, "packets.pcapng")
	read := filepath.Join(dir, "read")
	for _, name := range []string{written, read} {
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d := startUp(t, written, append(keys.flags(), "--curve-keylog", keylog)...)
	_, port, _ := strings.Cut(strings.TrimPrefix(d.Endpoint("PULL"), "tcp://"), ":")
	live := start(t, nil, "capture", "live", "-q", "-i", "lo", "--write", packets, "tcp port "+port)
	testkit.Eventually(t, "the ring is open", func() bool {
		return strings.Contains(live.Stderr.String(), "capturing on")
	})
	runTool(t, nil, "replay", captureFile("cluster"), "--push", d.Endpoint("PULL"), "--port",
		"15557", "--curve-server-key", serverKey.String(), "--curve-secret-key-file", own+"_secret")
	for _, p := range []*process{d, live} {
		p.Terminate()
		if status := p.Wait(); status != 0 {
			t.Fatalf("exit status %d: %s", status, p.Stderr.String())
		}
	}

	runTool(t, nil, "capture", "read", "-q", "--logs", read, "--keylog", keylog, packets)
	got, want := logs(t, read, false), logs(t, written, false)
	delete(got, ".zmtpd.lock")
	delete(want, ".zmtpd.lock")
	for file, text := range want {
		if got[file] != text {
			t.Errorf("%s differs: %d bytes, want %d", file, len(got[file]), len(text))
		}
	}
	if len(want) < 10 || len(got) != len(want) {
		t.Errorf("%d logs, want %d", len(got), len(want))
	}
	if out := runTool(t, nil, "capture", "read", packets); strings.Contains(out, " log ") ||
		!strings.Contains(out, "encrypted") {
		t.Errorf("without keys: %.2000s", out)
	}

	text, err := os.ReadFile(keylog)
	if err != nil || !strings.HasPrefix(string(text), "CURVE_SHARED ") {
		t.Fatalf("%.100q, %v", text, err)
	}
	if info, err := os.Stat(keylog); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	server, err := curve.ReadCertificate(filepath.Join(keys.server, "server.key_secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]curve.Secret{"server": *server.Secret, "client": secret} {
		if strings.Contains(string(text), s.Text()) ||
			strings.Contains(string(text), hex.EncodeToString(s[:])) {
			t.Errorf("the key log has the long-term secret key of the %s", name)
		}
	}
}
