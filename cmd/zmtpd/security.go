package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"zmtpd/curve"
	"zmtpd/curve/access"
	"zmtpd/forwarder"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
	"zmtpd/zmtp/zapclient"
)

// securityFlags say who may come in.
type securityFlags struct {
	CurveSecretKeyFile []string `group:"security" placeholder:"PATH" help:"Encrypt with the server's secret key in a certificate file, or with all keys in the files *.key_secret of a folder, while one is replaced (repeatable)."`
	CurveClients       []string `group:"security" placeholder:"PATH" help:"Let in the client with the public key in a certificate file, or those in the files *.key of a folder (repeatable). Both are read again when they change, and on SIGHUP."`
	CurveClientKey     []string `group:"security" sep:"none" placeholder:"[NAME=]KEY" help:"Let in the client with this public key (repeatable)."`
	ZAPHandler         string   `name:"zap-handler" group:"security" placeholder:"ENDPOINT" help:"Ask a ZAP handler (RFC 27) at a REP or ROUTER socket who may come in. The domain is xsub, xpub or pull."`
	Allow              []prefix `group:"security" placeholder:"ADDRESS" help:"Let in only clients from these IP addresses, as in 10.0.0.0/8 (repeatable)."`
	Deny               []prefix `group:"security" placeholder:"ADDRESS" help:"Keep out clients from these IP addresses (repeatable)."`
	AuthRefusal        int      `group:"security" enum:"300,400" default:"300" help:"What clients are told that may not come in. 300: nothing, they try again; 400: that it is final, which ends a Zeek node."`
}

// prefix is an IP address, or a range of them, on the command line.
type prefix netip.Prefix

// UnmarshalText parses it.
func (p *prefix) UnmarshalText(text []byte) error {
	if addr, err := netip.ParseAddr(string(text)); err == nil {
		addr = addr.Unmap()
		*p = prefix(netip.PrefixFrom(addr, addr.BitLen()))
		return nil
	}
	r, err := netip.ParsePrefix(string(text))
	if err != nil {
		return fmt.Errorf("%q is no IP address or range, as in 192.0.2.7 or 10.0.0.0/8", text)
	}
	if r != r.Masked() {
		return fmt.Errorf("%s has bits set behind its length: write %s", text, r.Masked())
	}
	*p = prefix(r)
	return nil
}

func prefixes(all []prefix) (p []netip.Prefix) {
	for _, one := range all {
		p = append(p, netip.Prefix(one))
	}
	return p
}

// security is who may come in to the sockets of a daemon. It is their zap.Handler.
type security struct {
	// Static after open.
	log     *slog.Logger
	keys    *access.Store     // of CURVE; nil for none
	zap     *zapclient.Client // nil for none
	next    zap.Handler       // who decides; nil lets everybody in
	refusal int
	guarded []peerCloser // set before watch

	answers  [len(domains)][numAnswers]atomic.Uint64
	refusals refusalLog
	clients  boundedLabels
}

// peerCloser is what sockets and the forwarder have in common.
type peerCloser interface {
	ClosePeers(func(*zmtp.Peer) error)
}

// The ZAP domains: the sockets of a daemon.
const (
	domainXSub = "xsub"
	domainXPub = "xpub"
	domainPull = access.DomainLogs
)

var domains = [...]string{domainXSub, domainXPub, domainPull}

// open reads the keys. close must follow.
func (f *securityFlags) open(log *slog.Logger) (*security, error) {
	s := &security{log: log, refusal: f.AuthRefusal, refusals: refusalLog{log: log}}
	sources, err := f.sources()
	if err != nil {
		return nil, err
	}
	if sources != nil {
		if s.keys, err = access.Open(*sources); err != nil {
			return nil, err
		}
		s.next = s.keys
		log.Info("CURVE is on", "public_keys", s.keys.PublicKeys(), "clients", s.keys.Stats().Clients)
	}
	if f.ZAPHandler != "" {
		if s.zap, err = zapclient.Dial(f.ZAPHandler, zmtp.Config{Logger: log}); err != nil {
			return nil, fmt.Errorf("--zap-handler: %w", err)
		}
		s.next = s.zap
	}
	if len(f.Allow)+len(f.Deny) > 0 {
		s.next = &zap.Addresses{Allow: prefixes(f.Allow), Deny: prefixes(f.Deny), Status: zap.StatusDenied, Next: s.next}
	}
	return s, nil
}

// sources returns where the keys come from, nil for no CURVE.
func (f *securityFlags) sources() (*access.Sources, error) {
	// An empty variable is a list of one empty value.
	clientKeys := slices.DeleteFunc(slices.Clone(f.CurveClientKey), func(text string) bool { return text == "" })
	zeek := readZeekKeys()
	for _, flag := range []struct {
		name   string
		values []string
	}{
		{"curve-secret-key-file", f.CurveSecretKeyFile},
		{"curve-clients", f.CurveClients},
		{"curve-client-key", clientKeys},
	} {
		if len(flag.values) > 0 {
			if err := zeek.checkMixture(flag.name); err != nil {
				return nil, err
			}
		}
	}
	if len(zeek) > 0 {
		return f.zeekSources(zeek)
	}
	clients := len(f.CurveClients) + len(clientKeys)
	switch {
	case len(f.CurveSecretKeyFile) == 0 && clients == 0:
		return nil, nil
	case len(f.CurveSecretKeyFile) == 0:
		return nil, usagef("client keys without a server key: add --curve-secret-key-file, or nothing would be encrypted")
	case clients == 0 && f.ZAPHandler == "":
		return nil, usagef("--curve-secret-key-file without --curve-clients, --curve-client-key or --zap-handler: nobody could come in")
	case clients > 0 && f.ZAPHandler != "":
		return nil, usagef("--zap-handler decides about client keys, so that --curve-clients and --curve-client-key have no effect: remove them, or it")
	}
	s := &access.Sources{ServerPaths: f.CurveSecretKeyFile, ClientPaths: f.CurveClients}
	for _, text := range clientKeys {
		client, err := parseClientKey(text)
		if err != nil {
			return nil, err
		}
		s.Clients = append(s.Clients, client)
	}
	return s, nil
}

// zeekSources takes the keys from Zeek's variables. The cluster has one client key.
func (f *securityFlags) zeekSources(zeek zeekKeys) (*access.Sources, error) {
	server, err := zeek.secret(zeekServerSecret, zeekServerPublic)
	if err != nil {
		return nil, err
	}
	public, err := zeek.public(zeekClientPublic)
	if err != nil {
		return nil, err
	}
	if zeek[zeekClientSecret] != "" {
		if _, err := zeek.secret(zeekClientSecret, zeekClientPublic); err != nil {
			return nil, err
		}
	}
	return &access.Sources{ServerKeys: []curve.Secret{server}, Clients: []*access.Client{{Name: "zeek", Key: public}}}, nil
}

// parseClientKey parses a key with a name. Without one it is called by its own text.
func parseClientKey(text string) (*access.Client, error) {
	name, key := text, text
	if len(text) != curve.TextSize {
		var ok bool
		if name, key, ok = strings.Cut(text, "="); !ok {
			return nil, usagef("--curve-client-key %q: want a public key of %d characters, or NAME= and the key", text, curve.TextSize)
		}
	}
	k, err := curve.ParseKey([]byte(key))
	if err != nil {
		return nil, usagef("--curve-client-key %s: %w", name, err)
	}
	return &access.Client{Name: name, Key: k}, nil
}

// close ends what open began.
func (s *security) close() {
	if s.zap != nil {
		s.zap.Close()
	}
}

// protect makes a configuration that of a socket into which only those come who may.
func (s *security) protect(config zmtp.Config, domain string) (zmtp.Config, error) {
	auth := zmtp.Auth{Handler: s, Domain: domain}
	var err error
	switch {
	case s.keys != nil:
		config.Mechanism, err = s.keys.Mechanism(auth)
	case s.next != nil:
		config.Mechanism = (&zmtp.Null{Auth: auth}).Mechanism
	}
	return config, err
}

// Authenticate implements zap.Handler.
func (s *security) Authenticate(ctx context.Context, req *zap.Request) (zap.Reply, error) {
	reply, err := s.next.Authenticate(ctx, req)
	s.count(req.Domain, reply, err)
	if err != nil || reply.Status != zap.StatusOK {
		s.refusals.add(req, reply, err)
	} else {
		s.log.Debug("client let in", "socket", req.Domain, "peer", req.Address, "client", reply.UserID)
	}
	if s.refusal == zap.StatusTemporary && (reply.Status == zap.StatusDenied || reply.Status == zap.StatusFailed) {
		reply.Status = zap.StatusTemporary
	}
	return reply, err
}

// permit tells the forwarder what a peer may do.
func (s *security) permit(p *zmtp.Peer) (forwarder.Permissions, error) {
	client, err := s.keys.Client(p.Metadata())
	if err != nil {
		return forwarder.Permissions{}, err
	}
	return forwarder.Permissions{Publish: client.Publish, Subscribe: client.Subscribe}, nil
}

// listed reports whether the daemon's own list decides about clients.
func (s *security) listed() bool { return s.keys != nil && s.zap == nil }

// guard lets peers be closed whose key is taken away.
func (s *security) guard(sockets peerCloser) { s.guarded = append(s.guarded, sockets) }

// pollInterval is how often it is looked whether the files of the keys have changed.
const pollInterval = time.Second

// watch reads the keys again when they change, and on SIGHUP, until ctx ends.
func (s *security) watch(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	if s.keys == nil {
		for {
			select {
			case <-hup:
				s.log.Debug("SIGHUP: there are no keys to read again")
			case <-ctx.Done():
				return
			}
		}
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	fault := ""
	for {
		var change access.Change
		var err error
		select {
		case <-hup:
			change, err = s.keys.Reload()
			s.log.Info("SIGHUP: the keys were read again", "changed", err == nil && !change.Empty())
			fault = ""
		case <-tick.C:
			change, err = s.keys.ReloadIfChanged()
		case <-ctx.Done():
			return
		}
		switch {
		case errors.Is(err, access.ErrUnchanged):
		case err != nil:
			if err.Error() != fault {
				s.log.Error("the keys cannot be read, those from before go on to count", "err", err)
			}
			fault = err.Error()
		default:
			fault = ""
			if !change.Empty() {
				s.announce(change)
			}
		}
		// Each time: somebody may have come in while the list was being replaced.
		s.closeStrangers()
	}
}

func (s *security) announce(c access.Change) {
	st := s.keys.Stats()
	s.log.Info("keys have changed", "clients", st.Clients, "added", c.Added, "removed", c.Removed, "changed", c.Changed, "server_keys", st.ServerKeys)
}

// closeStrangers closes the connections of clients whose key was removed or who may do something else now.
func (s *security) closeStrangers() {
	if !s.listed() {
		return
	}
	type closed struct {
		peer *zmtp.Peer
		err  error
	}
	var all []closed
	for _, sockets := range s.guarded {
		sockets.ClosePeers(func(p *zmtp.Peer) error {
			if _, err := s.keys.Client(p.Metadata()); err != nil {
				all = append(all, closed{p, err})
				return wire.Errorf(wire.AuthRefused, "%v", err)
			}
			return nil
		})
	}
	for _, c := range all {
		s.log.Info("connection closed", "peer", c.peer.Remote(), "client", c.peer.UserID(), "reason", c.err)
	}
}
