//go:build unix

// Command gatewaybench measures the WebSocket gateway: memory of an idle client, and CPU time for
// each event that a client gets, beside that of the broker for ZeroMQ subscribers. Broker and
// gateway run in this process, publisher and clients in another one.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"zmtpd/forwarder"
	"zmtpd/forwarder/event"
	"zmtpd/forwarder/gateway"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

const topic = "bench."

var (
	idle    = flag.Int("idle", 10_000, "number of idle clients; 0: do not measure them")
	clients = flag.Int("clients", 1000, "number of clients that get events")
	rate    = flag.Int("rate", 100, "events a second")
	seconds = flag.Int("seconds", 10, "for how long")
	child   = flag.String("child", "", "for internal use")
	address = flag.String("address", "", "for internal use")
	xsub    = flag.String("xsub", "", "for internal use")
)

func main() {
	flag.Parse()
	var err error
	if *child != "" {
		err = peers()
	} else {
		err = measure()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gatewaybench:", err)
		os.Exit(1)
	}
}

// server is a broker with a gateway.
type server struct {
	f              *forwarder.Forwarder
	g              *gateway.Gateway
	ws, xsub, xpub string
}

func serve() (*server, error) {
	s := &server{f: forwarder.New(forwarder.Config{XPub: zmtp.Config{MaxConnections: -1}})}
	var err error
	s.g, err = gateway.New(s.f, gateway.Config{MaxClients: -1, MaxClientsPerAddress: -1})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.g.Serve(l)
	s.ws = l.Addr().String()
	if s.xsub, err = s.f.ListenXSub("tcp://127.0.0.1:*"); err != nil {
		return nil, err
	}
	s.xpub, err = s.f.ListenXPub("tcp://127.0.0.1:*")
	return s, err
}

func (s *server) close() {
	s.f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.g.Shutdown(ctx)
}

// start starts the other process, which ends with the returned function.
func start(kind, at string, s *server, n int) (*exec.Cmd, func(), error) {
	c := exec.Command(os.Args[0], "-child", kind, "-address", at, "-xsub", s.xsub, "-clients",
		strconv.Itoa(n), "-rate", strconv.Itoa(*rate), "-seconds", strconv.Itoa(*seconds))
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	return c, func() { in.Close(); c.Wait() }, err
}

func measure() error {
	if *idle > 0 {
		if err := measureIdle(); err != nil {
			return err
		}
	}
	for _, kind := range []string{"websocket", "zeromq"} {
		if err := measureEvents(kind); err != nil {
			return err
		}
	}
	return nil
}

func measureIdle() error {
	s, err := serve()
	if err != nil {
		return err
	}
	defer s.close()
	before := resident()
	_, end, err := start("idle", s.ws, s, *idle)
	if err != nil {
		return err
	}
	defer end()
	if err := wait(func() bool { return s.g.Stats().Clients == *idle }); err != nil {
		return err
	}
	time.Sleep(6 * time.Second) // every client was pinged
	after := resident()
	fmt.Printf("%d idle clients: %.1f KiB each (%d goroutines)\n", *idle,
		float64(after-before)/1024/float64(*idle), runtime.NumGoroutine())
	return nil
}

// resident returns the resident memory in bytes, after garbage was collected.
func resident() int64 {
	debug.FreeOSMemory()
	b, _ := os.ReadFile("/proc/self/statm")
	if f := strings.Fields(string(b)); len(f) > 1 {
		pages, _ := strconv.ParseInt(f[1], 10, 64)
		return pages * int64(os.Getpagesize())
	}
	return 0
}

func measureEvents(kind string) error {
	s, err := serve()
	if err != nil {
		return err
	}
	defer s.close()
	at := s.ws
	if kind == "zeromq" {
		at = strings.TrimPrefix(s.xpub, "tcp://")
	}
	cmd, end, err := start(kind, at, s, *clients)
	if err != nil {
		return err
	}
	defer end()
	ready := func() bool {
		st := s.f.Stats()
		return len(st.Publishers) == 1 &&
			(len(st.Subscribers) == *clients || s.g.Stats().Clients == *clients)
	}
	if err := wait(ready); err != nil {
		return err
	}
	before := cpuTime()
	if err := cmd.Wait(); err != nil {
		return err
	}
	used := cpuTime() - before
	delivered := float64(*clients * *rate * *seconds)
	fmt.Printf("%s: %d clients, %d events/s each: %.2f CPU s in %d s, %.2f µs for each event and "+
		"client\n", kind, *clients, *rate, used.Seconds(), *seconds,
		used.Seconds()*1e6/delivered)
	for reason, n := range s.g.Stats().Dropped {
		if reason != gateway.Closing {
			fmt.Printf("  dropped, %v: %d\n", reason, n)
		}
	}
	return nil
}

func wait(ready func() bool) error {
	for end := time.Now().Add(2 * time.Minute); !ready(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("the clients did not connect within two minutes")
		}
	}
	return nil
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// peers is the other process.
func peers() error {
	var received atomic.Int64
	var reading sync.WaitGroup
	var all []net.Conn
	for range *clients {
		c, err := connect()
		if err != nil {
			return err
		}
		all = append(all, c)
		reading.Go(func() { read(c, &received) })
	}
	if *child == "idle" {
		io.Copy(io.Discard, os.Stdin) // until the parent has measured
		return nil
	}
	if err := publish(); err != nil {
		return err
	}
	want := int64(*clients * *rate * *seconds)
	for end := time.Now().Add(10 * time.Second); received.Load() < want &&
		time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Printf("%s: received %d of %d events\n", *child, received.Load(), want)
	for _, c := range all {
		c.Close()
	}
	reading.Wait()
	return nil
}

// marker is in every event once.
const marker = "gatewaybench!"

// connect makes a client that has subscribed.
func connect() (net.Conn, error) {
	c, err := net.Dial("tcp", *address)
	if err != nil {
		return nil, err
	}
	if *child == "zeromq" {
		b := wire.AppendGreeting(nil, "NULL", false)
		b = wire.AppendCommand(b, wire.CmdReady,
			wire.AppendProperty(nil, wire.PropSocketType, []byte(wire.SUB)))
		_, err = c.Write(wire.AppendSubscription(b, false, true, []byte(topic)))
		return c, err
	}
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Version: 13\r\n\r\n", gateway.Path)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 1024)
	if n, err := c.Read(b); err != nil || !bytes.Contains(b[:n], []byte(" 101 ")) {
		return nil, fmt.Errorf("no upgrade: %q, %w", b[:n], err)
	}
	first := `["` + topic + `"]`
	frame := append([]byte{0x81, 0x80 | byte(len(first)), 0, 0, 0, 0}, first...)
	_, err = c.Write(frame)
	return c, err
}

// read counts events, and answers pings of the gateway.
func read(c net.Conn, received *atomic.Int64) {
	b := make([]byte, 16<<10)
	if *child == "idle" {
		b = b[:256]
	}
	kept := 0
	for {
		n, err := c.Read(b[kept:])
		if err != nil {
			return
		}
		data := b[:kept+n]
		received.Add(int64(bytes.Count(data, []byte(marker))))
		// A ping has an opcode that no text has, and a number as its payload.
		if i := bytes.IndexByte(data, 0x89); i >= 0 && i+1 < len(data) && *child != "zeromq" &&
			i+2+int(data[i+1]) <= len(data) {
			payload := data[i+2 : i+2+int(data[i+1])]
			c.Write(append([]byte{0x8a, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
		}
		// The beginning of a marker may stand at the end.
		kept = 0
		for k := min(len(marker)-1, len(data)); k > 0; k-- {
			if bytes.HasSuffix(data, []byte(marker[:k])) {
				kept = copy(b, data[len(data)-k:])
				break
			}
		}
	}
}

// publish publishes events of the usual size at an even rate.
func publish() error {
	pub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{})
	if err := pub.Connect(*xsub); err != nil {
		return err
	}
	if err := wait(func() bool { return pub.Topics() == 1 }); err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // the parent notes its CPU time
	body, err := event.AppendEvent(nil, "Bench::event", []any{marker, uint64(42),
		strings.Repeat("x", 300), time.Now()})
	if err != nil {
		return err
	}
	m := zmtp.NewMessage([]byte(topic), []byte("zeromq_worker-1_host_1_N"),
		[]byte("broker-bin-v1"), body)
	tick := time.NewTicker(time.Second / time.Duration(*rate))
	defer tick.Stop()
	for range *rate * *seconds {
		<-tick.C
		if err := pub.Send(context.Background(), m); err != nil {
			return err
		}
	}
	return pub.Shutdown(context.Background())
}
