package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rules is the part of a file of Prometheus rules that the test looks at.
type rules struct {
	Groups []struct {
		Rules []struct {
			Record, Alert, Expr string
			Labels              map[string]string
			Annotations         map[string]string
		}
	}
}

var (
	metricName   = regexp.MustCompile(`\bzmtpd_[a-z0-9_]+`)
	recordedName = regexp.MustCompile(`\bzmtpd:[a-z0-9_:]+`)
)

// The rules for Prometheus use metrics and labels that there are.
func TestPrometheusRules(t *testing.T) {
	t.Parallel()
	const file = "../../docs/prometheus/zmtpd.rules.yml"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all rules
	if err := yaml.Unmarshal(content, &all); err != nil {
		t.Fatal(err)
	}
	up := startDaemon(t, "up", "--dir", t.TempDir(), "--spool", t.TempDir())
	_, metrics := up.Get("/metrics")
	alerts := 0
	for _, g := range all.Groups {
		for _, r := range g.Rules {
			for _, name := range metricName.FindAllString(r.Expr, -1) {
				if !strings.Contains(metrics, "\n"+name+"{") &&
					!strings.Contains(metrics, "\n"+name+" ") &&
					!strings.Contains(metrics, "# TYPE "+name+" ") {
					t.Errorf("%s%s: there is no metric %s", r.Alert, r.Record, name)
				}
			}
			if r.Record != "" {
				if !recordedName.MatchString(r.Record) {
					t.Errorf("%s is no name for a recorded series", r.Record)
				}
				continue
			}
			alerts++
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" ||
				r.Labels["severity"] == "" {
				t.Errorf("%s lacks a summary, a description or a severity", r.Alert)
			}
		}
	}
	if alerts < 8 {
		t.Errorf("only %d alerts were found", alerts)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("there is no promtool; Debian's package prometheus has it")
		return
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
