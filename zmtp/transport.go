package zmtp

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// Transport makes the connections of one endpoint scheme, such as tcp. The methods get the address,
// which is what follows "scheme://" in the endpoint, and the configuration of the socket, which
// they must not change. They are called from any goroutine.
type Transport interface {
	// Listen binds address and returns the listener with the address actually bound, which Connect
	// takes. It does not wait for connections. The listener's Close releases everything that Listen
	// made.
	Listen(ctx context.Context, address string, cfg *Config) (l net.Listener, bound string,
		err error)
	// Dialer returns a function that connects to address. Each attempt calls it once; it returns
	// early when its context ends. Dialer itself connects to nothing and fails only for an address
	// to which no connection can ever be made.
	Dialer(address string, cfg *Config) (dial func(context.Context) (net.Conn, error), err error)
}

// Session is a connection of a transport that needs no greeting of ZMTP, because its two ends agree
// on version and mechanism in another way: WebSocket in its own handshake (RFC 45), inproc by being
// in one process, a raw TCP connection by assuming NULL. Read and Write carry, from Open on, the
// frames that follow a greeting in ZMTP 3.1: first those of the mechanism, then commands and
// messages. A Session that can close its sending end has a method CloseWrite() error as well; see
// also QueuedConn.
type Session interface {
	net.Conn
	// Open agrees with the peer on the mechanism of the given name, or returns why it cannot. It is
	// called once, before Read and Write. It may wait until ctx ends, which is when the time of the
	// handshake is over or the endpoint is given up. The deadlines of the connection are set too.
	Open(ctx context.Context, mechanism string) (SessionTraits, error)
}

// SessionTraits are the ways in which a Session may differ from ZMTP 3.1.
type SessionTraits struct {
	// SubscriptionMessages is set if the peer takes subscriptions as messages only, as in ZMTP 3.0.
	SubscriptionMessages bool
	// OpenHeartbeats is set if the mechanism does not protect PING and PONG.
	OpenHeartbeats bool
}

// TCP is the transport of tcp endpoints, for transports that are built on it.
var TCP Transport = tcpTransport{}

// transports are the transports that every socket has, by scheme.
var transports = map[string]Transport{
	"tcp":    TCP,
	"ipc":    ipcTransport{},
	"inproc": inprocTransport{},
}

// transport finds the transport of an endpoint, and the address in it.
func (c *Config) transport(endpoint string) (t Transport, scheme, address string, err error) {
	scheme, address, ok := strings.Cut(endpoint, "://")
	if !ok {
		return nil, "", "", endpointError(endpoint,
			"want transport://address, for example tcp://127.0.0.1:5555 or ipc:///run/name")
	}
	if t = c.Transports[scheme]; t == nil {
		t = transports[scheme]
	}
	if t == nil {
		all := maps.Clone(transports)
		maps.Copy(all, c.Transports)
		return nil, "", "", endpointError(endpoint, "transport %q is not supported, only %s are",
			scheme, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	return t, scheme, address, nil
}

// endpointError is an error that wraps ErrEndpoint and names the endpoint.
func endpointError(endpoint, format string, args ...any) error {
	return fmt.Errorf("%w %q: %s", ErrEndpoint, endpoint, fmt.Sprintf(format, args...))
}

// servedEndpoint is the endpoint of a listener that the application made: libzmq's
// ZMQ_LAST_ENDPOINT.
func servedEndpoint(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "ipc://" + l.Addr().String()
	}
	return "tcp://" + l.Addr().String()
}
