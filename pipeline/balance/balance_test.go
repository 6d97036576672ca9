package balance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func logBatch(t *testing.T, path string) []byte {
	t.Helper()
	b, err := zeek.AppendBatch(nil,
		&zeek.Schema{Stream: "Test::LOG", Writer: "Log::WRITER_ASCII", Filter: "default",
			Path:   path,
			Fields: []zeek.Field{{Name: "text", Type: zeek.TypeString}}},
		[][]zeek.Value{{{Type: zeek.TypeString, Text: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLogPathOfMessages(t *testing.T) {
	conn := logBatch(t, "conn")
	for _, c := range []struct {
		m    zmtp.Message
		want string
	}{
		{zmtp.NewMessage([]byte("log-write"), []byte("n"), []byte(zeek.SerializerName), conn),
			"conn"},
		{zmtp.NewMessage([]byte("log-write"), []byte("n"), []byte(zeek.SerializerName), conn[:4]),
			""},
		{zmtp.NewMessage([]byte("log-write"), []byte("n"), []byte("other"), conn), ""},
		{zmtp.NewMessage([]byte("log-write"), []byte("n"), []byte(zeek.SerializerName)), ""},
		{zmtp.NewMessage(nil), ""},
	} {
		if got := LogPath(c.m); string(got) != c.want || (got == nil) != (c.want == "") {
			t.Errorf("%v: %q, want %q", c.m, got, c.want)
		}
	}
}

// While no logger has room, a node is not read. At the end of Shutdown's time the balancer drops
// and counts what it has read and not sent, so that received = sent + dropped.
func TestNodesWaitAndEveryMessageIsCounted(t *testing.T) {
	push := zmtp.NewPush(zmtp.Config{SendHWM: 10}, zmtp.PushOptions{Immediate: true})
	defer push.Close()
	b := New(zmtp.Config{}, push)
	endpoint, err := b.Pull().Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	node := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	defer node.Close()
	if err := node.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	const n = 25
	for i := range n {
		if err := node.Send(testkit.Context(t),
			zmtp.NewMessageString("log-write", "node-1", "x", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the node to be blocked", func() bool { return b.Blocked() == 1 })
	peer := b.Pull().Peers()[0]
	if id, blocked := b.Node(peer.ID); id != "node-1" || blocked < minBlocked {
		t.Errorf("node %q, blocked for %v", id, blocked)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	in := b.Pull().Stats()
	if dropped := in.Dropped[zmtp.DropClosed]; dropped == 0 ||
		in.In.Messages != push.Stats().Out.Messages+dropped {
		t.Errorf("received %d, sent %d, dropped %d", in.In.Messages, push.Stats().Out.Messages,
			dropped)
	}
	if id, blocked := b.Node(peer.ID); id != "" || blocked != 0 || b.Blocked() != 0 {
		t.Errorf("the node that has gone still has id %q and blocked %v", id, blocked)
	}
}
