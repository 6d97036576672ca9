package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed is a ZAP handler that always gives the same reply.
type fixed struct {
	reply zap.Reply
	err   error
}

func (f fixed) Authenticate(context.Context, *zap.Request) (zap.Reply, error) {
	return f.reply, f.err
}

func TestGuardDecides(t *testing.T) {
	ok, denied := fixed{reply: zap.Reply{Status: zap.StatusOK}},
		fixed{reply: zap.Reply{Status: zap.StatusDenied}}
	inside, outside := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		[]netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	for name, c := range map[string]struct {
		handler zap.Handler
		rules   Rules
		want    int
		counted string
	}{
		"no rule":                     {nil, Rules{}, zap.StatusOK, ""},
		"address allowed":             {nil, Rules{Allow: inside}, zap.StatusOK, "200"},
		"address not allowed":         {nil, Rules{Allow: outside}, zap.StatusDenied, "400"},
		"address denied":              {ok, Rules{Deny: inside}, zap.StatusDenied, "400"},
		"handler admits":              {ok, Rules{Allow: inside}, zap.StatusOK, "200"},
		"handler refuses":             {denied, Rules{Allow: inside}, zap.StatusDenied, "400"},
		"refusals are temporary":      {denied, Rules{Temporary: true}, zap.StatusTemporary, "400"},
		"handler gives invalid reply": {fixed{reply: zap.Reply{Status: 7}}, Rules{}, 7, "none"},
	} {
		g := NewGuard(nil, c.handler, slog.New(slog.DiscardHandler))
		if _, err := g.Protect(zmtp.Config{}, "pull"); err != nil {
			t.Fatal(err)
		}
		g.SetRules(c.rules)
		reply, err := g.Authenticate(t.Context(), &zap.Request{Mechanism: "NULL", Domain: "pull",
			Address: "192.0.2.1"})
		if err != nil || reply.Status != c.want {
			t.Errorf("%s: status %d, %v; want %d", name, reply.Status, err, c.want)
		}
		for status, n := range g.Answers()["pull"] {
			want := uint64(0)
			if status == c.counted {
				want = 1
			}
			if n != want {
				t.Errorf("%s: %d answers %s", name, n, status)
			}
		}
	}
	g := NewGuard(nil, fixed{err: errors.New("no answer")}, slog.New(slog.DiscardHandler))
	if _, err := g.Authenticate(t.Context(), &zap.Request{Domain: "unknown"}); err == nil {
		t.Error("a handler that does not answer admits")
	}
}

// Changed rules affect connected peers and new ones. Peers that are still admitted do not notice.
func TestGuardSweepsPeersThatAreNotAdmittedAnyMore(t *testing.T) {
	g := NewGuard(nil, nil, slog.New(slog.DiscardHandler))
	config, err := g.Protect(zmtp.Config{}, "pull")
	if err != nil {
		t.Fatal(err)
	}
	pull := zmtp.NewPull(config)
	defer pull.Close()
	g.Cover(pull)
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
	await := func(what string, peers int) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for len(pull.Peers()) != peers {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	await("not connected without rules", 1)
	g.SetRules(Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Temporary: true})
	g.Sweep()
	if n := len(pull.Peers()); n != 1 {
		t.Errorf("%d peers of an allowed address", n)
	}
	g.SetRules(Rules{Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Temporary: true})
	g.Sweep()
	await("connected although denied", 0)
	g.SetRules(Rules{})
	await("not connected again", 1)
}

// The log has one line for a client that is refused, or whose authenticator fails: the Guard logs
// it with its key, so the socket does not.
func TestRefusedClientIsLoggedOnce(t *testing.T) {
	for name, handler := range map[string]fixed{
		"refused": {reply: zap.Reply{Status: zap.StatusDenied, Text: "unknown"}},
		"failed":  {err: errors.New("no answer")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out testkit.Output
			log := slog.New(slog.NewTextHandler(&out, nil))
			config, err := NewGuard(nil, handler, log).Protect(zmtp.Config{Logger: log}, "pull")
			if err != nil {
				t.Fatal(err)
			}
			pull := zmtp.NewPull(config)
			defer pull.Close()
			failures := pull.Monitor(100).Events()
			endpoint, err := pull.Listen("tcp://127.0.0.1:*")
			if err != nil {
				t.Fatal(err)
			}
			push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
			defer push.Close()
			if err := push.Connect(endpoint); err != nil {
				t.Fatal(err)
			}
			for e := range failures {
				if e.Type == zmtp.EventDisconnected {
					break
				}
			}
			pull.Close() // waits for the goroutine that logs
			if lines := strings.Count(out.String(), "level=WARN"); lines != 1 ||
				!strings.Contains(out.String(), "client refused") {
				t.Errorf("%d lines:\n%s", lines, out.String())
			}
		})
	}
}

func TestGuardLogsRemovedKeys(t *testing.T) {
	f := newFolder(t)
	f.add("stays")
	f.add("goes")
	f.addServer("second")
	var log bytes.Buffer
	g := NewGuard(f.open(), nil, slog.New(slog.NewTextHandler(&log, nil)))
	f.remove("goes")
	g.Reload()
	for _, want := range []string{`msg="keys were read again" changed=true`,
		`msg="key of a client was removed; its connections are closed" client=goes`} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("the log does not have this line once: %s\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "server key was removed") ||
		strings.Contains(log.String(), "client=stays") {
		t.Errorf("the log has more lines than expected:\n%s", log.String())
	}
	log.Reset()
	f.removeServer("second")
	g.Reload()
	if !strings.Contains(log.String(), "server key was removed") {
		t.Errorf("the removed server key is not logged:\n%s", log.String())
	}
}

// A change of ten thousand clients is logged neither in ten thousand lines nor in one line with all
// their names.
func TestChangesAreLoggedBriefly(t *testing.T) {
	var log bytes.Buffer
	f := newFolder(t)
	f.add("one")
	g := NewGuard(f.open(), nil, slog.New(slog.NewTextHandler(&log, nil)))
	var many []string
	for i := range maxClients {
		many = append(many, fmt.Sprintf("worker-%d", i))
	}
	g.announce(Change{Added: many, Removed: many, Changed: many})
	if log.Len() > 10_000 || !strings.Contains(log.String(), "and 9980 others") {
		t.Errorf("%d bytes are logged: %.2000s", log.Len(), &log)
	}
}
