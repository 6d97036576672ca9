package daemon

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"zmtpd/curve"
	"zmtpd/curve/access"
	"zmtpd/zmtp"
	"zmtpd/zmtp/zap"
	"zmtpd/zmtp/zapclient"
)

// AccessFlags say which clients may connect.
type AccessFlags struct {
	CurveSecretKeyFile []string `group:"security" placeholder:"PATH" help:"Encrypt with the server's secret key in a certificate file, or with all keys in the files *.key_secret of a folder, while one is replaced (repeatable)."`
	CurveClients       []string `group:"security" placeholder:"PATH" help:"Let in the client with the public key in a certificate file, or those in the files *.key of a folder (repeatable). Both are read again when they change, and on SIGHUP."`
	CurveClientKey     []string `group:"security" sep:"none" placeholder:"[NAME=]KEY" help:"Let in the client with this public key (repeatable)."`
	CurveHandshakeRate int      `group:"security" default:"1000" help:"Answer at most so many CURVE handshakes a second, after a burst of one second's worth, and a quarter of them for one address. Handshakes above that wait or are refused, those of addresses without an earlier client first. 0: no limit."`
	ZAPHandler         string   `name:"zap-handler" group:"security" placeholder:"ENDPOINT" help:"Ask a ZAP handler (RFC 27) at a REP or ROUTER socket who may come in. The domain is xsub, xpub, pull or tap."`
	Allow              []prefix `group:"security" reload:"" placeholder:"ADDRESS" help:"Let in only clients from these IP addresses, as in 10.0.0.0/8 (repeatable)."`
	Deny               []prefix `group:"security" reload:"" placeholder:"ADDRESS" help:"Keep out clients from these IP addresses (repeatable)."`
	AuthRefusal        int      `group:"security" reload:"" enum:"300,400" default:"300" help:"What clients are told that may not come in. 300: nothing, they try again; 400: that it is final, which ends a Zeek node."`
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

func (p prefix) String() string { return netip.Prefix(p).String() }

func prefixes(all []prefix) (p []netip.Prefix) {
	for _, one := range all {
		p = append(p, netip.Prefix(one))
	}
	return p
}

// Access is the access control of a daemon.
type Access struct {
	*access.Guard
	zap         *zapclient.Client // nil for none
	zapEndpoint string            // --zap-handler
	labels      Labels            // of clients
}

// open reads the keys. close must follow.
func (f *AccessFlags) open(log *slog.Logger) (*Access, error) {
	s := &Access{zapEndpoint: f.ZAPHandler}
	sources, err := f.sources()
	if err != nil {
		return nil, err
	}
	var keys *access.Store
	if sources != nil {
		if keys, err = access.Open(*sources, curve.NewLimiter(f.CurveHandshakeRate)); err != nil {
			return nil, err
		}
		log.Info("CURVE is on", "public_keys", keys.PublicKeys(), "clients", keys.Stats().Clients)
	}
	var handler zap.Handler
	if f.ZAPHandler != "" {
		if s.zap, err = zapclient.Dial(f.ZAPHandler, zmtp.Config{Logger: log}); err != nil {
			return nil, fmt.Errorf("--zap-handler: %w", err)
		}
		handler = s.zap
	}
	s.Guard = access.NewGuard(keys, handler, log)
	s.reload(f)
	return s, nil
}

// reload takes over the flags that can change.
func (s *Access) reload(f *AccessFlags) {
	s.SetRules(access.Rules{Allow: prefixes(f.Allow), Deny: prefixes(f.Deny),
		Temporary: f.AuthRefusal == zap.StatusTemporary})
}

// sources returns where the keys come from, nil for no CURVE.
func (f *AccessFlags) sources() (*access.Sources, error) {
	// An empty variable is a list of one empty value.
	clientKeys := slices.DeleteFunc(slices.Clone(f.CurveClientKey),
		func(text string) bool { return text == "" })
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
		return nil,
			Usagef("client keys without a server key: add --curve-secret-key-file, or nothing " +
				"would be encrypted")
	case clients == 0 && f.ZAPHandler == "":
		return nil,
			Usagef("--curve-secret-key-file without --curve-clients, --curve-client-key or " +
				"--zap-handler: nobody could come in")
	case clients > 0 && f.ZAPHandler != "":
		return nil,
			Usagef("--zap-handler decides about client keys, so that --curve-clients and " +
				"--curve-client-key have no effect: remove them, or it")
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
func (f *AccessFlags) zeekSources(zeek zeekKeys) (*access.Sources, error) {
	server, err := zeek.secret(ZeekServerSecret, ZeekServerPublic)
	if err != nil {
		return nil, err
	}
	public, err := zeek.public(ZeekClientPublic)
	if err != nil {
		return nil, err
	}
	if zeek[ZeekClientSecret] != "" {
		if _, err := zeek.secret(ZeekClientSecret, ZeekClientPublic); err != nil {
			return nil, err
		}
	}
	return &access.Sources{ServerKeys: []curve.Secret{server},
		Clients: []*access.Client{{Name: "zeek", Key: public}}}, nil
}

// parseClientKey parses a key with a name. Without one it is called by its own text.
func parseClientKey(text string) (*access.Client, error) {
	name, key := text, text
	if len(text) != curve.TextSize {
		var ok bool
		if name, key, ok = strings.Cut(text, "="); !ok {
			return nil,
				Usagef("--curve-client-key %q: want a public key of %d characters, or NAME= and "+
					"the key", text, curve.TextSize)
		}
	}
	k, err := curve.ParseKey([]byte(key))
	if err != nil {
		return nil, Usagef("--curve-client-key %s: %w", name, err)
	}
	return &access.Client{Name: name, Key: k}, nil
}

// targets returns the endpoints to which open connects.
func (s *Access) targets() []Target {
	if s.zap == nil {
		return nil
	}
	return []Target{{"--zap-handler", s.zapEndpoint}}
}

// close ends what open began.
func (s *Access) close() {
	if s.zap != nil {
		s.zap.Close()
	}
}
