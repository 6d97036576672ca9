package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// paced sends for d at a total rate over all publishers, and measures how long each message takes.
// Every connection has a thread that blocks in the kernel, since Go's scheduler would add delays of
// its own.
func (g *generator) paced(b *broker, p *peers, rate int, d time.Duration) (delays, error) {
	// a thread that returns from the kernel waits for no other
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(len(p.all) + 2))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()

	interval := time.Second * time.Duration(g.publishers) / time.Duration(rate) // of one publisher
	run := &pacedRun{
		template: g.message(nil, 0), interval: interval, publishers: g.publishers,
		messages: int((warmUp + d) / interval), skip: int(warmUp / interval),
		begin: monotonic() + 100*time.Millisecond,
	}
	run.stamp = len(run.template) - g.body
	var mu sync.Mutex
	var r delays
	var failed error
	var all sync.WaitGroup
	do := func(c net.Conn, into *[]time.Duration, f func(fd int) ([]time.Duration, error)) {
		all.Go(func() {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			// Real-time priority keeps the thread on time. The system may refuse it; then the table
			// shows how late messages were sent.
			_ = realTime(generatorPriority)
			measured, err := onDescriptor(c, f)
			mu.Lock()
			defer mu.Unlock()
			*into = append(*into, measured...)
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	before, err := b.cpu()
	if err != nil {
		return r, err
	}
	for _, c := range p.subs {
		do(c, &r.all, run.receive)
	}
	for i, c := range p.pubs {
		do(c, &r.late, func(fd int) ([]time.Duration, error) { return run.send(fd, i) })
	}
	all.Wait()
	after, err := b.cpu()
	r.cpu = (after - before).Seconds() / (warmUp + d).Seconds()
	if failed != nil {
		err = failed
	}
	return r, err
}

// Priorities of the generator, which is the clock, and of an undisturbed broker. Both are above all
// work of normal priority.
const (
	generatorPriority = 2
	brokerPriority    = 1
)

// realTime gives a priority to the calling thread and to the processes that it starts.
func realTime(priority uint32) error {
	return unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: priority}, 0)
}

// inRealTime calls f, which starts a broker, on a thread with the broker's priority.
func inRealTime(f func() error) error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		err := realTime(brokerPriority)
		if err != nil {
			err = fmt.Errorf("-undisturbed: %w (run it as root)", err)
		} else {
			err = f()
		}
		failed <- err
	}()
	return <-failed
}

// pacedRun is what senders and receivers of one measurement share.
type pacedRun struct {
	template []byte // of a message; all have its size
	// the offset of the stamp in a message: due time in ns, publisher, number
	stamp      int
	interval   time.Duration
	publishers int
	messages   int // of each publisher
	skip       int // of them, those that warm up
	begin      time.Duration
}

// Layout of the stamp, big-endian: 8 bytes of time, 4 of publisher, 4 of number. It fits the
// smallest body.
const (
	stampPublisher = 8
	stampNumber    = 12
)

// send sends one publisher's messages, each when it is due, or at once if it is late. It returns
// how late they were.
func (r *pacedRun) send(fd, publisher int) ([]time.Duration, error) {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("timer slack: %w", err)
	}
	late := make([]time.Duration, 0, r.messages)
	m := append([]byte(nil), r.template...)
	stamp := m[r.stamp:]
	binary.BigEndian.PutUint32(stamp[stampPublisher:], uint32(publisher))
	first := r.begin + r.interval*time.Duration(publisher)/time.Duration(r.publishers)
	for i := range r.messages {
		due := first + r.interval*time.Duration(i)
		sleepUntil(due)
		binary.BigEndian.PutUint64(stamp, uint64(due))
		binary.BigEndian.PutUint32(stamp[stampNumber:], uint32(i))
		if i >= r.skip {
			late = append(late, monotonic()-due)
		}
		for rest := m; len(rest) > 0; {
			n, err := unix.Write(fd, rest)
			if err != nil && err != unix.EINTR {
				return late, fmt.Errorf("publisher: %w", err)
			}
			rest = rest[max(n, 0):]
		}
	}
	return late, nil
}

// receive reads the messages of all publishers and returns how long each took. A missing message,
// or one out of order, is an error.
func (r *pacedRun) receive(fd int) ([]time.Duration, error) {
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO,
		&unix.Timeval{Sec: 30}); err != nil {
		return nil, err
	}
	took := make([]time.Duration, 0, r.messages*r.publishers)
	next := make([]uint32, r.publishers)
	size := len(r.template)
	buf := make([]byte, 1<<20)
	w := 0
	for total := 0; total < r.messages*r.publishers; {
		n, err := unix.Read(fd, buf[w:])
		now := monotonic()
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return took, fmt.Errorf("subscriber got %d messages of %d: %w", total,
				r.messages*r.publishers, err)
		}
		w += n
		at := 0
		for ; w-at >= size; at += size {
			stamp := buf[at+r.stamp:]
			publisher, number := binary.BigEndian.Uint32(stamp[stampPublisher:]),
				binary.BigEndian.Uint32(stamp[stampNumber:])
			if int(publisher) >= r.publishers || number != next[publisher] {
				return took,
					fmt.Errorf("subscriber got message %d of publisher %d at the wrong place",
						number, publisher)
			}
			next[publisher]++
			total++
			if int(number) >= r.skip {
				took = append(took, now-time.Duration(binary.BigEndian.Uint64(stamp)))
			}
		}
		w = copy(buf, buf[at:w])
	}
	return took, nil
}

// onDescriptor calls f with the descriptor of a connection, on which reading and writing block.
func onDescriptor(c net.Conn, f func(fd int) ([]time.Duration, error)) ([]time.Duration, error) {
	file, err := c.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fd := int(file.Fd())
	if err := unix.SetNonblock(fd, false); err != nil {
		return nil, err
	}
	return f(fd)
}

// monotonic returns the time since an arbitrary moment.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // there is no such clock
	}
	return time.Duration(t.Nano())
}

// sleepUntil sleeps until a time of monotonic. It returns at once if that has passed.
func sleepUntil(due time.Duration) {
	t := unix.NsecToTimespec(int64(due))
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &t, nil) == unix.EINTR {
	}
}
