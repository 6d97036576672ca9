//go:build unix

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDescriptorsAtStart starts the daemon under a low limit.
func TestDescriptorsAtStart(t *testing.T) {
	t.Parallel()
	zmtpd, err := exec.LookPath("zmtpd")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c",
		`ulimit -n 200 && exec "$0" forwarder --xsub tcp://127.0.0.1:* --xpub tcp://nowhere.invalid:1 --http ""`, zmtpd)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "limit=200 enough_for_nodes=50") {
		t.Errorf("%v: %s", err, out)
	}
}
