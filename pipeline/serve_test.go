package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/pipeline/pipelinetest"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// memorySink delivers at once, to memory.
type memorySink struct {
	delay time.Duration // time of each Send
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (s *memorySink) Send(_ context.Context, e *Entry) {
	time.Sleep(s.delay)
	text, err := renderEntry(e)
	if err != nil {
		e.Refuse(uint64(e.Batch.NumRecords), DropBatch(err))
	} else {
		s.mu.Lock()
		s.lines = append(s.lines, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
		s.mu.Unlock()
	}
	e.Done(nil)
}

func (s *memorySink) Close(context.Context) error { return nil }

// served is a sink behind a PULL socket.
type served struct {
	pull     *zmtp.Pull
	sink     *memorySink
	outlet   *Outlet
	receiver *Receiver
	endpoint string
}

// serve starts a sink behind a PULL socket, before any other outlets.
func serve(t *testing.T, cfg zmtp.Config, others ...*Outlet) *served {
	t.Helper()
	s := &served{pull: zmtp.NewPull(cfg), sink: &memorySink{}}
	var err error
	if s.endpoint, err = s.pull.Listen("tcp://127.0.0.1:*"); err != nil {
		t.Fatal(err)
	}
	s.outlet = newOutlet(t, s.sink, OutletConfig{Name: "memory"})
	s.receiver = Serve(s.pull, nil, append(others, s.outlet)...)
	t.Cleanup(func() {
		s.pull.Close()
		<-s.receiver.done
	})
	return s
}

// shutdownTime is the time for shutdownLosesNothing.
const shutdownTime = 800 * time.Millisecond

// shutdownLosesNothing shuts the Receiver and the sink down. Every received message must have
// reached the sink.
func (s *served) shutdownLosesNothing(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), shutdownTime)
	defer cancel()
	if err := s.receiver.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	s.close(t)
	st := s.pull.Stats()
	if n := st.Dropped[zmtp.DropClosed]; n > 0 {
		t.Errorf("%d messages were received and not delivered", n)
	}
	if got := uint64(len(s.sink.lines)); got != st.In.Messages {
		t.Errorf("%d messages received, %d records delivered", st.In.Messages, got)
	}
}

// close closes the outlet and checks the accounts.
func (s *served) close(t *testing.T) {
	t.Helper()
	if err := s.outlet.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
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

func checkAccounts(t testing.TB, a Accounts) {
	t.Helper()
	if err := a.Check(); err != nil {
		t.Error(err)
	}
}

// Several nodes send and end, and the Receiver is shut down at once. Everything that arrived is
// delivered, and the records of a node in order.
func TestReceiverWritesEverythingReceivedInOrder(t *testing.T) {
	const nodes, messages = 5, 400
	s := serve(t, zmtp.Config{RecvHWM: 10})
	var senders sync.WaitGroup
	for n := range nodes {
		push := s.connect(t)
		senders.Go(func() {
			for i := range messages {
				node := fmt.Sprintf("node-%d", n)
				parts := pipelinetest.Message(t, node, "Test::LOG", "test", "line",
					fmt.Sprintf("%s %d", node, i))
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
	if got := s.outlet.Stats().Received.Messages; got != sent || got != nodes*messages {
		t.Errorf("socket received %d, outlet %d, want %d", sent, got, nodes*messages)
	}
	next := map[string]int{}
	for _, line := range s.sink.lines {
		var node string
		var i int
		if _, err := fmt.Sscanf(line, "%s %d", &node, &i); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if i != next[node] {
			t.Fatalf("%s: record %d comes in place of record %d", node, i, next[node])
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
	s := serve(t, zmtp.Config{})
	push := s.connect(t)
	good := pipelinetest.Message(t, "node", "Test::LOG", "test", "line", "good")
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
	testkit.Eventually(t, "five messages",
		func() bool { return s.receiver.Accounts().Received.Messages == 5 })
	testkit.Eventually(t, "the node id", func() bool {
		peers := s.pull.Peers()
		return len(peers) == 1 && s.receiver.Nodes()[peers[0].ID] == "node"
	})
	if err := s.receiver.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.close(t)
	st := s.receiver.Accounts()
	if st.Dropped[ReasonParts].Messages != 2 || st.Dropped[ReasonSerializer].Messages != 1 ||
		st.Written.Messages != 2 {
		t.Errorf("%+v", st)
	}
	if st := s.outlet.Stats(); st.Dropped[BatchReason(zeek.ReasonTruncated)] != (Counts{1, 1}) ||
		st.Written != (Counts{1, 1}) {
		t.Errorf("%+v", st)
	}
	if got := s.sink.lines; !slices.Equal(got, []string{"good"}) {
		t.Errorf("records %q", got)
	}
}

// The Receiver keeps no data about peers that have gone.
func TestReceiverForgetsPeersThatAreGone(t *testing.T) {
	s := serve(t, zmtp.Config{})
	for i := range 20 {
		push := s.connect(t)
		parts := pipelinetest.Message(t, fmt.Sprint("node-", i), "Test::LOG", "test", "line", "x")
		if err := push.Send(t.Context(), zmtp.NewMessage(parts...)); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the node id", func() bool {
			for _, p := range s.pull.Peers() {
				if s.receiver.Nodes()[p.ID] == fmt.Sprint("node-", i) {
					return true
				}
			}
			return false
		})
		if n := len(s.receiver.Nodes()); n > 1 {
			t.Fatalf("%d nodes are known, one is connected", n)
		}
		if err := push.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the peer to be gone",
			func() bool { return len(s.pull.Peers()) == 0 })
	}
}

// busyNodes lets three nodes send a batch of messages each millisecond to a Receiver in a bubble,
// until they can no longer send.
func busyNodes(t *testing.T, test func(t *testing.T, s *served, conns []*zmtptest.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		var network zmtptest.Network
		listener, err := network.Listen("logger")
		if err != nil {
			t.Fatal(err)
		}
		s := &served{pull: zmtp.NewPull(zmtp.Config{}), sink: &memorySink{}}
		if _, err := s.pull.Serve(listener); err != nil {
			t.Fatal(err)
		}
		s.outlet = newOutlet(t, s.sink, OutletConfig{Name: "memory"})
		s.receiver = Serve(s.pull, nil, s.outlet)
		var conns []*zmtptest.Conn
		var senders sync.WaitGroup
		for n := range 3 {
			conn, err := network.Dial(t.Context(), "logger")
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn.(*zmtptest.Conn))
			traffic := bytes.Repeat(zmtp.AppendMessage(nil, pipelinetest.Message(t,
				fmt.Sprint("node-", n), "Test::LOG", "test", "line", "x")...), 10)
			senders.Go(func() {
				_, err := conn.Write(pushHandshake())
				for err == nil {
					time.Sleep(time.Millisecond)
					_, err = conn.Write(traffic)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		test(t, s, conns)
		for _, conn := range conns {
			conn.Close()
		}
		senders.Wait()
	})
}

// The logger shuts down while nodes send all the time. They end with the connection, and no message
// that the logger has received is lost.
func TestReceiverShutdownUnderLoad(t *testing.T) {
	busyNodes(t, func(t *testing.T, s *served, conns []*zmtptest.Conn) {
		for _, conn := range conns {
			go func() { // zmtp and libzmq do so
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}()
		}
		began := time.Now()
		s.shutdownLosesNothing(t)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("Shutdown waits for %v after all nodes have ended", took)
		}
	})
}

// pushHandshake returns what a PUSH socket sends at the beginning of a connection.
func pushHandshake() []byte {
	handshake := make([]byte, 64)
	handshake[0], handshake[9], handshake[10] = 0xff, 0x7f, 3
	copy(handshake[12:], "NULL")
	ready := wire.AppendProperty([]byte("\x05READY"), wire.PropSocketType, []byte(wire.PUSH))
	return wire.AppendFrame(handshake, wire.Command, ready)
}

// Nodes that send on although the logger has closed its direction are cut off after half of the
// time, so that the rest can be written.
func TestReceiverCutsOffNodesThatGoOnSending(t *testing.T) {
	busyNodes(t, func(t *testing.T, s *served, _ []*zmtptest.Conn) {
		began := time.Now()
		s.shutdownLosesNothing(t)
		if took := time.Since(began); took < shutdownTime/2 || took > shutdownTime*3/4 {
			t.Errorf("Shutdown took %v of %v", took, shutdownTime)
		}
	})
}

// Messages of a node that has ended are read to the end, however long that takes: the node cannot
// send them again.
func TestReceiverReadsAllOfNodesThatHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := zmtptest.Network{Buffer: 1 << 20} // everything is at the logger's host at once
		listener, err := network.Listen("logger")
		if err != nil {
			t.Fatal(err)
		}
		const n = 3000
		s := &served{pull: zmtp.NewPull(zmtp.Config{RecvHWM: 5}),
			sink: &memorySink{delay: shutdownTime * 3 / 4 / n}}
		if _, err := s.pull.Serve(listener); err != nil {
			t.Fatal(err)
		}
		s.outlet = newOutlet(t, s.sink, OutletConfig{Name: "memory", MaxBytes: 1})
		s.receiver = Serve(s.pull, nil, s.outlet)
		conn, err := network.Dial(t.Context(), "logger")
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, conn)
		traffic := bytes.Repeat(zmtp.AppendMessage(nil,
			pipelinetest.Message(t, "node", "Test::LOG", "test", "line", "x")...), n)
		if _, err := conn.Write(append(pushHandshake(), traffic...)); err != nil {
			t.Fatal(err)
		}
		conn.(*zmtptest.Conn).CloseWrite()
		synctest.Wait()
		s.shutdownLosesNothing(t)
		conn.Close()
		if got := len(s.sink.lines); got != n {
			t.Errorf("%d of %d records arrived", got, n)
		}
	})
}
