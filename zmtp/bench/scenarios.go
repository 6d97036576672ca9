package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pebbe/zmq4"

	"zmtpd/zmtp"
)

var scenarios = map[string]func(measurement) result{
	"push": func(m measurement) result { return m.stream("PUSH", "PULL", 1, 1) },
	"pub":  func(m measurement) result { return m.stream("PUB", "SUB", 1, 8) },
	"dealers": func(m measurement) result {
		return m.stream("DEALER", "ROUTER", 100, 1)
	},
	"req":  measurement.requests,
	"idle": measurement.idle,
}

// messageSize is the size of the messages of this process.
var messageSize int

// hwm is the high-water mark of all sockets: the default of libzmq, but not more than 64 MiB, which
// is zmtpd's default.
func hwm() int { return min(1000, (64<<20)/max(messageSize, 1)) }

// start returns the library, and an endpoint to listen on.
func (m measurement) start() (library, string) {
	messageSize = m.Size
	l := libraries[m.Library]()
	switch m.Transport {
	case "ipc":
		dir, err := os.MkdirTemp("", "bench-")
		check(err)
		return l, "ipc://" + filepath.Join(dir, "s")
	case "inproc":
		return l, "inproc://bench"
	}
	if m.Library == "go-zeromq" {
		return l, "tcp://127.0.0.1:0"
	}
	return l, "tcp://127.0.0.1:*"
}

// stream measures the rate from senders of one type to receivers of another. The one that there is
// only one of listens.
func (m measurement) stream(from, to string, senders, receivers int) result {
	l, endpoint := m.start()
	var out, in []socket
	for range senders {
		out = append(out, l.open(from))
	}
	for range receivers {
		in = append(in, l.open(to))
	}
	listener, connecters := in[0], out
	if receivers > 1 {
		listener, connecters = out[0], in
	}
	bound := listener.listen(endpoint)
	for _, s := range connecters {
		s.connect(bound)
	}
	for _, s := range in {
		l.receive(s)
	}
	time.Sleep(100 * time.Millisecond) // for subscriptions
	l.send(out, m.Size)
	for deadline := time.Now().Add(30 * time.Second); l.received() == 0; {
		if time.Now().After(deadline) {
			check(fmt.Errorf("nothing arrives"))
		}
		time.Sleep(time.Millisecond)
	}
	// Until the queues are as full as they get, and have touched all memory that they use.
	time.Sleep(m.Window / 2)
	for enough := time.Now().Add(1500 * time.Millisecond); time.Now().Before(enough) &&
		l.received()*float64(m.Size) < 256<<20 && m.Size > 1<<10; {
		time.Sleep(time.Millisecond)
	}
	n, used, began := l.received(), cpu(), time.Now()
	time.Sleep(m.Window)
	n, used = l.received()-n, cpu()-used
	return result{Rate: n / time.Since(began).Seconds(), CPU: used.Seconds() / n * 1e6}
}

// requests measures how long a request and its reply take.
func (m measurement) requests() result {
	l, endpoint := m.start()
	rep, req := l.open("REP"), l.open("REQ")
	bound := rep.listen(endpoint)
	req.connect(bound)
	l.echo(rep)
	l.roundTrips(req, m.Size, 500)
	times := l.roundTrips(req, m.Size, 5000)
	slices.Sort(times)
	us := func(i int) float64 { return float64(times[i].Nanoseconds()) / 1e3 }
	return result{P50: us(len(times) / 2), P99: us(len(times) * 99 / 100)}
}

// idle measures the memory of this process for connections that another process makes.
func (m measurement) idle() result {
	l, endpoint := m.start()
	pull := l.open("PULL")
	address := strings.TrimPrefix(pull.listen(endpoint), "tcp://")
	l.receive(pull)
	before := resident()
	cmd := exec.Command(os.Args[0], "-hold", address)
	out, err := cmd.StdoutPipe()
	check(err)
	_, err = cmd.StdinPipe() // it ends when this process does
	check(err)
	cmd.Stderr = os.Stderr
	check(cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	check(err)
	n, err := strconv.Atoi(strings.TrimSpace(line))
	check(err)
	time.Sleep(500 * time.Millisecond)
	debug.FreeOSMemory()
	return result{Bytes: (resident() - before) / float64(n), Count: n}
}

// hold makes up to 10,000 connections of a PUSH, as many as the limit of descriptors allows, prints
// how many, and holds them until its standard input ends.
func hold(address string) {
	push := zmtp.NewPush(zmtp.Config{})
	n := min(10_000, descriptors()-200)
	for i := range n {
		check(push.Connect("tcp://" + address))
		// Not more at once than a backlog holds.
		for deadline := time.Now().Add(30 * time.Second); push.Stats().Handshakes+50 < uint64(i); {
			time.Sleep(time.Millisecond)
			if time.Now().After(deadline) {
				check(fmt.Errorf("%d of %d connections after 30 s", push.Stats().Handshakes, i))
			}
		}
	}
	for deadline := time.Now().Add(30 * time.Second); push.Stats().Peers < n; {
		time.Sleep(time.Millisecond)
		if time.Now().After(deadline) {
			check(fmt.Errorf("%d of %d connections stay", push.Stats().Peers, n))
		}
	}
	fmt.Println(n)
	io.Copy(io.Discard, os.Stdin)
}

func descriptors() int {
	var r syscall.Rlimit
	check(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r))
	return int(min(r.Cur, 1<<30))
}

func cpu() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns the resident memory of the process in bytes.
func resident() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	check(err)
	pages, err := strconv.ParseFloat(strings.Fields(string(b))[1], 64)
	check(err)
	return pages * float64(os.Getpagesize())
}

func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimLeft(strings.TrimSpace(name), ": \t")
		}
	}
	return "unknown processor"
}

func version() string {
	major, minor, patch := zmq4.Version()
	return fmt.Sprintf("%d.%d.%d", major, minor, patch)
}
