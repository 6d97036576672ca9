package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"testing"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/reference"
)

// The pages in docs that are made from the code are current. With ZMTPD_UPDATE=1, which "make
// reference" sets, the test writes them.
func TestReference(t *testing.T) {
	app := grammar(context.Background(), daemon.Stdio{}).Model
	var metrics []reference.Metric
	for _, m := range daemon.Metrics() {
		kind := "gauge"
		if m.IsCounter() {
			kind = "counter"
		}
		metrics = append(metrics, reference.Metric{Name: m.Name, Help: m.Help, Type: kind,
			Labels: m.Labels})
	}
	const configuration = "../../docs/configuration.md"
	for file, want := range map[string][]byte{
		"../../docs/commands.md": reference.Commands(app),
		"../../docs/metrics.md":  reference.Metrics(metrics),
		configuration: replaceMade(t, configuration,
			reference.DaemonFlags(app, daemon.Group, daemon.ReloadTag)),
	} {
		if os.Getenv("ZMTPD_UPDATE") != "" {
			writeFile(t, file, string(want))
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not current; make reference writes it", file)
		}
	}
}

// replaceMade returns a page with another text between its two comments.
func replaceMade(t *testing.T, file string, text []byte) []byte {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(page, []byte("<!-- Made from the code by `make reference`. -->\n"))
	_, after, end := bytes.Cut(rest, []byte("<!-- End. -->\n"))
	if !ok || !end {
		t.Fatalf("%s has no place for text that is made from the code", file)
	}
	return slices.Concat(before, []byte("<!-- Made from the code by `make reference`. -->\n"), text,
		[]byte("<!-- End. -->\n"), after)
}

// Every metric is described once, so that the reference has all of them.
func TestMetricsAreDescribedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range daemon.Metrics() {
		if seen[m.Name] {
			t.Errorf("%s is described twice", m.Name)
		}
		seen[m.Name] = true
	}
	if len(seen) < 80 {
		t.Errorf("only %d metrics are described", len(seen))
	}
}
