package benchmark

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Report is what was measured.
type Report struct {
	Endpoint   string       `json:"endpoint"`
	Mechanism  string       `json:"mechanism"` // of security
	Sizes      []SizeResult `json:"sizes"`
	Connection Times        `json:"connection"` // from Connect to the first answer
}

// SizeResult is what was measured with messages of one size.
type SizeResult struct {
	Bytes      int        `json:"bytes"`
	Throughput Throughput `json:"throughput"`
	RoundTrip  Times      `json:"round_trip"`
}

// Throughput is how fast messages went one way, until the last one had arrived.
type Throughput struct {
	Messages          uint64  `json:"messages"`
	Seconds           float64 `json:"seconds"`
	MessagesPerSecond float64 `json:"messages_per_second"`
	BytesPerSecond    float64 `json:"bytes_per_second"`
}

func newThroughput(messages uint64, size int, took time.Duration) Throughput {
	rate := float64(messages) / took.Seconds()
	return Throughput{messages, took.Seconds(), rate, rate * float64(size)}
}

// Times are the percentiles of some times, in microseconds.
type Times struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	Max   float64 `json:"max_us"`
}

// Write writes the report as a table.
func (r *Report) Write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s, mechanism %s\n\n", r.Endpoint, r.Mechanism)
	if len(r.Sizes) > 0 {
		fmt.Fprint(w, "bytes\tmessages/s\tMB/s\tround trip p50 µs\tp90\tp99\tmax\t\n")
	}
	for _, s := range r.Sizes {
		t := s.RoundTrip
		fmt.Fprintf(w, "%d\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", s.Bytes,
			s.Throughput.MessagesPerSecond, s.Throughput.BytesPerSecond/1e6, t.P50, t.P90, t.P99,
			t.Max)
	}
	if c := r.Connection; c.Count > 0 {
		fmt.Fprintf(w, "\n%d connections, time to the first answer: p50 %.0f µs, p90 %.0f, "+
			"p99 %.0f, max %.0f\n", c.Count, c.P50, c.P90, c.P99, c.Max)
	}
	return w.Flush()
}
