package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"zmtpd/curve"
	"zmtpd/curve/access"
	"zmtpd/curve/zeekkeys"
	"zmtpd/zmtp"
	"zmtpd/zmtp/zap"
	"zmtpd/zmtp/zapclient"
)

// AccessFlags are the flags about encryption, and about the clients that may connect.
type AccessFlags struct {
	CurveSecretKeyFile []string `group:"security" placeholder:"PATH" help:"Certificate file with the server's secret key, or a folder of which all files *.key_secret are taken, as while a key is replaced (repeatable). It turns encryption on."`
	CurveClients       []string `group:"security" placeholder:"PATH" help:"Certificate file with the public key of a client that may connect, or a folder of which all files *.key are taken (repeatable). zmtpd reads all key files again when they change, and on SIGHUP."`
	CurveClientKey     []string `group:"security" sep:"none" placeholder:"[NAME=]KEY" help:"Public key of a client that may connect (repeatable)."`
	CurveHandshakeRate Count    `group:"security" default:"1000" help:"CURVE handshakes that the server computes in a second, after a burst of as many; one address gets a quarter. Handshakes beyond that wait or are refused; addresses of earlier clients go first. 0: no limit."`
	CurveKeylog        string   `group:"security" placeholder:"FILE" help:"Append the keys of connections to this file, with which zmtpd capture decrypts them. It never has a secret key of the server. Only its owner can read it."`
	PlainUsers         string   `group:"security" placeholder:"FILE" help:"File with the users of PLAIN (RFC 24) that may connect: lines of a name, a space and a password. Only its owner may read it. It turns PLAIN on, which encrypts nothing. zmtpd reads it again when it changes, and on SIGHUP."`
	ZAPHandler         string   `name:"zap-handler" group:"security" placeholder:"ENDPOINT" help:"ZAP handler (RFC 27), a REP or ROUTER socket, that decides which clients may connect. The domain is xsub, xpub, pull or tap."`
	Allow              []prefix `group:"security" reload:"" placeholder:"ADDRESS" help:"Accept clients from these IP addresses only, as in 10.0.0.0/8 (repeatable)."`
	Deny               []prefix `group:"security" reload:"" placeholder:"ADDRESS" help:"Refuse clients from these IP addresses (repeatable)."`
	AuthRefusal        int      `group:"security" reload:"" enum:"300,400" default:"300" help:"Answer to a client that may not connect. 300: none, and the client tries again; 400: an ERROR, at which a Zeek node ends itself."`
}

// prefix is an IP address or a range of addresses on the command line.
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
		return fmt.Errorf("%s has bits set beyond its prefix length: write %s", text, r.Masked())
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
	keyLog      *curve.KeyLog     // nil for none
}

// open reads the keys and connects to the ZAP handler. Call close at the end.
func (f *AccessFlags) open(log *slog.Logger) (*Access, error) {
	s := &Access{zapEndpoint: f.ZAPHandler}
	sources, err := f.sources()
	if err != nil {
		return nil, err
	}
	if f.PlainUsers != "" {
		users, err := f.users(sources)
		if err != nil {
			return nil, err
		}
		s.Guard = access.NewPlainGuard(users, log)
		s.reload(f)
		return s, nil
	}
	var keys *access.Store
	if f.CurveKeylog != "" {
		if sources == nil {
			return nil, keyLogWithoutKeys("")
		}
		if sources.KeyLog, err = curve.CreateKeyLog(f.CurveKeylog, log); err != nil {
			return nil, fmt.Errorf("--curve-keylog: %w", err)
		}
		log.Warn("keys of connections are written to a file: who can read it can decrypt them",
			"file", f.CurveKeylog)
		s.keyLog = sources.KeyLog
	}
	if sources != nil {
		keys, err = access.Open(*sources, curve.NewLimiter(int(f.CurveHandshakeRate)))
		if e, ok := errors.AsType[*access.SourceError](err); ok {
			flag := "--curve-clients"
			if e.Server {
				flag = "--curve-secret-key-file"
			}
			return nil, fmt.Errorf("%s: %w", flag, e.Err)
		}
		if err != nil {
			return nil, err
		}
	}
	var handler zap.Handler
	if f.ZAPHandler != "" {
		if s.zap, err = zapclient.Dial(f.ZAPHandler, zmtp.Config{Logger: log}); err != nil {
			return nil, EndpointError("--zap-handler", f.ZAPHandler, err)
		}
		handler = s.zap
	}
	s.Guard = access.NewGuard(keys, handler, log)
	s.reload(f)
	return s, nil
}

// users reads the users of PLAIN. keys are where those of CURVE come from, nil for none.
func (f *AccessFlags) users(keys *access.Sources) (*access.Users, error) {
	switch {
	case keys != nil:
		return nil, Usagef("--plain-users together with keys for CURVE, in flags or in Zeek's " +
			"variables: a server has one of the two; remove the other")
	case f.ZAPHandler != "":
		return nil, Usagef("--plain-users together with --zap-handler: remove one of the two")
	case f.CurveKeylog != "":
		return nil, keyLogWithoutKeys("")
	}
	users, err := access.OpenUsers(f.PlainUsers)
	if err != nil {
		return nil, fmt.Errorf("--plain-users: %w", err)
	}
	return users, nil
}

// describe logs the keys or users that are in use.
func (s *Access) describe(log *slog.Logger) {
	if users := s.Users(); users != nil {
		log.Warn("PLAIN is on: passwords and messages pass in clear", "users", users.Len())
	}
	if keys := s.Keys(); keys != nil {
		log.Info("CURVE is on", "public_keys", keys.PublicKeys(), "clients", keys.Stats().Clients)
	}
}

// reload puts the flags into effect that can change.
func (s *Access) reload(f *AccessFlags) {
	s.SetRules(access.Rules{Allow: prefixes(f.Allow), Deny: prefixes(f.Deny),
		Temporary: f.AuthRefusal == zap.StatusTemporary})
}

// sources returns where the keys come from, nil for no CURVE.
func (f *AccessFlags) sources() (*access.Sources, error) {
	// An empty variable is a list of one empty value.
	clientKeys := slices.DeleteFunc(slices.Clone(f.CurveClientKey),
		func(text string) bool { return text == "" })
	zeek := zeekkeys.Read(os.Getenv)
	for _, flag := range []struct {
		name   string
		values []string
	}{
		{"curve-secret-key-file", f.CurveSecretKeyFile},
		{"curve-clients", f.CurveClients},
		{"curve-client-key", clientKeys},
	} {
		if len(flag.values) > 0 {
			if err := checkMixture(zeek, flag.name); err != nil {
				return nil, err
			}
		}
	}
	if len(zeek) > 0 {
		server, client, err := zeek.Server()
		if err != nil {
			return nil, Usagef("%w", err)
		}
		return &access.Sources{ServerKeys: []curve.Secret{server},
			Clients: []*access.Client{{Name: "zeek", Key: client}}}, nil
	}
	clients := len(f.CurveClients) + len(clientKeys)
	switch {
	case len(f.CurveSecretKeyFile) == 0 && clients == 0:
		return nil, nil
	case len(f.CurveSecretKeyFile) == 0:
		return nil,
			Usagef("--curve-clients or --curve-client-key without --curve-secret-key-file: " +
				"nothing would be encrypted; give the server's key too")
	case clients == 0 && f.ZAPHandler == "":
		return nil,
			Usagef("--curve-secret-key-file without --curve-clients, --curve-client-key or " +
				"--zap-handler: no client could connect; give one of them too")
	case clients > 0 && f.ZAPHandler != "":
		return nil,
			Usagef("--zap-handler together with --curve-clients or --curve-client-key: the ZAP " +
				"handler decides about all clients; remove one of the two")
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

// checkMixture returns an error if there are keys in Zeek's variables as well as in a flag. Zeek
// refuses a mixture too.
func checkMixture(zeek zeekkeys.Variables, flag string) error {
	if len(zeek) == 0 {
		return nil
	}
	return Usagef("CURVE keys from two sources: --%s, on the command line, in its variable or in "+
		"the file of --config, and %s of the environment; remove one of the two", flag, zeek)
}

// parseClientKey parses NAME=KEY. The name of a key without one is the key's text.
func parseClientKey(text string) (*access.Client, error) {
	name, key := text, text
	if len(text) != curve.TextSize {
		var ok bool
		if name, key, ok = strings.Cut(text, "="); !ok {
			return nil,
				Usagef("--curve-client-key %q: write a public key of %d characters, or "+
					"NAME=KEY", text, curve.TextSize)
		}
	}
	k, err := curve.ParseKey([]byte(key))
	if err != nil {
		return nil, Usagef("--curve-client-key %s: %w", name, err)
	}
	return &access.Client{Name: name, Key: k}, nil
}

// targets returns the endpoints to which open has connected.
func (s *Access) targets() []Target {
	if s.zap == nil {
		return nil
	}
	return []Target{{"--zap-handler", s.zapEndpoint}}
}

// close disconnects from the ZAP handler.
func (s *Access) close() {
	if s.zap != nil {
		s.zap.Close()
	}
	if s.keyLog != nil {
		_ = s.keyLog.Close() // the keys were written, or the error was logged
	}
}

// Keys are the keys that the flags name.
type Keys struct {
	Server  []curve.Key      // public keys of the server; clients have to know one of them
	Clients []*access.Client // empty if a ZAP handler decides
	Listed  bool             // only Clients may connect
}

// ReadKeys reads the keys of the flags, nil for no encryption. It connects to nothing.
func (f *AccessFlags) ReadKeys() (*Keys, error) {
	sources, err := f.sources()
	if sources == nil || err != nil {
		return nil, err
	}
	store, err := access.Open(*sources, curve.NewLimiter(0))
	if err != nil {
		return nil, err
	}
	return &Keys{store.PublicKeys(), store.Clients(), f.ZAPHandler == ""}, nil
}

// Server returns the mechanism of a tool's socket that is a server of CURVE or PLAIN, nil for NULL.
// The address lists and the ZAP handler have no effect on it.
func (f *AccessFlags) Server() (func(zmtp.Metadata) zmtp.Mechanism, error) {
	sources, err := f.sources()
	if err != nil {
		return nil, err
	}
	if f.PlainUsers != "" {
		users, err := f.users(sources)
		if err != nil {
			return nil, err
		}
		return (&zmtp.PlainServer{Auth: zmtp.Auth{Handler: users}}).Mechanism, nil
	}
	if sources == nil {
		return nil, nil
	}
	store, err := access.Open(*sources, curve.NewLimiter(int(f.CurveHandshakeRate)))
	if err != nil {
		return nil, err
	}
	return store.Mechanism(zmtp.Auth{Handler: store})
}
