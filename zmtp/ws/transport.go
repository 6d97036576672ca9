package ws

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"zmtpd/zmtp"
)

// Options are for all endpoints of a socket.
type Options struct {
	// TLS is the configuration for wss. Listen needs certificates in it. ServerName is by default
	// the host of the endpoint. Default: that of crypto/tls, good enough to connect to servers
	// whose certificates this host trusts.
	TLS *tls.Config
	// Origins are those of web pages that may connect beside pages of the host and port of the
	// endpoint itself, for example "https://example.org". Default none.
	Origins []string
}

// Transports returns the transports ws and wss, for [zmtp.Config].Transports.
func Transports(o Options) map[string]zmtp.Transport {
	return map[string]zmtp.Transport{
		"ws":  &transport{opt: o},
		"wss": &transport{opt: o, secure: true},
	}
}

// transport is a [zmtp.Transport].
type transport struct {
	opt    Options
	secure bool
}

// address is a parsed host:port/path.
type address struct {
	host string // with port
	path string // begins with "/"
}

func parseAddress(text string) (address, error) {
	host, path, _ := strings.Cut(text, "/")
	if strings.ContainsAny(path, " \t\r\n#") {
		return address{}, fmt.Errorf("%w: the path /%s has characters that must be escaped",
			zmtp.ErrEndpoint, path)
	}
	return address{host, "/" + path}, nil
}

// Listen implements zmtp.Transport. Requests for any path are accepted, as in libzmq.
func (t *transport) Listen(ctx context.Context, text string, cfg *zmtp.Config) (net.Listener,
	string, error) {
	a, err := parseAddress(text)
	if err != nil {
		return nil, "", err
	}
	if t.secure && !t.hasCertificate() {
		return nil, "", fmt.Errorf("wss://%s: Options.TLS has no certificate", text)
	}
	l, bound, err := zmtp.TCP.Listen(ctx, a.host, cfg)
	if err != nil {
		return nil, "", err
	}
	ws := &listener{Listener: l, opt: t.opt}
	if t.secure {
		ws.tls = t.opt.TLS
	}
	return ws, bound + a.path, nil
}

// NewListener returns a listener whose connections are those of l, with ZeroMQ over WebSocket on
// them, for [zmtp.Socket.Serve]. For wss l has to make TLS connections, as that of tls.NewListener
// does; Options.TLS is not used.
func NewListener(l net.Listener, o Options) net.Listener {
	return &listener{Listener: l, opt: o}
}

func (t *transport) hasCertificate() bool {
	c := t.opt.TLS
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil ||
		c.GetConfigForClient != nil)
}

type listener struct {
	net.Listener
	opt Options
	tls *tls.Config // nil for ws
}

// Accept implements net.Listener. The handshake comes in Open.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(raw, func(ctx context.Context, c *conn, mechanism string) error {
		if l.tls != nil {
			if err := c.secure(ctx, tls.Server(raw, l.tls)); err != nil {
				return err
			}
		}
		return l.opt.server(c, mechanism)
	}), nil
}

// Dialer implements zmtp.Transport.
func (t *transport) Dialer(text string, cfg *zmtp.Config) (
	func(context.Context) (net.Conn, error), error) {
	a, err := parseAddress(text)
	if err != nil {
		return nil, err
	}
	dial, err := zmtp.TCP.Dialer(a.host, cfg)
	if err != nil {
		return nil, err
	}
	_, remote, found := strings.Cut(a.host, ";") // behind the source address
	if found {
		a.host = remote
	}
	var config *tls.Config
	if t.secure {
		config = cmp.Or(t.opt.TLS, new(tls.Config)).Clone()
		if config.ServerName == "" {
			config.ServerName = strings.Trim(a.host[:strings.LastIndexByte(a.host, ':')], "[]")
		}
	}
	return func(ctx context.Context) (net.Conn, error) {
		raw, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return newConn(raw, func(ctx context.Context, c *conn, mechanism string) error {
			if config != nil {
				if err := c.secure(ctx, tls.Client(raw, config)); err != nil {
					return err
				}
			}
			return a.client(c, mechanism)
		}), nil
	}, nil
}
