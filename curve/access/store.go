package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
)

// Store holds the keys that are in use. All methods may be called from any goroutine at any time.
type Store struct {
	sources Sources
	limiter *curve.Limiter
	now     atomic.Pointer[content]

	mu    sync.Mutex // of Reload
	seen  print      // of the files when they were read last
	last  uint64     // the highest id of a client
	ends  []*end
	stats Stats
}

// Stats are the counters of a Store.
type Stats struct {
	Clients, ServerKeys int // in use
	Reloads             uint64
	Failures            uint64    // of Reload
	Changed             time.Time // when the keys in use were read
}

// Open reads the sources and keeps s. The handshakes of all sockets are limited by l.
func Open(s Sources, l *curve.Limiter) (*Store, error) {
	store := &Store{sources: s, limiter: l, seen: s.print(time.Now())}
	c, err := s.load()
	if err != nil {
		return nil, err
	}
	store.number(c)
	store.now.Store(c)
	store.stats.Changed = time.Now()
	return store, nil
}

// Change is what a reload has changed, as names of clients in alphabetical order.
type Change struct {
	Added, Removed []string
	Changed        []string // clients with other permissions or another key
	ServerKeys     int      // number of keys, if they are other ones than before; else 0

	RemovedServerKeys []string // public keys
}

// Empty reports whether nothing has changed.
func (c *Change) Empty() bool {
	return len(c.Added)+len(c.Removed)+len(c.Changed)+c.ServerKeys == 0
}

// ErrUnchanged is returned by ReloadIfChanged if there was nothing to do.
var ErrUnchanged = errors.New("access: the files have not changed")

// Reload reads the sources again and puts their content into use. On an error the content from
// before stays in use. It reads files, which may take a while.
func (s *Store) Reload() (Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload(s.sources.print(time.Now()))
}

// ReloadIfChanged is Reload if a file seems to have changed since the last call of either method.
// Otherwise the error is ErrUnchanged.
func (s *Store) ReloadIfChanged() (Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.sources.print(time.Now())
	if p == s.seen {
		return Change{}, ErrUnchanged
	}
	return s.reload(p)
}

// reload reads the sources, whose fingerprint before that was p. Caller holds mu.
func (s *Store) reload(p print) (Change, error) {
	s.seen = p
	c, err := s.sources.load()
	if err != nil {
		s.stats.Failures++
		return Change{}, err
	}
	change := difference(s.now.Load(), c)
	s.number(c)
	s.stats.Reloads++
	if change.Empty() {
		return change, nil
	}
	for _, e := range s.ends {
		server, err := curve.NewServer(e.auth, c.server...)
		if err != nil {
			return Change{}, err
		}
		defer e.server.Store(server.WithLimiter(s.limiter).WithKeyLog(s.sources.KeyLog)) // all or none of them
	}
	s.now.Store(c)
	s.stats.Changed = time.Now()
	return change, nil
}

// number gives new and changed clients an id; unchanged clients keep theirs. Caller holds mu, or is
// Open.
func (s *Store) number(c *content) {
	var before map[curve.Key]*Client
	if old := s.now.Load(); old != nil {
		before = old.clients.byKey
	}
	for key, client := range c.clients.byKey {
		if was := before[key]; was != nil && was.same(client) {
			client = was
			c.clients.byKey[key] = client
		} else {
			s.last++
			numbered := *client
			numbered.id = s.last
			client = &numbered
			c.clients.byKey[key] = client
		}
		c.clients.byID[client.id] = client
	}
}

func difference(old, now *content) (c Change) {
	before := map[string]*Client{}
	for _, client := range old.clients.byKey {
		before[client.Name] = client
	}
	for _, client := range now.clients.byKey {
		was := before[client.Name]
		delete(before, client.Name)
		switch {
		case was == nil:
			c.Added = append(c.Added, client.Name)
		case !was.same(client):
			c.Changed = append(c.Changed, client.Name)
		}
	}
	for name := range before {
		c.Removed = append(c.Removed, name)
	}
	for _, names := range [][]string{c.Added, c.Removed, c.Changed} {
		slices.Sort(names)
	}
	serverKeys, after := sortedKeys(old.server), sortedKeys(now.server)
	if !slices.Equal(serverKeys, after) {
		c.ServerKeys = len(now.server)
	}
	for _, key := range serverKeys {
		if !slices.Contains(after, key) {
			c.RemovedServerKeys = append(c.RemovedServerKeys, key)
		}
	}
	return c
}

// same reports whether a connection of c may stay open when d takes its place.
func (c *Client) same(d *Client) bool {
	return c.Name == d.Name && c.Key == d.Key && c.Equal(&d.Permissions)
}

// sortedKeys returns the public keys, to compare.
func sortedKeys(secrets []curve.Secret) []string {
	var all []string
	for _, s := range secrets {
		all = append(all, s.Public().String())
	}
	slices.Sort(all)
	return all
}

// Stats returns a snapshot of the counters.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	c := s.now.Load()
	st.Clients, st.ServerKeys = len(c.clients.byKey), len(c.server)
	return st
}

// Handshakes returns a snapshot of the limiter's counters.
func (s *Store) Handshakes() curve.LimiterStats { return s.limiter.Stats() }

// PublicKeys returns the server's public keys in the order of the sources. Clients have to know one
// of them.
func (s *Store) PublicKeys() []curve.Key {
	var all []curve.Key
	for _, secret := range s.now.Load().server {
		all = append(all, secret.Public())
	}
	return all
}

// Clients returns all clients, in the order of their names.
func (s *Store) Clients() []*Client {
	return slices.SortedFunc(maps.Values(s.now.Load().clients.byKey),
		func(a, b *Client) int { return strings.Compare(a.Name, b.Name) })
}

// DomainLogs is the ZAP domain in which clients with NoLogs are refused.
const DomainLogs = "pull"

// PropClient is the property of a connection's metadata that identifies its client to the Store. A
// client cannot set it: of two properties with the same name the first counts, and those of the
// handler come before those of the client.
const PropClient = "X-Access-Client"

// Authenticate implements [zap.Handler]. It admits the clients of the list and refuses others with
// status 400.
func (s *Store) Authenticate(_ context.Context, req *zap.Request) (zap.Reply, error) {
	if req.Mechanism != "CURVE" || len(req.Credentials) != 1 ||
		len(req.Credentials[0]) != curve.KeySize {
		return zap.Reply{Status: zap.StatusDenied, Text: "the server admits CURVE clients only"},
			nil
	}
	client := s.now.Load().clients.byKey[curve.Key(req.Credentials[0])]
	switch {
	case client == nil:
		return zap.Reply{Status: zap.StatusDenied, Text: "the client's key is not in the list"}, nil
	case client.NoLogs && req.Domain == DomainLogs:
		return zap.Reply{Status: zap.StatusDenied, Text: "client " + client.Name +
				" may not send logs"},
			nil
	}
	return zap.Reply{
		Status: zap.StatusOK, Text: "OK", UserID: client.Name,
		Metadata: wire.AppendProperty(nil, PropClient, strconv.AppendUint(nil, client.id, 10)),
	}, nil
}

// Client returns the client of a connection that the Store admitted, from the connection's
// metadata. On an error the connection must be closed: the client's key was removed, or its
// permissions have changed. In the latter case the client connects again, with its new permissions.
func (s *Store) Client(m wire.Metadata) (*Client, error) {
	text, _ := m.Get(PropClient)
	id, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return nil, errors.New("access: the connection was not admitted by this list")
	}
	now := s.now.Load().clients
	if client := now.byID[id]; client != nil {
		return client, nil
	}
	name, _ := m.Get(zmtp.PropUserID)
	if _, ok := now.byName[string(name)]; ok {
		return nil, fmt.Errorf("access: the key or the permissions of client %s have changed", name)
	}
	return nil, fmt.Errorf("access: the key of client %s was removed", name)
}

// end is the server for the sockets of one ZAP domain.
type end struct {
	auth   zmtp.Auth
	server atomic.Pointer[curve.Server]
}

// Mechanism returns the value of [zmtp.Config.Mechanism] for the server side of CURVE. Each
// connection uses the server keys that are in use when it is made. auth decides about clients; its
// Handler is usually the Store, or a handler that asks the Store.
func (s *Store) Mechanism(auth zmtp.Auth) (func(local wire.Metadata) zmtp.Mechanism, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	server, err := curve.NewServer(auth, s.now.Load().server...)
	if err != nil {
		return nil, err
	}
	e := &end{auth: auth}
	e.server.Store(server.WithLimiter(s.limiter).WithKeyLog(s.sources.KeyLog))
	s.ends = append(s.ends, e)
	return func(local wire.Metadata) zmtp.Mechanism { return e.server.Load().Mechanism(local) }, nil
}
