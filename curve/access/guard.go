package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// Guard decides which peers may connect to the sockets of a process, and closes the connections of
// peers that may no longer be connected. It puts together address lists, and either a Store or
// another ZAP handler. All methods may be called from any goroutine; Protect and Cover must be
// called before peers connect.
type Guard struct {
	// Static.
	log     *slog.Logger
	keys    *Store      // of CURVE; nil for NULL
	handler zap.Handler // decides in place of keys; nil for none
	users   *Users      // of PLAIN; nil for none

	rules    atomic.Pointer[rules]
	answers  map[string]*[numAnswers]atomic.Uint64 // by ZAP domain; complete before peers connect
	covered  []PeerCloser                          // complete before peers connect
	refusals *refusalLog

	mu    sync.Mutex // of reloads
	fault string     // the error of the last reload, "" for none; guarded by mu
}

// Rules are what can be changed while peers are connected.
type Rules struct {
	// Allow and Deny are address ranges. An address in Deny may not connect. If Allow is not empty,
	// an address has to be in it.
	Allow, Deny []netip.Prefix
	// Temporary makes refusals temporary (ZAP status 300): the peer is not told, and tries again.
	// Without it the peer gets the status of the handler.
	Temporary bool
}

// rules are Rules in effect.
type rules struct {
	addresses *zap.Addresses // nil for none
	decide    zap.Handler    // addresses, then handler or keys; nil admits all peers
	temporary bool
}

// PeerCloser is implemented by sockets and what consists of sockets.
type PeerCloser interface {
	ClosePeers(func(*zmtp.Peer) error)
}

// NewGuard returns a Guard without Rules. keys makes the sockets CURVE servers; nil leaves them
// without encryption. handler, such as a [zapclient.Client], decides about peers in place of the
// client list of keys; nil for none.
func NewGuard(keys *Store, handler zap.Handler, log *slog.Logger) *Guard {
	g := &Guard{log: log, keys: keys, handler: handler,
		answers: map[string]*[numAnswers]atomic.Uint64{}, refusals: newRefusalLog(log)}
	g.SetRules(Rules{})
	return g
}

// NewPlainGuard returns a Guard without Rules that makes the sockets PLAIN servers for users.
func NewPlainGuard(users *Users, log *slog.Logger) *Guard {
	g := NewGuard(nil, users, log)
	g.users = users
	return g
}

// SetRules replaces the rules. Sweep closes the peers that they no longer admit.
func (g *Guard) SetRules(r Rules) {
	now := &rules{decide: g.handler, temporary: r.Temporary}
	if g.handler == nil && g.keys != nil {
		now.decide = g.keys
	}
	if len(r.Allow)+len(r.Deny) > 0 {
		now.addresses = &zap.Addresses{Allow: r.Allow, Deny: r.Deny, Status: zap.StatusDenied,
			Next: now.decide}
		now.decide = now.addresses
	}
	g.rules.Store(now)
}

// Users returns the users of PLAIN, nil for none.
func (g *Guard) Users() *Users { return g.users }

// Keys returns the keys, nil for none.
func (g *Guard) Keys() *Store { return g.keys }

// Listed reports whether the client list of the keys decides about peers.
func (g *Guard) Listed() bool { return g.keys != nil && g.handler == nil }

// Restricted reports whether any peer can be refused.
func (g *Guard) Restricted() bool { return g.rules.Load().decide != nil }

// Protect returns config for a socket to which only admitted peers can connect. domain is its ZAP
// domain.
func (g *Guard) Protect(config zmtp.Config, domain string) (zmtp.Config, error) {
	if g.answers[domain] == nil {
		g.answers[domain] = new([numAnswers]atomic.Uint64)
	}
	auth := zmtp.Auth{Handler: g, Domain: domain, HandlerLogs: true}
	if g.keys != nil {
		var err error
		config.Mechanism, err = g.keys.Mechanism(auth)
		return config, err
	}
	if g.users != nil {
		config.Mechanism = (&zmtp.PlainServer{Auth: auth}).Mechanism
		return config, nil
	}
	guarded, open := zmtp.Null{Auth: auth}, zmtp.Null{Auth: zmtp.Auth{Open: true}}
	config.Mechanism = func(local wire.Metadata) zmtp.Mechanism {
		if g.Restricted() {
			return guarded.Mechanism(local)
		}
		return open.Mechanism(local)
	}
	return config, nil
}

// Cover makes Sweep look at the peers of p.
func (g *Guard) Cover(p PeerCloser) { g.covered = append(g.covered, p) }

// Authenticate implements [zap.Handler].
func (g *Guard) Authenticate(ctx context.Context, req *zap.Request) (zap.Reply, error) {
	rules := g.rules.Load()
	if rules.decide == nil { // the rules changed after the connection was made
		return zap.Reply{Status: zap.StatusOK, Text: "OK"}, nil
	}
	reply, err := rules.decide.Authenticate(ctx, req)
	if counts := g.answers[req.Domain]; counts != nil {
		counts[answerOf(reply, err)].Add(1)
	}
	if err != nil || reply.Status != zap.StatusOK {
		g.refusals.add(req, reply, err)
	} else {
		g.log.Debug("client admitted", "socket", req.Domain, "peer", req.Address, "client",
			reply.UserID)
	}
	if rules.temporary && (reply.Status == zap.StatusDenied || reply.Status == zap.StatusFailed) {
		reply.Status = zap.StatusTemporary
	}
	return reply, err
}

// Reload reads the keys or users again and logs what has changed. On an error those from before
// stay.
func (g *Guard) Reload() {
	if g.users != nil {
		g.reloadUsers((*Users).reload)
		return
	}
	if g.keys == nil {
		g.log.Debug("there are no keys to read again")
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	change, err := g.keys.Reload()
	if err != nil {
		g.fault = err.Error()
		g.log.Error("keys cannot be read; the keys from before stay in use", "err", err)
		return
	}
	g.fault = ""
	g.log.Info("keys were read again", "changed", !change.Empty())
	g.announce(change)
}

// reloadUsers reads the users again. It logs the same error once.
func (g *Guard) reloadUsers(reload func(*Users) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := reload(g.users)
	switch {
	case errors.Is(err, ErrUnchanged):
	case err != nil:
		if err.Error() != g.fault {
			g.log.Error("users cannot be read; the users from before stay in use", "err", err)
		}
		g.fault = err.Error()
	default:
		g.fault = ""
		g.log.Info("users were read again", "users", g.users.Len())
	}
}

// Poll reads the keys or users again if their files have changed. It logs the same error once.
func (g *Guard) Poll() {
	if g.users != nil {
		g.reloadUsers((*Users).reloadIfChanged)
		return
	}
	if g.keys == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	change, err := g.keys.ReloadIfChanged()
	switch {
	case errors.Is(err, ErrUnchanged):
	case err != nil:
		if err.Error() != g.fault {
			g.log.Error("keys cannot be read; the keys from before stay in use", "err", err)
		}
		g.fault = err.Error()
	default:
		g.fault = ""
		g.announce(change)
	}
}

// maxNamed bounds the clients that the log names for one change of the keys.
const maxNamed = 20

// named returns the names for the log: the first ones, and how many others there are.
func named(names []string) []string {
	if len(names) <= maxNamed {
		return names
	}
	return append(names[:maxNamed:maxNamed], fmt.Sprintf("and %d others", len(names)-maxNamed))
}

// announce logs a change of the keys.
func (g *Guard) announce(c Change) {
	if c.Empty() {
		return
	}
	st := g.keys.Stats()
	g.log.Info("keys have changed", "clients", st.Clients, "added", named(c.Added),
		"changed", named(c.Changed), "removed", named(c.Removed), "server_keys", st.ServerKeys)
	for _, name := range named(c.Removed) {
		g.log.Warn("key of a client was removed; its connections are closed", "client", name)
	}
	for _, key := range c.RemovedServerKeys {
		g.log.Warn("server key was removed; clients that know only this key cannot connect",
			"public_key",
			key)
	}
}

// stranger returns why a peer may no longer be connected: its address is not admitted any more, or
// its key or its permissions have changed, or its user was removed.
func (g *Guard) stranger(p *zmtp.Peer) error {
	if addresses := g.rules.Load().addresses; addresses != nil {
		if a, ok := p.Remote().(*net.TCPAddr); ok && !addresses.Admits(a.AddrPort().Addr()) {
			return errors.New("its address is not allowed any more")
		}
	}
	if g.users != nil && !g.users.has(p.UserID()) {
		return errors.New("its user was removed")
	}
	if g.Listed() {
		_, err := g.keys.Client(p.Metadata())
		return err
	}
	return nil
}

// Sweep closes the connections of peers that may no longer be connected. It has to be called again
// after a while: a peer may have been admitted while the lists were being replaced.
func (g *Guard) Sweep() {
	if !g.Listed() && g.users == nil && g.rules.Load().addresses == nil {
		return
	}
	type closed struct {
		peer *zmtp.Peer
		err  error
	}
	var all []closed
	for _, sockets := range g.covered {
		sockets.ClosePeers(func(p *zmtp.Peer) error {
			if err := g.stranger(p); err != nil {
				all = append(all, closed{p, err})
				return wire.Errorf(wire.AuthRefused, "%v", err)
			}
			return nil
		})
	}
	for _, c := range all[:min(len(all), maxNamed)] {
		g.log.Info("connection closed", "peer", c.peer.Remote(), "client", c.peer.UserID(),
			"reason", c.err)
	}
	if len(all) > maxNamed {
		g.log.Info("more connections were closed for such reasons", "connections",
			len(all)-maxNamed)
	}
}

// answer is a ZAP status.
type answer int

const (
	answerOK answer = iota
	answerTemporary
	answerDenied
	answerFailed
	answerNone // the handler could not be asked, or its reply is invalid
	numAnswers
)

var answerNames = [numAnswers]string{"200", "300", "400", "500", "none"}

func answerOf(reply zap.Reply, err error) answer {
	if err == nil {
		if i := slices.Index(answerNames[:], strconv.Itoa(reply.Status)); i >= 0 {
			return answer(i)
		}
	}
	return answerNone
}

// Answers returns how often each ZAP status was the answer, by ZAP domain and status. The status is
// that of the handler; it is "none" if there was no valid reply.
func (g *Guard) Answers() map[string]map[string]uint64 {
	all := map[string]map[string]uint64{}
	for domain, counts := range g.answers {
		all[domain] = map[string]uint64{}
		for a := range numAnswers {
			all[domain][answerNames[a]] = counts[a].Load()
		}
	}
	return all
}
