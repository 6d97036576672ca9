// Command pushbench compares PUSH->PULL over loopback TCP with libzmq's on this machine: messages a
// second, CPU time per message of both sides together, and the ratios. It needs a C compiler and
// libzmq with CURVE (apt-get install gcc libzmq3-dev):
//
//	go run ./curve/pushbench [-null] [-runs 5] [-time 4s]
//
// By default the connection is encrypted with CURVE, and messages are received in batches. With
// -null it is not encrypted; each message is made, sent with Send and received with Recv, as
// libzmq's zmq_send and zmq_msg_recv do.
//
// Both sides of a pair run in one process, a new one for each measurement; libzmq's sides have a
// context each. The two pairs take turns, and the medians count: other work on the machine affects
// both pairs, CPU times less than rates. With large messages the queues have to be touched for the
// first time, which costs more than the messages in a measurement of a second.
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
	"zmtpd/zmtp/testkit"
)

//go:embed testdata/pushpull.c
var source []byte

// minCount is the smallest number of messages of a measurement: with fewer the start of the program
// counts more than the messages.
const minCount = 2000

// sizes are the sizes of messages in bytes, by mode.
var sizes = map[string][]int{
	"curve": {32, 100, 500, 1500, 4096, 16 << 10, 64 << 10},
	"null":  {10, 100, 500, 1500, 4096, 16 << 10, 64 << 10, 256 << 10, 1 << 20},
}

func main() {
	runs := flag.Int("runs", 5, "measurements of which the median counts")
	span := flag.Duration("time", 4*time.Second, "about how long a measurement takes")
	null := flag.Bool("null", false, "compare unencrypted traffic with single Send and Recv")
	flag.Parse()
	if flag.NArg() == 3 { // one measurement, as the C program makes it
		if err := measure(flag.Arg(0), flag.Arg(1), flag.Arg(2)); err != nil {
			fmt.Fprintln(os.Stderr, "pushbench:", err)
			os.Exit(1)
		}
		return
	}
	mode := "curve"
	if *null {
		mode = "null"
	}
	if err := compare(os.Stdout, mode, *runs, *span); err != nil {
		fmt.Fprintln(os.Stderr, "pushbench:", err)
		os.Exit(1)
	}
}

func compare(w io.Writer, mode string, runs int, span time.Duration) error {
	dir, err := os.MkdirTemp("", "pushbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, program := filepath.Join(dir, "pushpull.c"), filepath.Join(dir, "pushpull")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		return err
	}
	if err := testkit.Compile(program, file, "-lzmq", "-lpthread"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%7s %12s %12s %7s %13s %13s %7s\n", "bytes", "libzmq/s", "zmtpd/s", "ratio",
		"libzmq CPU us", "zmtpd CPU us", "ratio")
	for _, size := range sizes[mode] {
		var counts [2]int
		var rates, costs [2][]float64
		for run := range runs + 1 {
			for i, program := range []string{program, self} {
				n := counts[i]
				if run == 0 { // to find out how many messages take that long
					n = max(minCount, min(100_000, 64<<20/size))
				}
				took, cpu, err := once(program, mode, size, n)
				if err != nil {
					return err
				}
				if run == 0 {
					counts[i] = max(minCount, int(float64(n)*span.Seconds()/took.Seconds()))
					continue
				}
				rates[i] = append(rates[i], float64(n-1)/took.Seconds())
				costs[i] = append(costs[i], cpu.Seconds()*1e6/float64(n))
			}
		}
		t, o, tc, oc := median(rates[0]), median(rates[1]), median(costs[0]), median(costs[1])
		fmt.Fprintf(w, "%7d %12.0f %12.0f %7.2f %13.2f %13.2f %7.2f\n", size, t, o, o/t, tc, oc,
			tc/oc)
	}
	return nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// once has a program move messages, and returns the time from the first received to the last, and
// the CPU time of all.
func once(program, mode string, size, count int) (took, cpu time.Duration, err error) {
	c := exec.Command(program, mode, strconv.Itoa(size), strconv.Itoa(count))
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return 0, 0, err
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	return time.Duration(seconds * float64(time.Second)), c.ProcessState.UserTime() +
		c.ProcessState.SystemTime(), err
}

// measure does what the C program does, with sockets of this project.
func measure(mode, size, count string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	c, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	took, err := ours(mode, n, c)
	if err == nil {
		_, err = fmt.Printf("%.6f\n", took.Seconds())
	}
	return err
}

// ours moves messages, and returns the time from the first received to the last.
func ours(mode string, size, count int) (_ time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var server, client zmtp.Config
	if mode == "curve" {
		if server, client, err = encrypted(); err != nil {
			return 0, err
		}
	}
	pull, push := zmtp.NewPull(server), zmtp.NewPush(client, zmtp.PushOptions{})
	defer func() { err = errors.Join(err, push.Close(), pull.Close()) }()
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		return 0, err
	}
	if err := push.Connect(bound); err != nil {
		return 0, err
	}
	sent := make(chan error, 1)
	go func() { sent <- send(ctx, push, make([]byte, size), count) }()
	receive := receiveBatches
	if mode == "null" {
		receive = receiveSingly
	}
	took, err := receive(ctx, pull, size, count)
	if err != nil {
		return 0, err
	}
	return took, <-sent
}

// encrypted returns the configurations of a CURVE server and its client.
func encrypted() (server, client zmtp.Config, err error) {
	serverKey, serverSecret := curve.GenerateKeyPair()
	_, clientSecret := curve.GenerateKeyPair()
	s, err := curve.NewServer(zmtp.Auth{Open: true}, serverSecret)
	if err != nil {
		return server, client, err
	}
	c, err := curve.NewClient(serverKey, clientSecret)
	if err != nil {
		return server, client, err
	}
	return zmtp.Config{Mechanism: s.Mechanism}, zmtp.Config{Mechanism: c.Mechanism}, nil
}

// send makes each message anew, as zmq_send does.
func send(ctx context.Context, push *zmtp.Push, body []byte, count int) error {
	for range count {
		if err := push.Send(ctx, zmtp.NewMessage(body)); err != nil {
			return err
		}
	}
	return nil
}

func receiveSingly(ctx context.Context, pull *zmtp.Pull, size, count int) (time.Duration, error) {
	var begin time.Time
	for range count {
		m, err := pull.Recv(ctx)
		if err != nil {
			return 0, err
		}
		if begin.IsZero() {
			begin = time.Now()
		}
		if m.Size() != size {
			return 0, fmt.Errorf("received %d bytes, want %d", m.Size(), size)
		}
	}
	return time.Since(begin), nil
}

func receiveBatches(ctx context.Context, pull *zmtp.Pull, size, count int) (time.Duration, error) {
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
	return time.Since(begin), nil
}
