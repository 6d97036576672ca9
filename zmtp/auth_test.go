package zmtp

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// authPair connects a Push with the client mechanism to a Pull with the server mechanism.
func authPair(t *testing.T, client, server func(wire.Metadata) Mechanism) (*Push, *Pull, *Monitor,
	*Monitor) {
	t.Helper()
	pull := NewPull(Config{Mechanism: server})
	push := NewPush(Config{Mechanism: client, ReconnectInterval: 10 * time.Millisecond},
		PushOptions{})
	mc, ms := push.Monitor(1000), pull.Monitor(1000)
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Connect(bound); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { push.Close(); pull.Close() })
	return push, pull, mc, ms
}

// event waits for an event of one of the types.
func event(t *testing.T, m *Monitor, types ...EventType) Event {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e, ok := <-m.Events():
			if !ok {
				t.Fatalf("monitor ended before %v", types)
			}
			for _, want := range types {
				if e.Type == want {
					return e
				}
			}
		case <-timeout:
			t.Fatalf("no event %v", types)
		}
	}
}

func TestPlainAsksTheHandler(t *testing.T) {
	ctx := testContext(t)
	server := &PlainServer{Auth{Domain: "logs",
		Handler: zap.HandlerFunc(func(ctx context.Context, r *zap.Request) (zap.Reply, error) {
			if r.Domain != "logs" || r.Address != "127.0.0.1" || r.ID != "1" {
				t.Errorf("request %+v", r)
			}
			reply, err := zap.Passwords{"zeek": "secret"}.Authenticate(ctx, r)
			reply.Metadata = wire.AppendProperty(nil, "Team", []byte("blue"))
			return reply, err
		})}}
	client := &PlainClient{User: "zeek", Password: "secret"}
	push, pull, _, _ := authPair(t, client.Mechanism, server.Mechanism)
	if err := push.Send(ctx, NewMessageString("hello")); err != nil {
		t.Fatal(err)
	}
	m, err := pull.Recv(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{PropUserID: "zeek", "Team": "blue", "Socket-Type": "PUSH"} {
		if v, _ := m.Peer().Metadata().Get(name); string(v) != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
}

func TestRefusalsReachTheClientAsInLibzmq(t *testing.T) {
	reply := func(status int) *Auth {
		return &Auth{Handler: zap.HandlerFunc(func(context.Context, *zap.Request) (zap.Reply,
			error) {
			return zap.Reply{Status: status, Text: "because"}, nil
		})}
	}
	plain := (&PlainClient{User: "zeek", Password: "secret"}).Mechanism
	for name, c := range map[string]struct {
		client, server func(wire.Metadata) Mechanism
		status         uint32 // in both events; 0: the client is only hung up on and tries again
	}{
		"PLAIN 300":        {plain, (&PlainServer{*reply(300)}).Mechanism, 0},
		"PLAIN 400":        {plain, (&PlainServer{*reply(400)}).Mechanism, 400},
		"PLAIN 500":        {plain, (&PlainServer{*reply(500)}).Mechanism, 500},
		"NULL 300":         {newNull, (&Null{*reply(300)}).Mechanism, 0},
		"NULL 400":         {newNull, (&Null{*reply(400)}).Mechanism, 400},
		"no authenticator": {plain, (&PlainServer{}).Mechanism, 0},
		"bad status":       {plain, (&PlainServer{*reply(404)}).Mechanism, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, pull, mc, ms := authPair(t, c.client, c.server)
			se := event(t, ms, EventHandshakeFailedAuth, EventHandshakeFailedNoDetail,
				EventHandshakeFailedProtocol)
			ce := event(t, mc, EventHandshakeFailedAuth, EventHandshakeFailedNoDetail,
				EventHandshakeFailedProtocol)
			if c.status == 0 {
				if ce.Type != EventHandshakeFailedNoDetail {
					t.Errorf("client event %v", ce)
				}
				event(t, mc, EventConnectRetried)
				return
			}
			if se.Type != EventHandshakeFailedAuth || se.Value != c.status ||
				ce.Type != EventHandshakeFailedAuth || ce.Value != c.status {
				t.Errorf("events %v and %v, want status %d", se, ce, c.status)
			}
			event(t, mc, EventClosed) // and no further attempt
			if n := pull.Stats().Accepted; n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

func TestOpenAdmitsAllWithoutHandler(t *testing.T) {
	ctx := testContext(t)
	push, pull, _, _ := authPair(t, (&PlainClient{User: "x"}).Mechanism,
		(&PlainServer{Auth{Open: true}}).Mechanism)
	push.Send(ctx, NewMessageString("in"))
	if _, err := pull.Recv(ctx); err != nil {
		t.Fatal(err)
	}
}

// The request of a client that closes its connection is cancelled.
func TestHandlerIsCancelledWithItsClient(t *testing.T) {
	asked, cancelled := make(chan struct{}), make(chan struct{})
	server := &Null{Auth{Handler: zap.HandlerFunc(func(ctx context.Context,
		_ *zap.Request) (zap.Reply, error) {
		close(asked)
		<-ctx.Done()
		close(cancelled)
		return zap.Reply{}, ctx.Err()
	})}}
	push, _, _, _ := authPair(t, newNull, server.Mechanism)
	<-asked
	push.Close()
	select {
	case <-cancelled:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler still waits for a client that is gone")
	}
}

func TestBadReplyMetadataIsAFaultOfTheAuthenticator(t *testing.T) {
	bad := binary.BigEndian.AppendUint32([]byte("\x01a"), 9)
	a := Auth{Handler: zap.HandlerFunc(func(context.Context, *zap.Request) (zap.Reply, error) {
		return zap.Reply{Status: zap.StatusOK, Metadata: bad}, nil
	})}
	_, _, err := a.Ask(t.Context(), nil, "NULL")
	typ, value := failure(err)
	if e, ok := errors.AsType[*wire.Error](err); !ok || e.Reason != wire.AuthUnavailable ||
		typ != EventHandshakeFailedProtocol || value != 0x20000005 {
		t.Fatal(err, typ, value)
	}
}

func TestPeerCannotSetUserID(t *testing.T) {
	ready := wire.AppendMetadata(nil, wire.Metadata{
		{Name: "Socket-Type", Value: []byte("PUSH")}, {Name: "user-id", Value: []byte("root")},
		{Name: "X-A", Value: []byte("b")},
	})
	for name, m := range map[string]Mechanism{"NULL": newNull(nil), "PLAIN": &plainServer{state: plainInitiate}} {
		cmd := wire.AppendCommand(nil,
			map[string]string{"NULL": wire.CmdReady, "PLAIN": cmdInitiate}[name], ready)
		if _, progress, err := m.Handshake(nil, cmd[2:]); err != nil || progress != ProgressReady {
			t.Fatal(name, progress, err)
		}
		if v, ok := m.Metadata().Get(PropUserID); ok || len(m.Metadata()) != 2 {
			t.Errorf("%s: User-Id %q in %v", name, v, m.Metadata())
		}
	}
}

// ClosePeers closes the peers for which the function returns an error, with that error, and no
// others.
func TestClosePeers(t *testing.T) {
	ctx := testContext(t)
	server := &PlainServer{Auth{Handler: zap.Passwords{"one": "1", "two": "2"}}}
	pull := NewPull(Config{Mechanism: server.Mechanism})
	defer pull.Close()
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	peers := map[string]*Peer{}
	for user, password := range map[string]string{"one": "1", "two": "2"} {
		push := NewPush(Config{Mechanism: (&PlainClient{User: user, Password: password}).Mechanism},
			PushOptions{})
		defer push.Close()
		if err := push.Connect(bound); err != nil {
			t.Fatal(err)
		}
		if err := push.Send(ctx, NewMessageString(user)); err != nil {
			t.Fatal(err)
		}
		m, err := pull.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if id := m.Peer().UserID(); id != user || m.Peer().Stats().UserID != user {
			t.Errorf("user id is %q, want %q", id, user)
		}
		peers[user] = m.Peer()
	}
	pull.ClosePeers(func(p *Peer) error {
		if p.UserID() == "one" {
			return wire.Errorf(wire.AuthRefused, "not any more")
		}
		return nil
	})
	select {
	case <-peers["one"].Done():
	case <-ctx.Done():
		t.Fatal("one is still there")
	}
	select {
	case <-peers["two"].Done():
		t.Error("two is gone as well")
	default:
	}
}
