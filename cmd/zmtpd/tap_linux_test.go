package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zmtpd/zmtp/testkit"
)

// A full disk affects the file of the tap only, and not even that if there is room soon enough.
// What does not fit is counted, and the file has whole messages.
func TestTapFullDisk(t *testing.T) {
	t.Parallel()
	dir := testkit.Tmpfs(t, 4<<20)
	file, filler := filepath.Join(dir, "tap"), filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 3<<20+512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, "forwarder", "--xsub", anyPort, "--xpub", anyPort, "--tap-file", file)
	sub := subscribe(t, d.Endpoint("XPUB"), "t")
	testkit.Eventually(t, "the subscriber", func() bool { return d.status().Forwarder.Topics == 1 })
	pub := publisher(t, d, 1)
	sent := 0
	send := func(n int) {
		t.Helper()
		body := strings.Repeat("x", 10<<10)
		for range n {
			publish(t, pub, "t", fmt.Sprint(sent), body)
			if m, err := sub.Recv(testkit.Context(t)); err != nil ||
				string(m.Part(1)) != fmt.Sprint(sent) {
				t.Fatalf("%v, %q", err, m.Part(1))
			}
			sent++
		}
	}
	send(200)
	testkit.Eventually(t, "the disk to be full",
		func() bool {
			return strings.Contains(d.Stderr.String(),
				"cannot be written; trying again")
		})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the file to be written",
		func() bool { return d.Metric("zmtpd_tap_file_messages_total") == 200 })
	d.wantLogged("is written again")
	if log := d.Stderr.String(); strings.Count(log, "cannot be written") != 1 ||
		strings.Count(log, "is written again") != 1 {
		t.Error("beginning and end are not logged once each")
	}

	send(400) // which do not fit
	testkit.Eventually(t, "the disk to be full again",
		func() bool { return strings.Count(d.Stderr.String(), "cannot be written") == 2 })
	send(100)
	d.Terminate()
	all := readRecording(t, file)
	for i, m := range all {
		if !strings.HasPrefix(m, fmt.Sprintf("t|%d|", i)) {
			t.Fatalf("message %d of the file is %.20q", i, m)
		}
	}
	if len(all) < 300 || len(all) > 410 {
		t.Errorf("%d messages in the file", len(all))
	}
	if s := d.summary("forwarder"); s["received"] != 700 || s["sent"] != 700 || s["dropped"] != 0 ||
		s["tap_dropped"] != uint64(700-len(all)) {
		t.Errorf("%d messages in the file, summary %v", len(all), s)
	}
}
