// Command bench compares packages salsa and box with libsodium on this machine and prints a table:
// nanoseconds a message, and how many times as fast as libsodium. It needs a C compiler and
// libsodium with its headers (apt-get install gcc libsodium-dev):
//
//	go run ./curve/salsa/bench
//
// For each size the two take turns and the medians count: what else the machine does hits both.
// "one" is one message a call, "batch" as many as a connection has at hand under load: 64, or 64
// KiB of them. "frames" is the same batch as a stream of frames through box.Sealer and box.Opener.
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

	"zmtpd/curve/box"
	"zmtpd/curve/salsa"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
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
	fmt.Fprintf(w, "%-5s %6s %10s %9s %6s %9s %6s %9s %6s\n", "", "bytes", "libsodium", "one",
		"ratio",
		"batch", "ratio", "frames", "ratio")
	for _, op := range []string{"seal", "open"} {
		for _, size := range sizes {
			n := max(1, min(64, 1<<16/size))
			one, batch, stream := newOurs(size, 1), newOurs(size, n), newFrames(size, n)
			var theirs, single, many, frames []float64
			for range turns {
				ns, err := sodium.measure(op, size)
				if err != nil {
					return err
				}
				theirs = append(theirs, ns)
				single = append(single,
					measure(1, func(calls int) time.Duration { return one.run(op, calls) }))
				many = append(many,
					measure(n, func(calls int) time.Duration { return batch.run(op, calls) }))
				frames = append(frames, measure(n, func(calls int) time.Duration {
					return stream.run(op,
						calls)
				}))
			}
			t, s, m, f := median(theirs), median(single), median(many), median(frames)
			fmt.Fprintf(w, "%-5s %6d %10.0f %9.0f %6.2f %9.0f %6.2f %9.0f %6.2f\n", op, size, t, s,
				t/s, m,
				t/m, f, t/f)
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

// A measurement is the best of some slices, which are so short that many of them are not
// interrupted.
const (
	numSlices = 10
	sliceMin  = 200 * time.Microsecond
)

// measure returns the nanoseconds that one message takes when each call of run does n of them.
func measure(n int, run func(calls int) time.Duration) float64 {
	best := math.Inf(1)
	for calls, slice := 1, 0; slice < numSlices; {
		took := run(calls)
		if took < sliceMin {
			calls *= 2
			continue
		}
		best = min(best, float64(took.Nanoseconds())/float64(calls*n))
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

// frames is a stream of frames of one size, plain and protected.
type frames struct {
	sealer        *box.Sealer
	opener        box.Opener // as it was before the first frame
	plain, sealed []byte
	out           []byte
}

func newFrames(size, n int) *frames {
	f := &frames{
		sealer: box.NewSealer(new([32]byte), box.FromClient, 3),
		opener: *box.NewOpener(new([32]byte), box.FromClient, 2),
	}
	for range n {
		f.plain = wire.AppendFrame(f.plain, 0, make([]byte, size))
	}
	f.sealed = f.sealer.Seal(nil, f.plain)
	return f
}

// run does n calls.
func (f *frames) run(op string, n int) time.Duration {
	start := time.Now()
	for range n {
		switch op {
		case "seal":
			f.out = f.sealer.Seal(f.out[:0], f.plain)
		case "open":
			o := f.opener // which takes each frame once
			var err error
			if f.out, err = o.Open(f.out[:0], f.sealed); err != nil {
				panic(err)
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
	if err := testkit.Compile(program, program+".c", "-lsodium"); err != nil {
		return nil, err
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
