package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder"
	"zmtpd/pipeline"
	"zmtpd/zmtp"
)

func TestMetricsAreWellFormed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"up", "--dir", t.TempDir(), "--tap", "tcp://127.0.0.1:*", "--tap-file",
			filepath.Join(t.TempDir(), "tap"), "--websocket", "127.0.0.1:0"},
		{"balance", "--to", "tcp://127.0.0.1:1"},
	} {
		_, body := startListening(t, args...).Get("/metrics")
		problems, err := promlint.New(strings.NewReader(body)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", args[0], p.Metric, p.Text)
		}
		if n := strings.Count(body, "\n# HELP "); n < 40 {
			t.Errorf("%s: %d metrics only", args[0], n)
		}
	}
}

// The metrics of the broker in a Zeek manager (ZeroMQ-Proxy.cc) count what libzmq's proxy counts.
func TestZeekProxyMetrics(t *testing.T) {
	st := forwarder.Stats{
		Frontend: forwarder.Side{In: zmtp.Traffic{Messages: 1, Parts: 2, Bytes: 3},
			Out: zmtp.Traffic{Messages: 4, Parts: 5, Bytes: 6}},
		Backend: forwarder.Side{In: zmtp.Traffic{Messages: 7, Parts: 8, Bytes: 9},
			Out: zmtp.Traffic{Messages: 10, Parts: 11, Bytes: 12}},
	}
	want := map[string]float64{
		"zeek_cluster_zeromq_proxy_frontend_messages_received_total": 2,
		"zeek_cluster_zeromq_proxy_frontend_bytes_received_total":    3,
		"zeek_cluster_zeromq_proxy_frontend_messages_sent_total":     5,
		"zeek_cluster_zeromq_proxy_frontend_bytes_sent_total":        6,
		"zeek_cluster_zeromq_proxy_backend_messages_received_total":  8,
		"zeek_cluster_zeromq_proxy_backend_bytes_received_total":     9,
		"zeek_cluster_zeromq_proxy_backend_messages_sent_total":      11,
		"zeek_cluster_zeromq_proxy_backend_bytes_sent_total":         12,
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collectorFunc(func(ch chan<- prometheus.Metric) { collectForwarder(ch, st) }))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if value, ok := want[f.GetName()]; ok {
			delete(want, f.GetName())
			if f.GetHelp() == "" || len(f.GetMetric()) != 1 ||
				f.GetMetric()[0].GetCounter().GetValue() != value {
				t.Errorf("%v, want the value %v", f, value)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

type collectorFunc func(chan<- prometheus.Metric)

func (f collectorFunc) Describe(chan<- *prometheus.Desc)    {}
func (f collectorFunc) Collect(ch chan<- prometheus.Metric) { f(ch) }

// A node may send any log paths. The first paths keep their series, so that no counter goes back,
// and the sum over all series is right.
func TestLogPathsAreBounded(t *testing.T) {
	var labels loggerLabels
	r := prometheus.NewPedanticRegistry()
	st := pipeline.OutletStats{Name: sinkFiles}
	r.MustRegister(collectorFunc(func(ch chan<- prometheus.Metric) { labels.collectSink(ch, st) }))

	const n = 2 * daemon.MaxLabels
	previous := map[string]float64{}
	for i := range n {
		l := pipeline.LogStats{Path: fmt.Sprintf("path-%03d\xff", n-i), Stream: "A::LOG"}
		l.Written.Records, l.Bytes = 2, 10
		other := l
		other.Stream = "B::LOG"
		st.Logs = append([]pipeline.LogStats{l, other}, st.Logs...) // sorted by path
		if i%50 != 0 && i != n-1 {
			continue
		}
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		total := 0.0
		for _, f := range families {
			if f.GetName() != "zmtpd_sink_written_records_total" {
				continue
			}
			for _, m := range f.GetMetric() {
				label, value := m.GetLabel()[0].GetValue(), m.GetCounter().GetValue()
				if value < previous[label] {
					t.Fatalf("%s went from %v to %v", label, previous[label], value)
				}
				if label != daemon.OtherLabel && value != 4 {
					t.Fatalf("%s is %v, want 4", label, value)
				}
				previous[label] = value
				total += value
			}
		}
		if want := float64(4 * (i + 1)); total != want {
			t.Fatalf("the sum is %v, want %v", total, want)
		}
	}
	if len(previous) != daemon.MaxLabels+1 {
		t.Errorf("%d series, want %d", len(previous), daemon.MaxLabels+1)
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(previous)),
		func(s string) bool { return strings.Contains(s, "\uFFFD") }) {
		t.Error("bytes that are no UTF-8 should be replaced in labels")
	}
}
