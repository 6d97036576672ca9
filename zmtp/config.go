package zmtp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/wire"
)

// Config is how a socket behaves. The zero value works. A socket keeps a copy; Socket.Reconfigure
// changes some of it later.
type Config struct {
	// SendHWM and RecvHWM are the high-water marks: how many whole messages may wait for one peer,
	// in each direction. Over inproc the two of a connection may add up, as in libzmq. Default 1000
	// as in libzmq, negative for no limit.
	SendHWM, RecvHWM int
	// SendBytes and RecvBytes bound the same queues in bytes on the wire. One message is taken
	// whatever its size. Default 64 MiB, negative for no limit.
	SendBytes, RecvBytes int64
	// Conflate keeps only the last message for each peer (ZMQ_CONFLATE): a PULL, SUB, DEALER or
	// GATHER the last that was not received, a PUSH, PUB, XPUB, DEALER, RADIO or SCATTER the last
	// that was not sent. Others are dropped and counted (DropReplaced), and the limits above do not
	// apply. Other types ignore it. Default false.
	Conflate bool
	// InvertMatching makes a PUB or XPUB send to those peers that have no subscription for a
	// message, and a SUB receive the messages for which it has none (ZMQ_INVERT_MATCHING). Set it
	// at both ends. Other types ignore it. Default false.
	InvertMatching bool
	// TotalRecvBytes bounds the memory of the messages of all peers together that wait to be
	// received, or were received with RecvBatch and not released. It counts whole read buffers,
	// which may be up to four times as large as the messages. Messages that Recv has returned do
	// not count. A peer may use as much of it as it leaves free, and always one message, so that no
	// peer is starved; by that one message and 256 KiB for each peer the limit may be exceeded.
	// Default half of Memory, or no limit without Memory; negative for no limit.
	TotalRecvBytes int64
	// Memory is the budget for everything that is held for the peers: unfinished messages, read
	// buffers, messages that wait to be received or sent, subscriptions. When it is exhausted, the
	// peers that hold most are not read, and if that lasts, the largest is closed
	// (wire.MemoryExhausted). With it, batches must be released. Default: none.
	Memory *memory.Budget
	// MaxMessageSize bounds a received message in bytes, all its parts together. Memory grows only
	// as the bytes arrive. Default 64 MiB, negative for no limit.
	MaxMessageSize int64
	// MaxParts bounds the number of parts of a received message. Default 65536, negative for no
	// limit.
	MaxParts int
	// MaxTopicSize bounds the topic of a peer's subscription in bytes. Default 65535.
	MaxTopicSize int
	// MaxSubscriptions bounds the topics that one peer may subscribe. Default 100000.
	MaxSubscriptions int

	// HandshakeTimeout is how long a connection may take from connect or accept to the end of its
	// handshake; arriving bytes do not extend it. Default 30 s as in libzmq.
	HandshakeTimeout time.Duration
	// MaxConnections bounds the accepted connections of the socket, MaxConnectionsPerAddress those
	// from one IPv4 address or one /64 of IPv6. At the limit a new connection closes the oldest one
	// whose handshake is not complete, else one that has never sent anything; if there is none, it
	// is refused (wire.TooManyConnections). Default 0: no limit.
	MaxConnections, MaxConnectionsPerAddress int
	// MaxPendingHandshakes bounds the accepted connections of the socket whose handshake is not
	// complete. Beyond it the oldest one is closed of an address that has its equal share of them
	// or more. Default 4096.
	MaxPendingHandshakes int
	// HeartbeatInterval is the time between two PINGs to a peer. Default 0: none are sent. PINGs of
	// peers are always answered.
	HeartbeatInterval time.Duration
	// HeartbeatTimeout is the time after a PING within which something must come from the peer;
	// else the connection is closed. Default HeartbeatInterval.
	HeartbeatTimeout time.Duration
	// HeartbeatTTL is sent with each PING: the time within which the peer should get the next. It
	// is cut to 65.5 s, the most that libzmq understands. Default 0: none.
	HeartbeatTTL time.Duration

	// ReconnectInterval is the pause before the second attempt to connect. It doubles with each
	// failure up to ReconnectMax, and up to half of it is added at random. After a completed
	// handshake it begins again. Defaults 100 ms and 5 s. A negative ReconnectInterval gives an
	// endpoint up after the first connection, or when that cannot be made (ZMQ_RECONNECT_IVL of
	// -1).
	ReconnectInterval, ReconnectMax time.Duration
	// ReconnectStop are the failures after which an endpoint is given up (ZMQ_RECONNECT_STOP).
	// Default none.
	ReconnectStop ReconnectStop
	// ConnectTimeout bounds one attempt to connect. Default 0: that of the operating system.
	ConnectTimeout time.Duration
	// RetryAlways makes Connect try again, with the pauses above, also when the peer breaks the
	// protocol or has another mechanism: its operator may correct that. Default false: such an
	// endpoint is given up, as in libzmq.
	RetryAlways bool

	// IPv6 makes "*" in Listen mean all IPv6 and IPv4 addresses instead of all IPv4 addresses, and
	// lets names resolve to IPv6 addresses. Literal IPv6 addresses always work. Default false as in
	// libzmq.
	IPv6 bool
	// KeepAlive configures TCP keepalive. Default: that of the operating system, as in libzmq.
	KeepAlive net.KeepAliveConfig
	// SendBuffer and RecvBuffer are SO_SNDBUF and SO_RCVBUF in bytes. Default 0: that of the
	// operating system. It is set before a connection is made; with Serve and Dial the caller has
	// to set RecvBuffer of TCP.
	SendBuffer, RecvBuffer int
	// Dial replaces the dialer of the tcp and ipc transports, and those of package ws: network is
	// "tcp", "tcp4" or "unix", address host:port or a path. A name is not resolved before. So it
	// may be DialContext of crypto/tls.Dialer, or Dial of package socks. Its counterpart on the
	// other side is Socket.Serve. Default: the net package.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Transports are transports beyond tcp, ipc and inproc, by the scheme of their endpoints. One
	// of such a scheme replaces the transport of the package. Default none.
	Transports map[string]Transport

	// RoutingID is what a REQ, DEALER or ROUTER tells its peers, by which a ROUTER addresses it
	// (ZMQ_ROUTING_ID): 1 to 255 bytes, the first of them not zero. Other types do not send it.
	// Default none.
	RoutingID []byte
	// Metadata are application properties for READY; their names must begin with "X-". Default
	// none.
	Metadata Metadata
	// Mechanism makes the security mechanism of each connection from the metadata that this side
	// sends. Default NULL.
	Mechanism func(local Metadata) Mechanism
	// Logger gets records for operators, with the attributes socket, endpoint, peer, stage, reason
	// and err. Default: nothing is logged.
	Logger *slog.Logger
}

// ReconnectStop is a set of failures.
type ReconnectStop uint8

const (
	// StopConnRefused is a connection that was refused, since nobody listens
	// (ZMQ_RECONNECT_STOP_CONN_REFUSED).
	StopConnRefused ReconnectStop = 1 << iota
	// StopHandshakeFailed is a handshake that was not completed, for whatever reason
	// (ZMQ_RECONNECT_STOP_HANDSHAKE_FAILED).
	StopHandshakeFailed
)

// Defaults of Config.
const (
	DefaultHWM                  = 1000
	DefaultQueueBytes           = 64 << 20
	DefaultMaxMessageSize       = 64 << 20
	DefaultMaxParts             = 1 << 16
	DefaultMaxTopicSize         = 65535
	DefaultMaxSubscriptions     = 100_000
	DefaultHandshakeTimeout     = 30 * time.Second
	DefaultMaxPendingHandshakes = 4096
	DefaultReconnectInterval    = 100 * time.Millisecond
	DefaultReconnectMax         = 5 * time.Second
)

// withDefaults returns a copy in which every field has its effective value; 0 means no limit where
// negative did.
func (c Config) withDefaults() Config {
	limit := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
		*v = max(*v, 0)
	}
	limit64 := func(v *int64, def int64) {
		if *v == 0 {
			*v = def
		}
		*v = max(*v, 0)
	}
	limit(&c.SendHWM, DefaultHWM)
	limit(&c.RecvHWM, DefaultHWM)
	limit64(&c.SendBytes, DefaultQueueBytes)
	limit64(&c.RecvBytes, DefaultQueueBytes)
	limit64(&c.TotalRecvBytes, c.Memory.Limit()/2)
	limit64(&c.MaxMessageSize, DefaultMaxMessageSize)
	limit(&c.MaxParts, DefaultMaxParts)
	positive(&c.MaxTopicSize, DefaultMaxTopicSize)
	positive(&c.MaxSubscriptions, DefaultMaxSubscriptions)
	positive(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	positive(&c.MaxPendingHandshakes, DefaultMaxPendingHandshakes)
	positive(&c.HeartbeatTimeout, c.HeartbeatInterval)
	if c.ReconnectInterval == 0 {
		c.ReconnectInterval = DefaultReconnectInterval
	}
	positive(&c.ReconnectMax, DefaultReconnectMax)
	if c.Mechanism == nil {
		c.Mechanism = newNull
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func positive[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// check refuses metadata that cannot be sent.
func (c *Config) check() error {
	for _, p := range c.Metadata {
		if !strings.HasPrefix(p.Name, "X-") || len(p.Name) > 255 {
			return fmt.Errorf("zmtp: application property %q: the name must begin with \"X-\" "+
				"and have at most 255 bytes", p.Name)
		}
		for _, r := range []byte(p.Name) {
			if !isNameByte(r) {
				return fmt.Errorf("zmtp: application property %q: only letters, digits and - _ . "+
					"+ are allowed (RFC 37)", p.Name)
			}
		}
	}
	if err := checkRoutingID(c.RoutingID); err != nil {
		return fmt.Errorf("zmtp: Config.RoutingID: %w", err)
	}
	if n := len(wire.AppendMetadata(nil, c.Metadata)); n > maxHandshakeFrame/2 {
		return fmt.Errorf("zmtp: application properties of %d bytes, at most %d can be sent", n,
			maxHandshakeFrame/2)
	}
	return nil
}

func isNameByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' ||
		strings.IndexByte("-_.+", b) >= 0
}

// oneOption returns the options that were given to a constructor, their zero value if there are
// none.
func oneOption[T any](options []T) (opt T) {
	switch len(options) {
	case 0:
		return opt
	case 1:
		return options[0]
	}
	panic(fmt.Sprintf("zmtp: a socket was made with %d %T, at most one is allowed", len(options),
		opt))
}
