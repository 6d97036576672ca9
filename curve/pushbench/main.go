// Command pushbench compares a CURVE PUSH->PULL over loopback TCP with libzmq's on this machine: messages a second, CPU time a message
// of both sides together, and the ratios. It needs a C compiler and libzmq with CURVE (apt-get install gcc libzmq3-dev):
//
//	go run ./curve/pushbench [-runs 7] [-time 1s]
//
// Both sides of a pair are in one process, which is a new one each time; libzmq's have a context each. The two pairs take turns
// and the medians count: what else the machine does hits both, the CPU time less.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "embed"

	"zmtpd/curve"
	"zmtpd/zmtp"
)

//go:embed testdata/pushpull.c
var source []byte

var sizes = []int{32, 100, 500, 1500, 4096, 16384, 65536}

func main() {
	runs := flag.Int("runs", 7, "measurements of which the median counts")
	span := flag.Duration("time", time.Second, "about how long a measurement takes")
	flag.Parse()
	if flag.NArg() == 2 { // one measurement, as the C program makes it
		if err := measure(flag.Arg(0), flag.Arg(1)); err != nil {
			fmt.Fprintln(os.Stderr, "pushbench:", err)
			os.Exit(1)
		}
		return
	}
	if err := compare(os.Stdout, *runs, *span); err != nil {
		fmt.Fprintln(os.Stderr, "pushbench:", err)
		os.Exit(1)
	}
}

func compare(w io.Writer, runs int, span time.Duration) error {
	dir, err := os.MkdirTemp("", "pushbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, program := filepath.Join(dir, "pushpull.c"), filepath.Join(dir, "pushpull")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		return err
	}
	if out, err := exec.Command("cc", "-O2", "-o", program, file, "-lzmq", "-lpthread").CombinedOutput(); err != nil {
		return fmt.Errorf("%w (needs cc and libzmq: apt-get install gcc libzmq3-dev)\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%6s %12s %12s %7s %13s %13s %7s\n", "bytes", "libzmq/s", "zmtpd/s", "ratio", "libzmq CPU us", "zmtpd CPU us", "ratio")
	for _, size := range sizes {
		var counts [2]int
		var rates, costs [2][]float64
		for run := range runs + 1 {
			for i, program := range []string{program, self} {
				n := counts[i]
				if run == 0 { // to find out how many messages take that long
					n = max(1000, min(100_000, 32<<20/size))
				}
				took, cpu, err := once(program, size, n)
				if err != nil {
					return err
				}
				if run == 0 {
					counts[i] = max(1000, int(float64(n)*span.Seconds()/took.Seconds()))
					continue
				}
				rates[i] = append(rates[i], float64(n-1)/took.Seconds())
				costs[i] = append(costs[i], cpu.Seconds()*1e6/float64(n))
			}
		}
		t, o, tc, oc := median(rates[0]), median(rates[1]), median(costs[0]), median(costs[1])
		fmt.Fprintf(w, "%6d %12.0f %12.0f %7.2f %13.2f %13.2f %7.2f\n", size, t, o, o/t, tc, oc, tc/oc)
	}
	return nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// once has a program move messages, and returns the time from the first received to the last, and the CPU time of all.
func once(program string, size, count int) (took, cpu time.Duration, err error) {
	c := exec.Command(program, strconv.Itoa(size), strconv.Itoa(count))
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return 0, 0, err
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	return time.Duration(seconds * float64(time.Second)), c.ProcessState.UserTime() + c.ProcessState.SystemTime(), err
}

// measure does what the C program does, with sockets of this project.
func measure(size, count string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	c, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	took, err := ours(n, c)
	if err == nil {
		_, err = fmt.Printf("%.6f\n", took.Seconds())
	}
	return err
}

// ours moves messages, and returns the time from the first received to the last.
func ours(size, count int) (_ time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	serverKey, serverSecret := curve.GenerateKeyPair()
	_, clientSecret := curve.GenerateKeyPair()
	server, err := curve.NewServer(zmtp.Auth{Open: true}, serverSecret)
	if err != nil {
		return 0, err
	}
	client, err := curve.NewClient(serverKey, clientSecret)
	if err != nil {
		return 0, err
	}
	pull, push := zmtp.NewPull(zmtp.Config{Mechanism: server.Mechanism}), zmtp.NewPush(zmtp.Config{Mechanism: client.Mechanism})
	defer func() { err = errors.Join(err, push.Close(), pull.Close()) }()
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		return 0, err
	}
	if err := push.Connect(bound); err != nil {
		return 0, err
	}
	sent := make(chan error, 1)
	go func() {
		m := zmtp.NewMessage(make([]byte, size))
		for range count {
			if err := push.Send(ctx, m); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	var begin time.Time
	for got := 0; got < count; {
		b, err := pull.RecvBatch(ctx)
		if err != nil {
			return 0, err
		}
		if begin.IsZero() {
			begin = time.Now()
		}
		for m := range b.Messages() {
			if m.Size() != size {
				return 0, fmt.Errorf("received %d bytes, want %d", m.Size(), size)
			}
			got++
		}
		b.Release()
	}
	took := time.Since(begin)
	return took, <-sent
}
