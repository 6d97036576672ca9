package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"

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
