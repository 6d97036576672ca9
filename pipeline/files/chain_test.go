package files

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/spool"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// served is a Logger behind a PULL socket.
type served struct {
	pull     *zmtp.Pull
	logger   *Logger
	outlet   *pipeline.Outlet
	receiver *pipeline.Receiver
	endpoint string
}

// serveLogger starts a PULL socket with the configuration cfg in front of a Logger.
func serveLogger(t *testing.T, l *Logger, cfg zmtp.Config) *served {
	t.Helper()
	return serveOutlet(t, l, cfg, pipeline.OutletConfig{})
}

func serveOutlet(t *testing.T, l *Logger, cfg zmtp.Config, outlet pipeline.OutletConfig) *served {
	t.Helper()
	s := &served{pull: zmtp.NewPull(cfg), logger: l}
	outlet.Name, outlet.Logger = "files", slog.New(slog.NewTextHandler(t.Output(), nil))
	var err error
	if s.endpoint, err = s.pull.Listen("tcp://127.0.0.1:*"); err != nil {
		t.Fatal(err)
	}
	if s.outlet, err = pipeline.NewOutlet(l, outlet); err != nil {
		t.Fatal(err)
	}
	s.receiver = pipeline.Serve(s.pull, nil, s.outlet)
	t.Cleanup(func() {
		s.pull.Close()
		s.receiver.Shutdown(t.Context())
		s.outlet.Close(t.Context())
	})
	return s
}

// close closes the outlet and the logger, and checks the accounts.
func (s *served) close(t *testing.T) {
	t.Helper()
	if err := s.outlet.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
	shut(t, s.logger)
	checkAccounts(t, s.outlet.Stats().Accounts)
	checkAccounts(t, s.receiver.Accounts())
}

// connect returns a connected PUSH socket.
func (s *served) connect(t *testing.T) *zmtp.Push {
	t.Helper()
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	t.Cleanup(func() { push.Close() })
	if err := push.Connect(s.endpoint); err != nil {
		t.Fatal(err)
	}
	return push
}

// pushHandshake returns what a PUSH socket sends at the beginning of a connection.
func pushHandshake() []byte {
	handshake := make([]byte, 64)
	handshake[0], handshake[9], handshake[10] = 0xff, 0x7f, 3
	copy(handshake[12:], "NULL")
	ready := wire.AppendProperty([]byte("\x05READY"), wire.PropSocketType, []byte(wire.PUSH))
	return wire.AppendFrame(handshake, wire.Command, ready)
}

// The messages of a whole cluster arrive in pieces of any size, over a connection for each log (so
// that its order is known), on all cores, with a queue so small that most go through a spool. The
// files are those of Zeek's logger.
func TestGoldenInPiecesThroughSpool(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{Dir: dir})
	s := serveOutlet(t, l, zmtp.Config{RecvHWM: 20},
		pipeline.OutletConfig{MaxBytes: 3000,
			Spool: &spool.Config{Dir: t.TempDir(), SegmentBytes: 50_000}})

	traffic := map[string][]byte{} // by log path
	total := 0
	for _, parts := range testkit.Messages(t, "cluster-logs") {
		b, e := pipeline.ParseMessage(parts)
		if e != nil {
			t.Fatal(e)
		}
		traffic[string(b.Path)] = zmtp.AppendMessage(traffic[string(b.Path)], parts...)
		total++
	}
	var senders sync.WaitGroup
	for _, bytes := range traffic {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.endpoint, "tcp://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		bytes = append(pushHandshake(), bytes...)
		senders.Go(func() {
			for len(bytes) > 0 {
				n := 1 + rand.IntN(min(len(bytes), 1<<rand.IntN(16)))
				if _, err := conn.Write(bytes[:n]); err != nil {
					t.Error(err)
					return
				}
				bytes = bytes[n:]
			}
		})
	}
	senders.Wait()
	testkit.Eventually(t, "all messages",
		func() bool { return s.outlet.Stats().Received.Messages == uint64(total) })
	testkit.Eventually(t, "all written",
		func() bool { return s.outlet.Stats().Written.Messages == uint64(total) })
	if err := s.receiver.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.close(t)
	compareLogs(t, dir, testkit.Golden(t, "cluster-logs"), "tsv")
}

// A log that cannot be written delays no other log, and no node that sends to other logs.
func TestReceiverSlowLogDelaysNoOther(t *testing.T) {
	dir := t.TempDir()
	letGo := make(chan struct{})
	s := serveLogger(t, hanging(t, Config{Dir: dir}, letGo, nil), zmtp.Config{RecvHWM: 10})
	var pushes []*zmtp.Push
	for range 3 {
		pushes = append(pushes, s.connect(t))
	}
	const messages = 50
	for i := range messages {
		for n, push := range pushes {
			for _, path := range []string{"a", "b"} {
				m := message(t, fmt.Sprint("node-", n), "Test::LOG", path,
					"line", fmt.Sprintf("%d %d", n, i), strings.Repeat("x", 20_000))
				if err := push.Send(testkit.Context(t), zmtp.NewMessage(m...)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	written := func(path string) uint64 {
		for _, log := range s.logger.Stats().Logs {
			if log.Path == path {
				return log.Written.Messages
			}
		}
		return 0
	}
	testkit.Eventually(t, "all of b", func() bool { return written("b") == 3*messages })
	checkBalance(t, s.logger.Stats())
	if n := written("a"); n > 0 {
		t.Errorf("%d messages of a are written while it hangs", n)
	}
	close(letGo)
	testkit.Eventually(t, "all of a", func() bool { return written("a") == 3*messages })
	if err := s.receiver.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	s.close(t)
	for _, name := range []string{"a.log", "b.log"} {
		next := map[int]int{}
		for _, line := range records(tree(t, dir)[name]) {
			var n, i int
			if _, err := fmt.Sscanf(line, "%d %d", &n, &i); err != nil {
				continue
			}
			if i != next[n] {
				t.Fatalf("%s: node %d: record %d comes in place of record %d", name, n, i, next[n])
			}
			next[n]++
		}
		if next[0]+next[1]+next[2] != 3*messages {
			t.Errorf("%s has %v", name, next)
		}
	}
}

// With a disk that stays full, Shutdown takes only as long as its context allows, and every message
// is in an account.
func TestReceiverShutdownWithFullDisk(t *testing.T) {
	l, err := newLogger(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	(&tinyDisk{space: 300}).install(l)
	go l.runTimer()
	s := serveLogger(t, l, zmtp.Config{RecvHWM: 10})
	push := s.connect(t)
	sending, stop := context.WithCancel(t.Context())
	var sender sync.WaitGroup
	defer sender.Wait()
	defer stop()
	sender.Go(func() {
		m := zmtp.NewMessage(message(t, "node", "Test::LOG", "test",
			"line", strings.Repeat("x", 1<<16))...)
		for push.Send(sending, m) == nil {
		}
	})
	// The socket stops reading at its high-water mark of 10 and goes on at half of it. So any
	// number in between may wait when the logger takes no more messages.
	testkit.Eventually(t, "the disk to be full and the socket to wait", func() bool {
		full := s.outlet.Stats().WindowBytes+1<<17 > 32<<20
		return full && l.Stats().LastError != nil && s.pull.Stats().RecvQueued > 5
	})

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.receiver.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	err = s.outlet.Close(ctx)
	if lost, ok := errors.AsType[*pipeline.UndeliveredError](err); !errors.Is(err,
		syscall.ENOSPC) || !ok || lost.Lost.Messages == 0 {
		t.Errorf("Close: %v", err)
	}
	in, st := s.pull.Stats(), s.outlet.Stats().Accounts
	checkAccounts(t, st)
	checkBalance(t, l.Stats())
	if st.Received.Messages == 0 ||
		st.Received.Messages+in.Dropped[zmtp.DropClosed] != in.In.Messages ||
		st.Queued != (pipeline.Counts{}) {
		t.Errorf("the socket received %d messages and dropped %d, the outlet got %d, of which %d "+
			"are queued",
			in.In.Messages, in.Dropped[zmtp.DropClosed], st.Received.Messages, st.Queued.Messages)
	}
}

// The disk of the logs is full, that of the spool is not. When there is room after a clean restart,
// everything that the nodes have sent is in the log exactly once, in order.
func TestOutletFilesExactlyOnceAcrossRestarts(t *testing.T) {
	dir, spoolDir := t.TempDir(), t.TempDir()
	const messages = 400
	number := 0
	for space := 20_000; ; space += 60_000 {
		l, err := newLogger(Config{Dir: dir, FlushInterval: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		(&tinyDisk{space: space}).install(l)
		l.rotateLeftovers()
		go l.runTimer()
		s := serveOutlet(t, l, zmtp.Config{},
			pipeline.OutletConfig{MaxBytes: 20_000, Spool: &spool.Config{Dir: spoolDir}})
		push := s.connect(t)
		for range 100 {
			if number < messages {
				m := message(t, "node", "Test::LOG", "test",
					"line", fmt.Sprintf("%06d %s", number, strings.Repeat("x", 1000)))
				if err := push.Send(testkit.Context(t), zmtp.NewMessage(m...)); err != nil {
					t.Fatal(err)
				}
				number++
			}
		}
		if err := push.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.receiver.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		done := func() bool {
			return number == messages &&
				s.outlet.Stats().Queued == (pipeline.Counts{})
		}
		testkit.Eventually(t, "the disk to be full, or all to be written",
			func() bool { return l.Stats().LastError != nil || done() })
		ready := done()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.outlet.Close(ended); err != nil {
			t.Fatal(err)
		}
		checkAccounts(t, s.outlet.Stats().Accounts)
		checkBalance(t, l.Stats())
		if ready {
			break
		}
		if space > 1_000_000 {
			t.Fatal("the records are never complete")
		}
	}
	var got []string
	for _, content := range tree(t, dir) {
		got = append(got, records(content)...)
	}
	slices.Sort(got)
	if len(got) != messages {
		t.Errorf("%d records, want %d", len(got), messages)
	}
	for i, line := range got {
		if number, _, _ := strings.Cut(line, " "); number != fmt.Sprintf("%06d", i) {
			t.Fatalf("record %d is %s: a record is missing or there twice", i, number)
		}
	}
}
