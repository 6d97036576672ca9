package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

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
	ZAPHandler         string   `name:"zap-handler" group:"security" placeholder:"ENDPOINT" help:"Ask a ZAP handler (RFC 27) at a REP or ROUTER socket who may come in. The domain is xsub, xpub, pull or tap."`
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
	guarded []peerCloser      // set before the daemon runs

	zapEndpoint string // --zap-handler

	rules atomic.Pointer[rules] // see reload

	fault    string // why the keys could not be read last; only poll and reloadKeys use it
	answers  [len(domains)][numAnswers]atomic.Uint64
	refusals refusalLog
	clients  boundedLabels
}

// rules are what decides, beside the keys, and can be changed.
type rules struct {
	addresses *zap.Addresses // nil for none
	decide    zap.Handler    // all together; nil lets everybody in
	refusal   int            // --auth-refusal
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

var domains = [...]string{domainXSub, domainXPub, domainPull, domainTap}

// open reads the keys. close must follow.
func (f *securityFlags) open(log *slog.Logger) (*security, error) {
	s := &security{log: log, refusals: refusalLog{log: log}, zapEndpoint: f.ZAPHandler}
	sources, err := f.sources()
	if err != nil {
		return nil, err
	}
	if sources != nil {
		if s.keys, err = access.Open(*sources); err != nil {
			return nil, err
		}
		log.Info("CURVE is on", "public_keys", s.keys.PublicKeys(), "clients", s.keys.Stats().Clients)
	}
	if f.ZAPHandler != "" {
		if s.zap, err = zapclient.Dial(f.ZAPHandler, zmtp.Config{Logger: log}); err != nil {
			return nil, fmt.Errorf("--zap-handler: %w", err)
		}
	}
	s.reload(f)
	return s, nil
}

// now returns the rules that count; before open there are none.
func (s *security) now() *rules {
	if r := s.rules.Load(); r != nil {
		return r
	}
	return new(rules)
}

// reload takes over what can change: the lists of addresses, and what those are told who may not come in.
func (s *security) reload(f *securityFlags) {
	r := &rules{refusal: f.AuthRefusal}
	switch {
	case s.zap != nil:
		r.decide = s.zap
	case s.keys != nil:
		r.decide = s.keys
	}
	if len(f.Allow)+len(f.Deny) > 0 {
		r.addresses = &zap.Addresses{Allow: prefixes(f.Allow), Deny: prefixes(f.Deny), Status: zap.StatusDenied, Next: r.decide}
		r.decide = r.addresses
	}
	s.rules.Store(r)
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

// targets returns the endpoints to which open connects.
func (s *security) targets() []target {
	if s.zap == nil {
		return nil
	}
	return []target{{"--zap-handler", s.zapEndpoint}}
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
	if s.keys != nil {
		var err error
		config.Mechanism, err = s.keys.Mechanism(auth)
		return config, err
	}
	guarded, open := zmtp.Null{Auth: auth}, zmtp.Null{Auth: zmtp.Auth{Open: true}}
	config.Mechanism = func(local wire.Metadata) zmtp.Mechanism {
		if s.now().decide == nil {
			return open.Mechanism(local)
		}
		return guarded.Mechanism(local)
	}
	return config, nil
}

// Authenticate implements zap.Handler.
func (s *security) Authenticate(ctx context.Context, req *zap.Request) (zap.Reply, error) {
	rules := s.now()
	if rules.decide == nil { // since the connection was made
		return zap.Reply{Status: zap.StatusOK, Text: "OK"}, nil
	}
	reply, err := rules.decide.Authenticate(ctx, req)
	s.count(req.Domain, reply, err)
	if err != nil || reply.Status != zap.StatusOK {
		s.refusals.add(req, reply, err)
	} else {
		s.log.Debug("client let in", "socket", req.Domain, "peer", req.Address, "client", reply.UserID)
	}
	if rules.refusal == zap.StatusTemporary && (reply.Status == zap.StatusDenied || reply.Status == zap.StatusFailed) {
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

// guard lets peers be closed that may not be there any more.
func (s *security) guard(sockets peerCloser) { s.guarded = append(s.guarded, sockets) }

// reloadKeys reads the keys again.
func (s *security) reloadKeys() {
	if s.keys == nil {
		s.log.Debug("SIGHUP: there are no keys to read again")
		return
	}
	change, err := s.keys.Reload()
	if err != nil {
		s.fault = err.Error()
		s.log.Error("SIGHUP: the keys cannot be read, those from before go on to count", "err", err)
		return
	}
	s.fault = ""
	s.log.Info("SIGHUP: the keys were read again", "changed", !change.Empty())
	if !change.Empty() {
		s.announce(change)
	}
}

// poll reads the keys again if their files have changed. The same fault is logged once.
func (s *security) poll() {
	if s.keys == nil {
		return
	}
	change, err := s.keys.ReloadIfChanged()
	switch {
	case errors.Is(err, access.ErrUnchanged):
	case err != nil:
		if err.Error() != s.fault {
			s.log.Error("the keys cannot be read, those from before go on to count", "err", err)
		}
		s.fault = err.Error()
	default:
		s.fault = ""
		if !change.Empty() {
			s.announce(change)
		}
	}
}

func (s *security) announce(c access.Change) {
	st := s.keys.Stats()
	s.log.Info("keys have changed", "clients", st.Clients, "added", c.Added, "removed", c.Removed, "changed", c.Changed, "server_keys", st.ServerKeys)
}

// stranger returns why a peer may not be there any more: its address is kept out now, its key was removed, or it may do something
// else now.
func (s *security) stranger(p *zmtp.Peer) error {
	if rules := s.now(); rules.addresses != nil {
		if a, ok := p.Remote().(*net.TCPAddr); ok && !rules.addresses.Admits(a.AddrPort().Addr()) {
			return errors.New("its address is not allowed any more")
		}
	}
	if s.listed() {
		_, err := s.keys.Client(p.Metadata())
		return err
	}
	return nil
}

// closeStrangers closes the connections of those who may not be there any more. It is called often: somebody may have come in
// while the lists were being replaced.
func (s *security) closeStrangers() {
	if !s.listed() && s.now().addresses == nil {
		return
	}
	type closed struct {
		peer *zmtp.Peer
		err  error
	}
	var all []closed
	for _, sockets := range s.guarded {
		sockets.ClosePeers(func(p *zmtp.Peer) error {
			if err := s.stranger(p); err != nil {
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
