package main

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"zmtpd/curve/access"
	"zmtpd/forwarder"
	"zmtpd/pipeline"
	"zmtpd/zmtp"
)

// testDaemon returns a daemon with both jobs that does not listen.
func testDaemon(t *testing.T) *daemon {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	open := &security{Guard: access.NewGuard(nil, nil, log)}
	logger, err := newLoggerJob(&loggerFlags{Dir: t.TempDir(), FlushInterval: 1, sinkFlags: sinkFlags{Sink: []string{sinkFiles}, SpoolFull: "block"}}, &socketFlags{}, open, &stdio{}, log)
	if err != nil {
		t.Fatal(err)
	}
	broker, err := newForwarderJob(&forwarderFlags{}, &socketFlags{}, open, log)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{log: log, security: open, jobs: []job{broker, logger}}
	t.Cleanup(func() {
		if err := d.shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return d
}

func TestMetricsAreWellFormed(t *testing.T) {
	r := testDaemon(t).registry()
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// A metric that has labels and no series yet is missing in the first scrapes; only those by log path may be.
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) < 40 {
		t.Errorf("%d metrics only", len(families))
	}
	for _, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
	}
}

// The metrics of the broker in a Zeek manager (spec/zeek-formats.md, 1.13), and what libzmq's
// proxy counts in each.
func TestZeekProxyMetrics(t *testing.T) {
	st := forwarder.Stats{
		Frontend: forwarder.Side{In: zmtp.Traffic{Messages: 1, Parts: 2, Bytes: 3}, Out: zmtp.Traffic{Messages: 4, Parts: 5, Bytes: 6}},
		Backend:  forwarder.Side{In: zmtp.Traffic{Messages: 7, Parts: 8, Bytes: 9}, Out: zmtp.Traffic{Messages: 10, Parts: 11, Bytes: 12}},
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
			if f.GetHelp() == "" || len(f.GetMetric()) != 1 || f.GetMetric()[0].GetCounter().GetValue() != value {
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

// A node may make up log paths. The first ones keep their series, so that no counter goes
// back, and the sum over all is right.
func TestLogPathsAreBounded(t *testing.T) {
	var labels loggerLabels
	r := prometheus.NewPedanticRegistry()
	st := pipeline.OutletStats{Name: sinkFiles}
	r.MustRegister(collectorFunc(func(ch chan<- prometheus.Metric) { labels.collectSink(ch, st) }))

	const n = 2 * maxLabels
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
				if label != otherLabel && value != 4 {
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
	if len(previous) != maxLabels+1 {
		t.Errorf("%d series, want %d", len(previous), maxLabels+1)
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(previous)), func(s string) bool { return strings.Contains(s, "\uFFFD") }) {
		t.Error("bytes that are no UTF-8 should be replaced in labels")
	}
}
