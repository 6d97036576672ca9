package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// latencyLoads are the rows of the table of latencies.
var latencyLoads = []load{
	{name: "100B", body: 100, publishers: 1, subscribers: 1, topics: 1},
	{name: "500B", body: 500, publishers: 1, subscribers: 1, topics: 1},
	{name: "500B-8sub", body: 500, publishers: 1, subscribers: 8, topics: 1},
	{name: "500B-4pub-4sub", body: 500, publishers: 4, subscribers: 4, topics: 1},
}

// warmUp is how long messages are sent before the measurement.
const warmUp = time.Second

// delays is one measurement of latency.
type delays struct {
	all  []time.Duration // of every message to every subscriber, in order of size
	late []time.Duration // how late the generator itself was to send, likewise
	cpu  float64         // of the broker, in cores
}

// quantile returns the delay that the given share of all messages does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// latencies prints the table of latencies. Messages are sent at fixed times, whether earlier ones
// have arrived or not, and each carries its due time, from which its delay counts. So a pause of
// the broker, or of the generator, counts for every message that waits for it.
func latencies(ctx context.Context, names []string, commands map[string][]string, only string, runs,
	rate int, d time.Duration, undisturbed bool) error {
	fmt.Printf("%d cores, %s, load average %s; latency in µs at %d messages/s over %v, medians "+
		"of %d runs\n\n",
		runtime.NumCPU(), runtime.Version(), loadAverage(), rate, d, runs)
	fmt.Printf("%-16s%-12s%8s%8s%8s%8s%12s%10s\n", "load", "broker", "p50", "p99", "p99.9", "max",
		"generator", "CPU")
	fmt.Printf("%-16s%-12s%8s%8s%8s%8s%12s%10s\n", "", "", "", "", "", "", "p99 late", "cores")
	for _, l := range latencyLoads {
		if !strings.Contains(l.name, only) {
			continue
		}
		names := names
		if l.publishers > 1 { // whose messages a relay mixes
			names = slices.DeleteFunc(slices.Clone(names),
				func(n string) bool { return n == "relay" })
		}
		got := make(map[string][]delays)
		// Brokers alternate, so that other work on the machine affects all of them.
		for range runs {
			for _, n := range names {
				r, err := measureLatency(ctx, commands[n], n != "relay", l, rate, d, undisturbed)
				if err != nil {
					return fmt.Errorf("%s under %s: %w", n, l.name, err)
				}
				got[n] = append(got[n], r)
			}
		}
		for _, n := range names {
			fmt.Printf("%-16s%-12s", l.name, n)
			for _, q := range []float64{0.5, 0.99, 0.999, 1} {
				fmt.Printf("%8.0f",
					medianOf(got[n], func(r delays) float64 { return micros(quantile(r.all, q)) }))
			}
			fmt.Printf("%12.0f%10.2f\n",
				medianOf(got[n], func(r delays) float64 { return micros(quantile(r.late, 0.99)) }),
				medianOf(got[n], func(r delays) float64 { return r.cpu }))
		}
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / 1e3 }

func medianOf(all []delays, value func(delays) float64) float64 {
	var v []float64
	for _, r := range all {
		v = append(v, value(r))
	}
	return median(v)
}

// loadAverage returns the machine's load average over the last minute, as far as the system tells.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// measureLatency runs a load against a fresh broker. An undisturbed broker has priority over all
// other work of the machine.
func measureLatency(ctx context.Context, argv []string, zmtpHandshake bool, l load, rate int,
	d time.Duration, undisturbed bool) (delays, error) {
	var b *broker
	var err error
	begin := func() error {
		b, err = start(ctx, argv, nil)
		return err
	}
	if undisturbed {
		err = inRealTime(begin)
	} else {
		err = begin()
	}
	if err != nil {
		return delays{}, err
	}
	defer b.stop()
	g := &generator{load: l, handshake: zmtpHandshake}
	p, err := g.connect(b)
	defer p.close()
	if err != nil {
		return delays{}, err
	}
	r, err := g.paced(b, p, rate, d)
	slices.Sort(r.all)
	slices.Sort(r.late)
	return r, err
}
