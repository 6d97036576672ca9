package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"zmtpd/zmtp"
)

// served is a Logger behind a PULL socket.
type served struct {
	pull     *zmtp.Pull
	logger   *Logger
	receiver *Receiver
	endpoint string
	done     chan error // of Run
}

// serve starts a Logger behind a PULL socket with these limits.
func serve(t *testing.T, ctx context.Context, dir string, cfg zmtp.Config) *served {
	t.Helper()
	s := &served{pull: zmtp.NewPull(cfg), logger: start(t, Config{Dir: dir}), done: make(chan error, 1)}
	t.Cleanup(func() { s.pull.Close() })
	var err error
	if s.endpoint, err = s.pull.Listen("tcp://127.0.0.1:*"); err != nil {
		t.Fatal(err)
	}
	s.receiver = NewReceiver(s.pull, s.logger)
	go func() { s.done <- s.receiver.Run(ctx) }()
	return s
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
	s := serve(t, t.Context(), dir, zmtp.Config{RecvHWM: 10})
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
	if err := s.pull.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-s.done; err != nil {
		t.Fatalf("Run: %v", err)
	}
	shut(t, s.logger)

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
	s := serve(t, t.Context(), dir, zmtp.Config{})
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
	eventually(t, "five messages", func() bool { return s.logger.Stats().Received.Messages == 5 })
	eventually(t, "the node id", func() bool {
		peers := s.pull.Peers()
		return len(peers) == 1 && s.receiver.Nodes()[peers[0].ID] == "node"
	})
	if err := s.pull.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-s.done; err != nil {
		t.Fatal(err)
	}
	shut(t, s.logger)
	st := s.logger.Stats()
	if st.Dropped[ReasonParts].Messages != 2 || st.Dropped[ReasonSerializer].Messages != 1 || st.Written.Messages != 1 {
		t.Errorf("%+v", st)
	}
	if got := records(tree(t, dir)["test.log"]); !slices.Equal(got, []string{"good"}) {
		t.Errorf("records %q", got)
	}
}

// Peers come and go; the Receiver does not remember more than are there.
func TestReceiverForgetsPeersThatAreGone(t *testing.T) {
	s := serve(t, t.Context(), t.TempDir(), zmtp.Config{})
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
	s.pull.Close()
	<-s.done
}

func TestReceiverEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := serve(t, ctx, t.TempDir(), zmtp.Config{})
	why := errors.New("enough")
	cancel(why)
	if err := <-s.done; !errors.Is(err, why) {
		t.Errorf("Run returned %v, want %v", err, why)
	}
}
