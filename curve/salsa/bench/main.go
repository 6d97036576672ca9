// Bench compares package salsa with libsodium on this machine and prints a table: nanoseconds a message, and how many
// times as fast as libsodium. It needs a C compiler and libsodium with its headers (apt-get install gcc libsodium-dev):
//
//	go run ./curve/salsa/bench
//
// For each size the two take turns and the medians count: what else the machine does hits both. "one" is one message a call, "batch" as many as a connection has at hand under load: 64, or 64 KiB of them.
// libsodium has the same buffers all the time, and its functions have no batches.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	_ "embed"

	"zmtpd/curve/salsa"
)

//go:embed testdata/libsodium.c
var source []byte

var sizes = []int{32, 64, 100, 200, 500, 1000, 1500, 4096, 16384, 65536}

func main() {
	turns := flag.Int("turns", 21, "measurements of which the median counts")
	flag.Parse()
	if err := compare(os.Stdout, *turns); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func compare(w io.Writer, turns int) error {
	dir, err := os.MkdirTemp("", "salsa-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sodium, err := startSodium(dir)
	if err != nil {
		return err
	}
	defer sodium.stop()

	fmt.Fprintf(w, "salsa uses %s\n", salsa.Instructions())
	fmt.Fprintf(w, "%-5s %6s %10s %9s %6s %9s %6s\n", "", "bytes", "libsodium", "one", "ratio", "batch", "ratio")
	for _, op := range []string{"seal", "open"} {
		for _, size := range sizes {
			one, batch := newOurs(size, 1), newOurs(size, max(1, min(64, 1<<16/size)))
			var theirs, single, many []float64
			for range turns {
				ns, err := sodium.measure(op, size)
				if err != nil {
					return err
				}
				theirs = append(theirs, ns)
				single = append(single, one.measure(op))
				many = append(many, batch.measure(op))
			}
			t, s, m := median(theirs), median(single), median(many)
			fmt.Fprintf(w, "%-5s %6d %10.0f %9.0f %6.2f %9.0f %6.2f\n", op, size, t, s, t/s, m, t/m)
		}
	}
	return nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// ours is a number of messages of one size.
type ours struct {
	cipher     salsa.Cipher
	seal, open []salsa.Message
	nonce      uint64
}

func newOurs(size, n int) *ours {
	o := &ours{}
	o.cipher.Init(new([32]byte), new([16]byte))
	for range n {
		text, sealed := make([]byte, size), make([]byte, size+salsa.Overhead)
		o.nonce++
		o.seal = append(o.seal, salsa.Message{Nonce: o.nonce, Dst: sealed, Src: text})
		o.open = append(o.open, salsa.Message{Nonce: o.nonce, Dst: text, Src: sealed})
	}
	o.cipher.Seal(o.seal)
	return o
}

// A measurement is the best of some slices, which are so short that many of them are not interrupted.
const (
	numSlices = 10
	sliceMin  = 200 * time.Microsecond
)

// measure returns the nanoseconds that one message takes.
func (o *ours) measure(op string) float64 {
	best := math.Inf(1)
	for n, slice := 1, 0; slice < numSlices; {
		took := o.run(op, n)
		if took < sliceMin {
			n *= 2
			continue
		}
		best = min(best, float64(took.Nanoseconds())/float64(n*len(o.seal)))
		slice++
	}
	return best
}

// run does n calls.
func (o *ours) run(op string, n int) time.Duration {
	start := time.Now()
	for range n {
		switch op {
		case "seal":
			for i := range o.seal {
				o.nonce++
				o.seal[i].Nonce, o.open[i].Nonce = o.nonce, o.nonce
			}
			o.cipher.Seal(o.seal)
		case "open":
			if o.cipher.Open(o.open) != len(o.open) {
				panic("a message that was just sealed is refused")
			}
		}
	}
	return time.Since(start)
}

// sodium is testdata/libsodium.c, running.
type sodium struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startSodium(dir string) (*sodium, error) {
	program := filepath.Join(dir, "libsodium")
	if err := os.WriteFile(program+".c", source, 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.Command("cc", "-O2", "-o", program, program+".c", "-lsodium").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compiling for libsodium (apt-get install gcc libsodium-dev): %w\n%s", err, out)
	}
	cmd := exec.Command(program)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &sodium{cmd, in, bufio.NewReader(out)}, cmd.Start()
}

func (s *sodium) measure(op string, size int) (ns float64, err error) {
	fmt.Fprintln(s.in, op, size)
	_, err = fmt.Fscanln(s.out, &ns)
	return ns, err
}

func (s *sodium) stop() {
	s.in.Close()
	s.cmd.Wait()
}
