package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// beat is the heartbeat of the tests. A busy machine may hold a goroutine up for some tenths of a
// second, after which workers are taken for dead, connect again, and the tests go on.
const beat = 100 * time.Millisecond

// inBackground runs f until the test ends, or closes the sockets of f.
func inBackground(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		err := <-ended
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, zmtp.ErrClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func listen(t *testing.T, s interface{ Listen(string) (string, error) }) string {
	t.Helper()
	bound, err := s.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	return bound
}

// freeEndpoint returns an endpoint that nobody uses now.
func freeEndpoint(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "tcp://" + l.Addr().String()
}

func patient(endpoint string) lazyPirate {
	return lazyPirate{endpoint: endpoint, timeout: time.Second, attempts: 30}
}

// The first two requests are lost, and the answer to the third arrives. Without any answer the
// client gives up.
func TestLazyPirate(t *testing.T) {
	s := zmtp.NewRouter(zmtp.Config{})
	defer s.Close()
	endpoint := listen(t, s)
	var requests atomic.Int32
	inBackground(t, func(ctx context.Context) error {
		for {
			m, err := s.Recv(ctx)
			if err != nil {
				return err
			}
			if requests.Add(1) == 3 {
				if err := s.Send(ctx, m); err != nil {
					return err
				}
			}
		}
	})
	c := lazyPirate{endpoint: endpoint, timeout: 500 * time.Millisecond, attempts: 3}
	defer c.Close()
	reply, err := c.Request(t.Context(), zmtp.NewMessageString("hello"))
	if err != nil || string(reply.Part(0)) != "hello" {
		t.Fatal(reply, err)
	}
	silent := lazyPirate{endpoint: endpoint, timeout: time.Millisecond, attempts: 2}
	defer silent.Close()
	if _, err := silent.Request(t.Context(), zmtp.NewMessageString("x")); err == nil ||
		!strings.Contains(err.Error(), "no reply to 2 requests") {
		t.Fatal(err)
	}
}

func TestEchoServer(t *testing.T) {
	s := zmtp.NewRep(zmtp.Config{})
	defer s.Close()
	c := patient(listen(t, s))
	defer c.Close()
	inBackground(t, func(ctx context.Context) error { return echoServer(ctx, s) })
	for _, text := range []string{"a", "b"} {
		reply, err := c.Request(t.Context(), zmtp.NewMessageString(text))
		if err != nil || string(reply.Part(0)) != text {
			t.Fatal(reply, err)
		}
	}
}

// named answers with the name of the worker.
func named(name string) func(context.Context, zmtp.Message) (zmtp.Message, error) {
	return func(_ context.Context, m zmtp.Message) (zmtp.Message, error) {
		return zmtp.NewMessageString(name + ":" + string(m.Part(0))), nil
	}
}

// A worker that dies is left out; requests go to the other one. A queue that starts again gets its
// workers back.
func TestParanoidPirate(t *testing.T) {
	frontEndpoint, backEndpoint := freeEndpoint(t), freeEndpoint(t)
	startQueue := func() (stop func()) {
		front, back := zmtp.NewRouter(zmtp.Config{}), zmtp.NewRouter(zmtp.Config{})
		for s, endpoint := range map[*zmtp.Router]string{front: frontEndpoint, back: backEndpoint} {
			testkit.Eventually(t, "the endpoint", func() bool {
				_, err := s.Listen(endpoint)
				return err == nil
			})
		}
		return inBackground(t, func(ctx context.Context) error {
			defer front.Close()
			defer back.Close()
			return pirateQueue(ctx, front, back, beat)
		})
	}
	stopQueue := startQueue()
	stop := make(map[string]func())
	for _, name := range []string{"one", "two"} {
		stop[name] = inBackground(t, func(ctx context.Context) error {
			return pirateWorker(ctx, backEndpoint, beat, named(name))
		})
	}
	c := patient(frontEndpoint)
	defer c.Close()
	ask := func() string {
		t.Helper()
		reply, err := c.Request(t.Context(), zmtp.NewMessageString("x"))
		if err != nil {
			t.Fatal(err)
		}
		return string(reply.Part(0))
	}
	seen := make(map[string]bool)
	testkit.Eventually(t, "answers of both workers", func() bool {
		seen[ask()] = true
		return seen["one:x"] && seen["two:x"]
	})
	stop["one"]()
	testkit.Eventually(t, "answers of the second worker alone", func() bool {
		for range 4 {
			if ask() != "two:x" {
				return false
			}
		}
		return true
	})
	stopQueue()
	startQueue()
	if got := ask(); got != "two:x" {
		t.Fatal(got)
	}
}

// startMajordomo starts a broker.
func startMajordomo(t *testing.T) (endpoint string) {
	t.Helper()
	s := zmtp.NewRouter(zmtp.Config{})
	t.Cleanup(func() { s.Close() })
	endpoint = listen(t, s)
	inBackground(t, func(ctx context.Context) error { return majordomoBroker(ctx, s, beat) })
	return endpoint
}

// awaitService waits until the broker has a worker for a service.
func awaitService(t *testing.T, c *majordomoClient, name string) {
	t.Helper()
	testkit.Eventually(t, "service "+name, func() bool {
		m, err := c.Request(t.Context(), "mmi.service", zmtp.NewMessageString(name))
		return err == nil && string(m.Part(0)) == "200"
	})
}

// Each service has its own workers. A request that comes before a worker waits for it. A worker
// that is gone is forgotten.
func TestMajordomo(t *testing.T) {
	endpoint := startMajordomo(t)
	c := majordomoClient{patient(endpoint)}
	defer c.Close()
	m, err := c.Request(t.Context(), "mmi.service", zmtp.NewMessageString("echo"))
	if err != nil || string(m.Part(0)) != "404" {
		t.Fatal(m, err)
	}
	stop := make(map[string]func())
	for _, name := range []string{"echo", "other"} {
		stop[name] = inBackground(t, func(ctx context.Context) error {
			return majordomoWorker(ctx, endpoint, name, beat, named(name))
		})
	}
	for _, name := range []string{"echo", "other", "echo"} {
		m, err := c.Request(t.Context(), name, zmtp.NewMessageString("a", "b"))
		if err != nil || string(m.Part(0)) != name+":a" {
			t.Fatal(m, err)
		}
	}
	stop["echo"]()
	testkit.Eventually(t, "the broker forgets the worker", func() bool {
		m, err := c.Request(t.Context(), "mmi.service", zmtp.NewMessageString("echo"))
		return err == nil && string(m.Part(0)) == "404"
	})
}

// A request survives the end of Titanic, and waits for a service that is not there yet.
func TestTitanic(t *testing.T) {
	endpoint, folder := startMajordomo(t), t.TempDir()
	c := majordomoClient{patient(endpoint)}
	defer c.Close()
	start := func() (stop func()) {
		stop = inBackground(t, func(ctx context.Context) error {
			return titanic(ctx, endpoint, folder, beat)
		})
		awaitService(t, &c, titanicReply)
		return stop
	}
	ask := func(service string, parts ...string) zmtp.Message {
		t.Helper()
		m, err := c.Request(t.Context(), service, zmtp.NewMessageString(parts...))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	stop := start()
	m := ask(titanicRequest, "echo", "hello")
	if m.NumParts() != 2 || string(m.Part(0)) != "200" {
		t.Fatal(m)
	}
	id := string(m.Part(1))
	if m := ask(titanicReply, id); string(m.Part(0)) != "300" {
		t.Fatal(m)
	}
	for _, bad := range []string{"", "../../etc/passwd", strings.Repeat("A", len(id))} {
		if m := ask(titanicReply, bad); string(m.Part(0)) != "400" {
			t.Fatal(bad, m)
		}
	}
	stop()
	start()
	inBackground(t, func(ctx context.Context) error {
		return majordomoWorker(ctx, endpoint, "echo", beat, named("echo"))
	})
	testkit.Eventually(t, "the reply", func() bool {
		m = ask(titanicReply, id)
		return string(m.Part(0)) == "200"
	})
	if string(m.Part(1)) != "echo:hello" {
		t.Fatal(m)
	}
	ask(titanicClose, id)
	if files, err := os.ReadDir(folder); err != nil || len(files) > 0 {
		t.Fatal(files, err)
	}
}

// table is a client's copy.
type table struct {
	mu    sync.Mutex
	pairs map[string]string
}

func (c *table) set(key, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if value == "" {
		delete(c.pairs, key)
	} else {
		c.pairs[key] = value
	}
}

func (c *table) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.pairs)
}

// Two clients, of which one comes later, end with the same table while both change it.
func TestClone(t *testing.T) {
	s := newCloneServer()
	defer s.Close()
	endpoints := []string{listen(t, s.snapshots), listen(t, s.updates), listen(t, s.changes)}
	inBackground(t, func(ctx context.Context) error { return s.Run(ctx, beat) })
	var clients []*cloneClient
	var tables []*table
	for i := range 2 {
		c, copy := newCloneClient(), &table{pairs: make(map[string]string)}
		defer c.Close()
		if err := c.Connect(endpoints[0], endpoints[1], endpoints[2]); err != nil {
			t.Fatal(err)
		}
		inBackground(t, func(ctx context.Context) error { return c.Run(ctx, copy.set) })
		clients, tables = append(clients, c), append(tables, copy)
		for n := range 100 {
			if err := c.Set(t.Context(), fmt.Sprint("key", n), fmt.Sprint("from ", i)); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Eventually(t, "the changes of one client before those of the next", func() bool {
			return strings.Contains(copy.String(), fmt.Sprint("key99:from ", i))
		})
	}
	for n := range 99 {
		if err := clients[1].Set(t.Context(), fmt.Sprint("key", n), ""); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "equal tables", func() bool {
		return tables[0].String() == "map[key99:from 1]" && tables[1].String() == tables[0].String()
	})
}

// A subscriber that comes after the last message of a topic gets that message.
func TestLastValueCache(t *testing.T) {
	sub := zmtp.NewSub(zmtp.Config{})
	pub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{Verbose: true})
	defer sub.Close()
	defer pub.Close()
	front, back := listen(t, sub), listen(t, pub)
	inBackground(t, func(ctx context.Context) error { return lastValueCache(ctx, sub, pub) })
	source := zmtp.NewXPub(zmtp.Config{})
	defer source.Close()
	if err := source.Connect(front); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Recv(t.Context()); err != nil { // the subscription
		t.Fatal(err)
	}
	for _, value := range []string{"1", "2", "3"} {
		if err := source.Send(t.Context(), zmtp.NewMessageString("topic", value)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the cache to receive", func() bool {
		return sub.Stats().In.Messages == 3
	})
	for range 2 {
		c := zmtp.NewSub(zmtp.Config{})
		defer c.Close()
		if err := errors.Join(c.Subscribe("topic"), c.Connect(back)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		defer cancel()
		for m := (zmtp.Message{}); string(m.Part(1)) != "3"; {
			var err error
			if m, err = c.Recv(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The listener sees the subscription and the message, which arrives.
func TestEspresso(t *testing.T) {
	front, back := freeEndpoint(t), freeEndpoint(t)
	var mu sync.Mutex
	var heard []string
	inBackground(t, func(ctx context.Context) error {
		return espresso(ctx, front, back, func(m zmtp.Message) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, m.String())
		})
	})
	pub, sub := zmtp.NewXPub(zmtp.Config{}), zmtp.NewSub(zmtp.Config{})
	defer pub.Close()
	defer sub.Close()
	err := errors.Join(pub.Connect(front), sub.Subscribe("news"), sub.Connect(back))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pub.Recv(t.Context()); err != nil { // the subscription
		t.Fatal(err)
	}
	if err := pub.Send(t.Context(), zmtp.NewMessageString("news", "hello")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	if m, err := sub.Recv(ctx); err != nil || m.String() != `["news" "hello"]` {
		t.Fatal(m, err)
	}
	testkit.Eventually(t, "the listener", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(heard, `["\x01news"]`) &&
			slices.Contains(heard, `["news" "hello"]`)
	})
}

// Every program refuses endpoints that are none.
func TestPrograms(t *testing.T) {
	for name, p := range programs {
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		args := slices.Repeat([]string{"no endpoint"}, countWords(p.args))
		if name == "titanic" {
			args[1] = t.TempDir()
		}
		if err := p.run(ctx, args); !errors.Is(err, zmtp.ErrEndpoint) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}
