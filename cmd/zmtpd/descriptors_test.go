//go:build unix

package main

import (
	"bytes"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
)

func TestWarnDescriptors(t *testing.T) {
	for limit, want := range map[uint64]string{
		wantedDescriptors:     "",
		wantedDescriptors - 1: "enough_for_nodes=999 needed_for_1000_nodes=4024",
		1024:                  "enough_for_nodes=0 ",
		10:                    "enough_for_nodes=0 ",
	} {
		var out bytes.Buffer
		warnDescriptors(slog.New(slog.NewTextHandler(&out, nil)), limit)
		if !strings.Contains(out.String(), want) || (want == "") != (out.Len() == 0) {
			t.Errorf("limit %d: %q, want %q", limit, out.String(), want)
		}
	}
}

// TestDescriptorsAtStart starts the daemon under a low limit.
func TestDescriptorsAtStart(t *testing.T) {
	t.Parallel()
	zmtpd, err := exec.LookPath("zmtpd")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `ulimit -n 200 && exec "$0" forwarder --xsub tcp://127.0.0.1:* --xpub tcp://nowhere.invalid:1 --http ""`, zmtpd)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "limit=200 enough_for_nodes=0") {
		t.Errorf("%v: %s", err, out)
	}
}
