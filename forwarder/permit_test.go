package forwarder

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// newPermitBroker starts a broker whose peers log in by name and have the permissions that permit
// returns.
func newPermitBroker(t *testing.T, cfg Config,
	permit func(user string) (Permissions, error)) *broker {
	t.Helper()
	anybody := zap.HandlerFunc(func(_ context.Context, r *zap.Request) (zap.Reply, error) {
		return zap.Reply{Status: zap.StatusOK, UserID: string(r.Credentials[0])}, nil
	})
	plain := zmtp.Config{
		Mechanism: (&zmtp.PlainServer{Auth: zmtp.Auth{Handler: anybody}}).Mechanism}
	cfg.XSub, cfg.XPub = plain, plain
	if cfg.Tap != nil {
		cfg.Tap.Socket = plain
	}
	cfg.Permit = func(p *zmtp.Peer) (Permissions, error) { return permit(p.UserID()) }
	return newBroker(t, cfg)
}

// as returns the configuration of a peer with the name user.
func (n *broker) as(user string) zmtp.Config {
	cfg := n.peerConfig()
	cfg.Mechanism = (&zmtp.PlainClient{User: user}).Mechanism
	return cfg
}

func TestPermissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPermitBroker(t, Config{}, func(user string) (Permissions, error) {
			switch user {
			case "free":
				return Permissions{}, nil
			case "bound":
				return Permissions{Publish: []string{"a.", "b"}, Subscribe: []string{"s."}}, nil
			case "mute":
				return Permissions{Publish: []string{}}, nil
			}
			return Permissions{}, errors.New("nobody knows " + user)
		})
		defer n.Close()
		all := zmtp.NewSub(n.as("free"))
		defer all.Close()
		bound := zmtp.NewSub(n.as("bound"))
		defer bound.Close()
		for _, topic := range []string{"s.1", "s", "", "t."} {
			bound.Subscribe(topic)
		}
		all.Subscribe("")
		pubs := map[string]*zmtp.Pub{}
		for _, user := range []string{"free", "bound", "mute", "stranger"} {
			pubs[user] = zmtp.NewPub(n.as(user))
			defer pubs[user].Close()
			if err := pubs[user].Connect("tcp://" + xsubAddr); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range []*zmtp.Sub{all, bound} {
			if err := s.Connect("tcp://" + xpubAddr); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		long := "a." + strings.Repeat("x", 300)
		send := func(user string, topics ...string) {
			for _, topic := range topics {
				if err := pubs[user].TrySend(zmtp.NewMessageString(topic, user)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
		}
		send("free", "s.1", "t.", "s.2")
		send("bound", "a.1", "a", "b", "s.1", long, strings.Repeat("x", 300), "", "a.1", "a")
		send("mute", "a.1", "")
		send("stranger", "a.1")

		receive := func(s *zmtp.Sub) (got []string) {
			for {
				m, err := s.TryRecv()
				if err != nil {
					return got
				}
				got = append(got, string(m.Part(1))+" "+string(m.Part(0)))
			}
		}
		want := []string{"free s.1", "free t.", "free s.2", "bound a.1", "bound b", "bound " + long,
			"bound a.1"}
		if got := receive(all); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("the subscriber with all permissions received %q, want %q", got, want)
		}
		if got := receive(bound); strings.Join(got, "|") != "free s.1" {
			t.Errorf("the subscriber with permission for s. received %q", got)
		}
		st := n.Stats()
		if d := st.Denied; d["bound"] != (Denied{5, 3}) || d["mute"] != (Denied{2, 0}) ||
			len(d) != 2 {
			t.Errorf("denied: %v", d)
		}
		if st.XSub.HandshakeFailures[wire.AuthRefused] == 0 || st.Received.Unmatched != 0 {
			t.Errorf("a stranger: %v, %d unmatched", st.XSub.HandshakeFailures,
				st.Received.Unmatched)
		}
		if len(n.logs.matching("may not publish")) != 2 ||
			len(n.logs.matching("may not subscribe", "client=bound")) != 1 {
			t.Errorf("logged: %q", n.logs.matching())
		}

		n.ClosePeers(func(p *zmtp.Peer) error {
			if p.UserID() == "bound" {
				return errors.New("gone")
			}
			return nil
		})
		synctest.Wait()
		for _, p := range n.Stats().Publishers {
			if p.UserID == "bound" {
				t.Error("a closed publisher still has an entry")
			}
		}
	})
}

// Messages that a subscriber sends upstream need permission too.
func TestPermissionsOfMessagesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPermitBroker(t, Config{}, func(user string) (Permissions, error) {
			if user == "free" {
				return Permissions{}, nil
			}
			return Permissions{Publish: []string{"a."}}, nil
		})
		defer n.Close()
		up := zmtp.NewXPub(n.as("free"), zmtp.XPubOptions{})
		defer up.Close()
		if err := up.Connect("tcp://" + xsubAddr); err != nil {
			t.Fatal(err)
		}
		xsub := zmtp.NewXSub(n.as("bound"))
		defer xsub.Close()
		if err := xsub.Connect("tcp://" + xpubAddr); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, topic := range []string{"b.", "a.1"} {
			if err := xsub.TrySend(zmtp.NewMessageString(topic, "x")); err != nil {
				t.Fatal(err)
			}
		}
		m, err := up.Recv(t.Context())
		if err != nil || string(m.Part(0)) != "a.1" {
			t.Fatalf("%q, %v", m.Part(0), err)
		}
		if d := n.Stats().Denied["bound"]; d != (Denied{1, 0}) {
			t.Errorf("denied %v", d)
		}
	})
}
