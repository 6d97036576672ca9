package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

const rulesFile = "../../docs/prometheus/zmtpd.rules.yml"

// rules is the part of a file of Prometheus rules that the tests look at.
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
	selector     = regexp.MustCompile(`(\bzmtpd_[a-z0-9_]+)\{([^}]*)\}`)
	labelName    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!=|!~|=)`)
	byLabels     = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// checkExpression checks that the metrics and labels of an expression are those of the daemons.
func checkExpression(t *testing.T, where, expr string) {
	t.Helper()
	labels := map[string][]string{}
	for _, m := range daemon.Metrics() {
		labels[m.Name] = append([]string{"instance", "job"}, m.Labels...)
	}
	known := []string{"instance", "job"}
	for _, name := range metricName.FindAllString(expr, -1) {
		if labels[name] == nil {
			t.Errorf("%s: there is no metric %s", where, name)
		}
		known = append(known, labels[name]...)
	}
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(labels[m[1]], l[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], l[1])
			}
		}
	}
	for _, m := range byLabels.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			if !slices.Contains(known, strings.TrimSpace(l)) {
				t.Errorf("%s: no metric has the label %s", where, l)
			}
		}
	}
}

// readRules reads the rules for Prometheus.
func readRules(t *testing.T) (all rules) {
	t.Helper()
	content, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// The rules for Prometheus use metrics and labels that there are.
func TestPrometheusRules(t *testing.T) {
	t.Parallel()
	alerts := 0
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			checkExpression(t, r.Alert+r.Record, r.Expr)
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
	promtool(t, "check", "rules", rulesFile)
}

// The dashboards for Grafana use metrics and labels that there are. Prometheus parses the query of
// every panel.
func TestGrafanaDashboards(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../docs/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	queries := "groups:\n- name: panels\n  rules:\n"
	variables := strings.NewReplacer("$__rate_interval", "5m", "$instance", "a")
	for _, file := range files {
		var dashboard struct {
			UID, Title string
			Panels     []struct {
				ID          int
				Type, Title string
				Targets     []struct{ Expr string }
			}
		}
		if err := json.Unmarshal([]byte(readPage(t, file)), &dashboard); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		ids := map[int]bool{}
		for _, p := range dashboard.Panels {
			if ids[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: panel %d %q is used twice, or has no title or query", file, p.ID,
					p.Title)
			}
			ids[p.ID] = true
			for _, target := range p.Targets {
				checkExpression(t, dashboard.Title+", "+p.Title, target.Expr)
				query := variables.Replace(target.Expr)
				if strings.Contains(query, "$") {
					t.Errorf("%s: panel %d has a variable that is not checked: %s", file, p.ID, query)
				}
				// promtool parses the expressions of rules. Each rule has another name.
				queries += fmt.Sprintf("  - {record: %q, expr: %q}\n",
					fmt.Sprintf("panel:%d", strings.Count(queries, "\n")), query)
			}
		}
		if len(ids) < 10 {
			t.Errorf("%s has only %d panels", file, len(ids))
		}
	}
	name := filepath.Join(t.TempDir(), "panels.yml")
	writeFile(t, name, queries)
	promtool(t, "check", "rules", name)
}

// Every metric that a daemon serves is described, so that what the tests above compare with is what
// Prometheus gets.
func TestServedMetricsAreDescribed(t *testing.T) {
	t.Parallel()
	_, served := startDaemon(t, "up", "--dir", t.TempDir(), "--spool", t.TempDir()).Get("/metrics")
	described := map[string]bool{}
	for _, m := range daemon.Metrics() {
		described[m.Name] = true
	}
	n := 0
	for line := range strings.Lines(served) {
		if name, ok := strings.CutPrefix(line, "# TYPE zmtpd_"); ok {
			n++
			if name, _, _ = strings.Cut(name, " "); !described["zmtpd_"+name] {
				t.Errorf("zmtpd_%s is not described", name)
			}
		}
	}
	if n < 40 {
		t.Errorf("%d metrics only", n)
	}
}

// promtool runs promtool. It does nothing if there is none.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		// .ci/test-deps puts it there.
		if tool, err = filepath.Abs("../../bin/promtool"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(tool); err != nil {
			t.Skip("there is no promtool; Debian's package prometheus has it")
		}
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// series returns the samples of a scrape by series, those of zmtpd only.
func series(metrics string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(metrics) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, ' '); i > 0 && strings.HasPrefix(line, "zmtpd_") {
			all[instanceSeries(line[:i])] = line[i+1:]
		}
	}
	return all
}

// instanceSeries adds the labels that Prometheus adds to a series.
func instanceSeries(name string) string {
	if labels, ok := strings.CutSuffix(name, "}"); ok {
		return labels + `,job="zmtpd",instance="a"}`
	}
	return name + `{job="zmtpd",instance="a"}`
}

// alertTest is a test of the rules: what /metrics says for 10 minutes, then for 20, and the alerts
// that fire.
type alertTest struct {
	before, after map[string]string
	up            string // what Prometheus says of its questions after the 10 minutes; "" for "1"
	alerts        []string
}

// runAlertTests runs tests of the rules with promtool.
func runAlertTests(t *testing.T, tests ...alertTest) {
	t.Helper()
	file, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "rule_files: [%q]\nevaluation_interval: 1m\ntests:\n", file)
	for _, test := range tests {
		fmt.Fprintf(&b, "- interval: 1m\n  name: %q\n  input_series:\n"+
			"  - {series: 'up{job=\"zmtpd\",instance=\"a\"}', values: '1x10 %sx20'}\n",
			strings.Join(test.alerts, " "), cmp.Or(test.up, "1"))
		for _, name := range slices.Sorted(maps.Keys(test.after)) {
			fmt.Fprintf(&b, "  - series: '%s'\n    values: '%sx10 %sx20'\n", name,
				cmp.Or(test.before[name], "0"), test.after[name])
		}
		// Rates are over 5 minutes, and alerts wait for some. The first 10 are left out: the clock
		// of promtool begins at 0, so that no time stamp is old.
		b.WriteString("  promql_expr_test:\n  - expr: 'group by (alertname) " +
			"(last_over_time(ALERTS{alertstate=\"firing\"}[20m]))'\n    eval_time: 30m\n" +
			"    exp_samples:")
		if len(test.alerts) == 0 {
			b.WriteString(" []")
		}
		b.WriteByte('\n')
		for _, a := range test.alerts {
			fmt.Fprintf(&b, "    - {labels: '{alertname=\"%s\"}', value: 1}\n", a)
		}
	}
	name := filepath.Join(t.TempDir(), "test.yml")
	writeFile(t, name, b.String())
	promtool(t, "test", "rules", name)
}

// Every alert fires when a series of a real daemon gets the value for which it is there, and no other
// alert does. At rest, none does.
func TestEveryAlertFires(t *testing.T) {
	t.Parallel()
	up := startDaemon(t, "up", "--dir", t.TempDir(), "--store", "hosts", "--store-dir", "",
		"--store-http", "127.0.0.1:0")
	_, metrics := up.Get("/metrics")
	rest := series(metrics)
	var tests []alertTest
	tested := map[string]bool{}
	for _, change := range []struct{ alert, series, value string }{
		{"ZmtpdNotReady", "zmtpd_ready", "0"},
		{"ZmtpdEventsLost", `zmtpd_socket_dropped_messages_total{reason="full",socket="xpub"}`, "1"},
		{"ZmtpdSlowSubscriber", "zmtpd_forwarder_slow_subscribers", "2"},
		{"ZmtpdLogsLost", `zmtpd_sink_dropped_messages_total{reason="write",sink="files"}`, "1"},
		{"ZmtpdNodesWait", `zmtpd_sink_nodes_wait{sink="files"}`, "1"},
		{"ZmtpdSpooling", `zmtpd_sink_spooling{sink="files"}`, "1"},
		{"ZmtpdCannotWriteLogs", "zmtpd_files_last_error_timestamp_seconds", "900"},
		{"ZmtpdStoreNotSaved", `zmtpd_store_failing{store="hosts"}`, "1"},
		{"ZmtpdMemoryExhausted", "zmtpd_memory_closed_total", "1"},
		{"ZmtpdHandshakesFail",
			`zmtpd_socket_handshake_failures_total{reason="auth_refused",socket="xsub"}`, "20"},
	} {
		name := instanceSeries(change.series)
		if rest[name] == "" {
			t.Errorf("%s: the daemon has no series %s", change.alert, change.series)
		}
		tested[change.alert] = true
		tests = append(tests, alertTest{before: map[string]string{name: rest[name]},
			after: map[string]string{name: change.value}, alerts: []string{change.alert}})
	}
	tests, tested["ZmtpdDown"] = append(tests, alertTest{up: "0", alerts: []string{"ZmtpdDown"}}), true
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert != "" && !tested[r.Alert] {
				t.Errorf("no test raises the alert %s", r.Alert)
			}
		}
	}
	runAlertTests(t, append(tests, alertTest{before: rest, after: rest})...)
}

// An overload of a real daemon raises the alerts that there are for it, and a daemon at rest none:
// a subscriber does not read, and Kafka does not answer.
func TestOverloadRaisesAlerts(t *testing.T) {
	t.Parallel()
	up := startListening(t, "up", "--dir", t.TempDir(), "--sink", "files", "--sink", "kafka",
		"--kafka-broker", "127.0.0.1:1", "--sink-queue", "4KiB", "--sndhwm", "10")
	_, before := up.Get("/metrics")
	subscribeRaw(t, up.Endpoint("XPUB"))
	pub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{NoDrop: true})
	defer pub.Close()
	if err := pub.Connect(up.Endpoint("XSUB")); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the publisher knows", func() bool { return pub.Topics() == 1 })
	push := connect(t, up.Endpoint("PULL"))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{}, 2)
	defer func() {
		stop()
		<-ended
		<-ended
	}()
	go func() {
		m := zmtp.NewMessage([]byte("t"), make([]byte, 32<<10))
		for pub.Send(ctx, m) == nil {
		}
		ended <- struct{}{}
	}()
	go func() {
		m := logMessage(t, "worker-1", "conn", strings.Repeat("x", 1<<10))
		for push.Send(ctx, m) == nil {
		}
		ended <- struct{}{}
	}()
	testkit.Eventually(t, "events are lost and nodes wait", func() bool {
		return up.Metric("zmtpd_forwarder_slow_subscribers") == 1 &&
			up.Metric(`zmtpd_socket_dropped_messages_total{reason="full",socket="xpub"}`) > 0 &&
			up.Metric(`zmtpd_sink_nodes_wait{sink="kafka"}`) == 1
	})
	_, after := up.Get("/metrics")
	runAlertTests(t, alertTest{before: series(before), after: series(before)},
		alertTest{before: series(before), after: series(after), alerts: []string{"ZmtpdEventsLost",
			"ZmtpdNodesWait", "ZmtpdNotReady", "ZmtpdSlowSubscriber"}})
}
