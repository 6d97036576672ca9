package pipeline

import (
	"bytes"
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

	"zmtpd/pipeline/spool"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// served is a Logger behind a PULL socket.
type served struct {
	pull     *zmtp.Pull
	logger   *Logger
	outlet   *Outlet
	receiver *Receiver
	endpoint string
}

// serve starts a Logger behind a PULL socket with these limits.
func serve(t *testing.T, dir string, cfg zmtp.Config) *served {
	t.Helper()
	return serveLogger(t, start(t, Config{Dir: dir}), cfg)
}

// shutdownLosesNothing shuts the Receiver and the Logger down and checks that every message that was received is in test.log.
func (s *served) shutdownLosesNothing(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := s.receiver.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	s.close(t)
	st := s.pull.Stats()
	if n := st.Dropped[zmtp.DropClosed]; n > 0 {
		t.Errorf("%d messages were received and not written", n)
	}
	if got := uint64(len(records(tree(t, dir)["test.log"]))); got != st.In.Messages {
		t.Errorf("%d messages received, %d records in the log", st.In.Messages, got)
	}
}

func serveLogger(t *testing.T, l *Logger, cfg zmtp.Config) *served {
	t.Helper()
	s := &served{pull: zmtp.NewPull(cfg), logger: l}
	var err error
	if s.endpoint, err = s.pull.Listen("tcp://127.0.0.1:*"); err != nil {
		t.Fatal(err)
	}
	if s.outlet, err = NewOutlet(l, OutletConfig{Name: "files", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}); err != nil {
		t.Fatal(err)
	}
	s.receiver = Serve(s.pull, nil, s.outlet)
	t.Cleanup(func() {
		s.pull.Close()
		<-s.receiver.done
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

// connect returns a PUSH socket that is connected.
func (s *served) connect(t *testing.T) *zmtp.Push {
	t.Helper()
	push := zmtp.NewPush(zmtp.Config{})
	t.Cleanup(func() { push.Close() })
	if err := push.Connect(s.endpoint); err != nil {
		t.Fatal(err)
	}
	return push
}

// eventually waits for a condition of something that runs by itself.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// Several nodes send and end, the logger is told to end right away: everything that arrived is in a file, the
// records of a node in their order.
func TestReceiverWritesEverythingReceivedInOrder(t *testing.T) {
	const nodes, messages = 5, 400
	dir := t.TempDir()
	s := serve(t, dir, zmtp.Config{RecvHWM: 10})
	var senders sync.WaitGroup
	for n := range nodes {
		push := s.connect(t)
		senders.Go(func() {
			for i := range messages {
				node := fmt.Sprintf("node-%d", n)
				parts := message(t, node, "Test::LOG", "test", "line", fmt.Sprintf("%s %d", node, i))
				if err := push.Send(t.Context(), zmtp.NewMessage(parts...)); err != nil {
					t.Error(err)
					return
				}
			}
			if err := push.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	if err := s.receiver.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.close(t)

	sent := s.pull.Stats().In.Messages
	if got := s.logger.Stats().Received.Messages; got != sent || got != nodes*messages {
		t.Errorf("socket received %d, logger %d, want %d", sent, got, nodes*messages)
	}
	next := map[string]int{}
	for _, line := range records(tree(t, dir)["test.log"]) {
		var node string
		var i int
		if _, err := fmt.Sscanf(line, "%s %d", &node, &i); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if i != next[node] {
			t.Fatalf("%s: record %d where %d comes next", node, i, next[node])
		}
		next[node]++
	}
	for n := range nodes {
		if node := fmt.Sprintf("node-%d", n); next[node] != messages {
			t.Errorf("%s: %d records of %d", node, next[node], messages)
		}
	}
}

func TestReceiverGoesOnAfterBadMessages(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, zmtp.Config{})
	push := s.connect(t)
	good := message(t, "node", "Test::LOG", "test", "line", "good")
	for _, parts := range [][][]byte{
		{nil},
		{[]byte("log-write"), []byte("node")},
		{good[0], good[1], []byte("other-serializer"), good[3]},
		{good[0], good[1], good[2], good[3][:len(good[3])-1]},
		good,
	} {
		if err := push.Send(t.Context(), zmtp.NewMessage(parts...)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "five messages", func() bool { return s.receiver.Accounts().Received.Messages == 5 })
	eventually(t, "the node id", func() bool {
		peers := s.pull.Peers()
		return len(peers) == 1 && s.receiver.Nodes()[peers[0].ID] == "node"
	})
	if err := s.receiver.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.close(t)
	st := s.receiver.Accounts()
	if st.Dropped[ReasonParts].Messages != 2 || st.Dropped[ReasonSerializer].Messages != 1 || st.Written.Messages != 2 {
		t.Errorf("%+v", st)
	}
	if st := s.outlet.Stats(); st.Dropped[BatchReason(zeek.ReasonTruncated)] != (Counts{1, 1}) || st.Written != (Counts{1, 1}) {
		t.Errorf("%+v", st)
	}
	if got := records(tree(t, dir)["test.log"]); !slices.Equal(got, []string{"good"}) {
		t.Errorf("records %q", got)
	}
}

// Peers come and go; the Receiver does not remember more than are there.
func TestReceiverForgetsPeersThatAreGone(t *testing.T) {
	s := serve(t, t.TempDir(), zmtp.Config{})
	for i := range 20 {
		push := s.connect(t)
		parts := message(t, fmt.Sprint("node-", i), "Test::LOG", "test", "line", "x")
		if err := push.Send(t.Context(), zmtp.NewMessage(parts...)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the node id", func() bool {
			for _, p := range s.pull.Peers() {
				if s.receiver.Nodes()[p.ID] == fmt.Sprint("node-", i) {
					return true
				}
			}
			return false
		})
		if n := len(s.receiver.Nodes()); n > 1 {
			t.Fatalf("%d nodes known, one is there", n)
		}
		if err := push.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the peer to be gone", func() bool { return len(s.pull.Peers()) == 0 })
	}
}

// Nodes are sending all the time when the logger shuts down. They end with the connection, and
// nothing that the logger took from them is lost.
func TestReceiverShutdownUnderLoad(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, zmtp.Config{})
	sending, stop := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	defer senders.Wait()
	defer stop()
	for n := range 3 {
		push := s.connect(t)
		senders.Go(func() {
			m := zmtp.NewMessage(message(t, fmt.Sprint("node-", n), "Test::LOG", "test", "line", "x")...)
			for push.Send(sending, m) == nil {
			}
		})
	}
	eventually(t, "some load", func() bool { return s.logger.Stats().Received.Messages > 1000 })
	s.shutdownLosesNothing(t, dir)
}

// pushHandshake is what a PUSH socket says at the beginning of a connection.
func pushHandshake() []byte {
	handshake := make([]byte, 64)
	handshake[0], handshake[9], handshake[10] = 0xff, 0x7f, 3
	copy(handshake[12:], "NULL")
	ready := wire.AppendProperty([]byte("\x05READY"), wire.PropSocketType, []byte(wire.PUSH))
	return wire.AppendFrame(handshake, wire.Command, ready)
}

// What Zeek's logger wrote of the messages of a whole cluster is what comes of them whatever pieces they arrive in, over many connections (one for each
// log, so that its order is known), on all cores, with a queue so small that most go through a spool.
func TestGoldenInPiecesThroughSpool(t *testing.T) {
	dir := t.TempDir()
	l := start(t, Config{Dir: dir})
	pull := zmtp.NewPull(zmtp.Config{RecvHWM: 20})
	defer pull.Close()
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	o := newOutlet(t, l, OutletConfig{Name: "files", MaxBytes: 3000, Spool: &spool.Config{Dir: t.TempDir(), SegmentBytes: 50_000}})
	r := Serve(pull, nil, o)

	traffic := map[string][]byte{} // by log path
	total := 0
	for _, parts := range goldenMessages(t, "cluster-logs") {
		b, e := parseMessage(parts)
		if e != nil {
			t.Fatal(e)
		}
		traffic[string(b.Path)] = zmtp.AppendMessage(traffic[string(b.Path)], parts...)
		total++
	}
	var senders sync.WaitGroup
	for _, bytes := range traffic {
		conn, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "tcp://"))
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
	eventually(t, "all messages", func() bool { return o.Stats().Received.Messages == uint64(total) })
	eventually(t, "all written", func() bool { return o.Stats().Written.Messages == uint64(total) })
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	compareLogs(t, dir, golden(t, "cluster-logs"), "tsv")
}

// A node that sends on, although its connection is closed in its direction, is cut off in time for
// the rest to be written.
func TestReceiverCutsOffNodesThatGoOnSending(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, zmtp.Config{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.endpoint, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	handshake := pushHandshake()
	traffic := bytes.Repeat(zmtp.AppendMessage(nil, message(t, "node", "Test::LOG", "test", "line", "x")...), 10)
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(func() {
		_, err := conn.Write(handshake)
		for err == nil {
			_, err = conn.Write(traffic)
		}
	})
	eventually(t, "some load", func() bool { return s.logger.Stats().Received.Messages > 1000 })

	s.shutdownLosesNothing(t, dir)
}

// A log that cannot be written delays no other, and no other node.
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
				m := message(t, fmt.Sprint("node-", n), "Test::LOG", path, "line", fmt.Sprintf("%d %d", n, i), strings.Repeat("x", 20_000))
				if err := push.Send(t.Context(), zmtp.NewMessage(m...)); err != nil {
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
	eventually(t, "all of b", func() bool { return written("b") == 3*messages })
	checkBalance(t, s.logger.Stats())
	if n := written("a"); n > 0 {
		t.Errorf("%d messages of a are written while it hangs", n)
	}
	close(letGo)
	eventually(t, "all of a", func() bool { return written("a") == 3*messages })
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
				t.Fatalf("%s: node %d: record %d where %d comes next", name, n, i, next[n])
			}
			next[n]++
		}
		if next[0]+next[1]+next[2] != 3*messages {
			t.Errorf("%s has %v", name, next)
		}
	}
}

// A disk that stays full keeps Shutdown only as long as its context allows, and every
// message is in somebody's account.
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
		m := zmtp.NewMessage(message(t, "node", "Test::LOG", "test", "line", strings.Repeat("x", 1<<16))...)
		for push.Send(sending, m) == nil {
		}
	})
	// The socket stops to read at its high-water mark of 10 and reads again at half of it. So when the
	// logger stops to take messages there may be any number between.
	eventually(t, "the disk to be full and the socket to wait", func() bool {
		full := s.outlet.Stats().WindowBytes+1<<17 > 32<<20
		return full && l.Stats().LastError != nil && s.pull.Stats().RecvQueued > 5
	})

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.receiver.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	err = s.outlet.Close(ctx)
	if lost, ok := errors.AsType[*UndeliveredError](err); !errors.Is(err, syscall.ENOSPC) || !ok || lost.Lost.Messages == 0 {
		t.Errorf("Close: %v", err)
	}
	in, st := s.pull.Stats(), s.outlet.Stats().Accounts
	checkAccounts(t, st)
	checkBalance(t, l.Stats())
	if st.Received.Messages == 0 || st.Received.Messages+in.Dropped[zmtp.DropClosed] != in.In.Messages || st.Queued != (Counts{}) {
		t.Errorf("the socket received %d messages and dropped %d, the outlet got %d, of which %d are queued",
			in.In.Messages, in.Dropped[zmtp.DropClosed], st.Received.Messages, st.Queued.Messages)
	}
}
