// Command brokerbench measures the cost of a broker: libzmq's proxy with Zeek's options, a bare
// relay of bytes, and zmtpd's forwarder. Each runs in a process of its own, in turn, under the same
// load. The generator spends next to nothing on ZeroMQ: it writes prepared bytes and counts the
// bytes that arrive.
//
//	go run ./forwarder/brokerbench [-runs 5] [-messages 1000000] [-case 100B] [-curve]
//	go run ./forwarder/brokerbench -latency [-rate 10000] [-duration 5s] [-undisturbed]
//
// It needs cc and libzmq3-dev. Messages have the four parts that Zeek sends: topic, node id of 34
// bytes, "broker-bin-v1", body. The table has the broker's CPU seconds per million received
// messages, the median of the runs, and the ratio to the proxy. With -curve all traffic is
// encrypted: the generator's publishers encrypt, its subscribers do not decrypt.
//
// With -latency it measures how long messages at a fixed rate take through the broker, without
// encryption. The generator then runs with real-time priority if it may. With -undisturbed the
// brokers do so as well, for a machine that has other work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"zmtpd/zmtp/testkit"
)

// load is one row of the table.
type load struct {
	name        string
	body        int // bytes
	publishers  int
	subscribers int
	topics      int     // 1: everybody gets everything; else subscriber i gets topic i
	scale       float64 // of the number of messages
	goal        float64 // how many times less than the proxy
}

var loads = []load{
	{"100B", 100, 1, 1, 1, 1, 9},
	{"500B", 500, 1, 1, 1, 1, 6},
	{"500B-8sub", 500, 1, 8, 1, 0.3, 3},
	{"16KiB", 16 << 10, 1, 1, 1, 0.1, 3},
	{"300B-64sub", 300, 1, 64, 1, 0.05, 4},
	{"500B-4pub-4sub", 500, 4, 4, 1, 0.4, 4.5},
	{"500B-8topics", 500, 1, 8, 8, 1, 6},
}

func main() {
	runs := flag.Int("runs", 5, "runs of each broker and load")
	messages := flag.Int("messages", 1_000_000, "messages of the smallest load")
	only := flag.String("case", "", "only loads whose name contains this")
	brokers := flag.String("brokers", "zmq_proxy,relay,zmtpd", "brokers to measure")
	binary := flag.String("zmtpd", "", "zmtpd binary; default: built from this tree")
	encrypt := flag.Bool("curve", false, "encrypt with CURVE")
	latency := flag.Bool("latency", false, "measure latency instead of cost")
	rate := flag.Int("rate", 10_000, "messages a second, for -latency")
	undisturbed := flag.Bool("undisturbed", false,
		"give the brokers priority over all other work of the machine, for -latency")
	duration := flag.Duration("duration", 5*time.Second, "how long one run of -latency takes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	names := strings.Split(*brokers, ",")
	var err error
	switch {
	case *latency && (*encrypt || *rate < 1 || *rate > 1_000_000 || *duration <= 0):
		err = errors.New("-latency is without -curve, and at a rate from 1 to 1000000 messages a " +
			"second")
	case *latency:
		err = runLatency(ctx, names, *binary, *only, *runs, *rate, *duration, *undisturbed)
	default:
		err = run(ctx, *runs, *messages, *only, names, *binary, *encrypt)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "brokerbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, runs, messages int, only string, names []string, binary string,
	encrypt bool) error {
	dir, err := os.MkdirTemp("", "brokerbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var keys *keys
	if encrypt {
		if keys, err = newKeys(dir); err != nil {
			return err
		}
		// which knows no CURVE
		names = slices.DeleteFunc(names, func(n string) bool { return n == "relay" })
	}
	commands, err := build(dir, binary, keys)
	if err != nil {
		return err
	}
	fmt.Printf("%d cores, %s; CPU seconds of the broker for a million messages in, median of %d "+
		"runs\n\n", runtime.NumCPU(), runtime.Version(), runs)
	fmt.Printf("%-16s", "load")
	for _, n := range names {
		fmt.Printf("%12s", n)
	}
	fmt.Printf("%10s%8s%10s\n", "ratio", "goal", "Mmsg/s")
	for _, l := range loads {
		if !strings.Contains(l.name, only) {
			continue
		}
		cpu := make(map[string][]float64)
		var rates []float64
		// Brokers alternate, so that other work on the machine affects all of them.
		for range runs {
			for _, n := range names {
				r, err := measure(ctx, commands[n], n != "relay", keys, l,
					int(float64(messages)*l.scale))
				if err != nil {
					return fmt.Errorf("%s under %s: %w", n, l.name, err)
				}
				cpu[n] = append(cpu[n], r.cpu.Seconds()*1e6/float64(r.messages))
				if n == "zmtpd" {
					rates = append(rates, float64(r.messages)/r.wall.Seconds()/1e6)
				}
			}
		}
		fmt.Printf("%-16s", l.name)
		for _, n := range names {
			fmt.Printf("%12.3f", median(cpu[n]))
		}
		if ours := median(cpu["zmtpd"]); ours > 0 {
			fmt.Printf("%10.1f%8.1f%10.2f", median(cpu["zmq_proxy"])/ours, goal(l, encrypt),
				median(rates))
		}
		fmt.Println()
	}
	return nil
}

// runLatency is run for -latency.
func runLatency(ctx context.Context, names []string, binary, only string, runs, rate int,
	d time.Duration, undisturbed bool) error {
	dir, err := os.MkdirTemp("", "brokerbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	commands, err := build(dir, binary, nil)
	if err != nil {
		return err
	}
	return latencies(ctx, names, commands, only, runs, rate, d, undisturbed)
}

// goal returns how many times less CPU time than the proxy the forwarder should need.
func goal(l load, encrypt bool) float64 {
	if encrypt {
		return 1.5
	}
	return l.goal
}

// build compiles the brokers and returns the command that starts each.
func build(dir, binary string, keys *keys) (map[string][]string, error) {
	_, self, _, _ := runtime.Caller(0)
	peers := filepath.Join(filepath.Dir(self), "peers")
	root := filepath.Join(filepath.Dir(self), "..", "..")
	for name, lib := range map[string]string{"zmqproxy": "-lzmq", "relay": "-lpthread"} {
		if err := testkit.Compile(filepath.Join(dir, name), filepath.Join(peers, name+".c"),
			lib); err != nil {
			return nil, err
		}
	}
	if binary == "" {
		binary = filepath.Join(dir, "zmtpd")
		err := command(root, "go", "build", "-trimpath", "-o", binary, "./cmd/zmtpd")
		if err != nil {
			return nil, err
		}
	}
	return map[string][]string{
		"zmq_proxy": {filepath.Join(dir, "zmqproxy")},
		"relay":     {filepath.Join(dir, "relay")},
		"zmtpd": append([]string{binary, "forwarder", "--xsub", "tcp://127.0.0.1:*", "--xpub",
			"tcp://127.0.0.1:*", "--http", ""}, keys.flags()...),
	}, nil
}

func command(dir, name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
