package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder"
	"zmtpd/forwarder/gateway"
)

// gatewayFlags are the flags about WebSocket clients.
type gatewayFlags struct {
	WebSocket             []string        `name:"websocket" group:"websocket" placeholder:"ADDRESS" help:"Address at which to serve WebSocket clients with Zeek's WebSocket API, as in 127.0.0.1:27759 (repeatable). --max-connections, --max-connections-per-address, --handshake-timeout, --sndhwm, --sndbytes and --wait-share apply to them too."`
	WebSocketClients      string          `name:"websocket-clients" group:"websocket" placeholder:"FILE" help:"YAML or JSON file with the clients that may connect, their tokens or certificates, and the topics that they may publish and subscribe. It is read again when it changes. Default: everybody may do everything."`
	WebSocketCertificate  string          `name:"websocket-certificate" group:"websocket" placeholder:"FILE" help:"PEM file with the server's certificate chain. It turns TLS on, and is read again when it changes."`
	WebSocketKey          string          `name:"websocket-key" group:"websocket" placeholder:"FILE" help:"PEM file with the key of --websocket-certificate."`
	WebSocketClientCA     string          `name:"websocket-client-ca" group:"websocket" placeholder:"FILE" help:"PEM file with the authorities of clients' certificates. Clients need a certificate then, or a token of --websocket-clients."`
	WebSocketOrigin       []string        `name:"websocket-origin" group:"websocket" reload:"" placeholder:"PATTERN" help:"Origin of pages whose scripts may connect, as in *.example.org, beside the gateway's own host (repeatable)."`
	WebSocketOverload     gateway.Policy  `name:"websocket-overload" group:"websocket" default:"drop-oldest" reload:"" help:"Effect of a WebSocket client whose queue is full. drop-oldest: it loses the oldest events; wait: the others wait for it within --wait-share, then as drop-oldest; disconnect: it is closed. Publishers never wait for it."`
	WebSocketMessageSize  daemon.ByteSize `name:"websocket-message-size" group:"websocket" default:"1MiB" reload:"" help:"Largest message from a WebSocket client; 0: no limit."`
	WebSocketRate         daemon.Count    `name:"websocket-rate" group:"websocket" default:"1000" reload:"" help:"Messages of one WebSocket client in a second, after a burst of as many; 0: no limit. Beyond it the client is not read."`
	WebSocketPingInterval daemon.Duration `name:"websocket-ping-interval" group:"websocket" default:"5s" help:"Time between two pings to a WebSocket client. One that has not answered until the next is closed. 0: none."`
	EventSignatures       string          `name:"event-signatures" group:"websocket" placeholder:"FILE" help:"Declarations of events and their types, as in Zeek's scripts. Events of WebSocket clients that do not fit are refused. The file is read again when it changes. Default: events are only checked for their structure."`
}

// config returns the configuration of the gateway for these flags. common are those of the daemon.
func (f *gatewayFlags) config(broker *forwarderFlags, common *daemon.Flags) gateway.Config {
	socket := common.Socket(nil)
	rate := int(f.WebSocketRate)
	if rate == 0 {
		rate = -1
	}
	ping := time.Duration(f.WebSocketPingInterval)
	if ping == 0 {
		ping = -1
	}
	return gateway.Config{
		Version: "zmtpd " + versionString(), Clients: f.WebSocketClients,
		Certificate: f.WebSocketCertificate, Key: f.WebSocketKey,
		ClientCA: f.WebSocketClientCA, Signatures: f.EventSignatures,
		Origins: f.WebSocketOrigin, Overload: f.WebSocketOverload,
		MaxClients:           noLimit(socket.MaxConnections),
		MaxClientsPerAddress: noLimit(socket.MaxConnectionsPerAddress),
		MaxMessageSize:       daemon.Limit(f.WebSocketMessageSize), Rate: rate, PingInterval: ping,
		QueueMessages: int(daemon.Limit(broker.SndHWM)), QueueBytes: daemon.Limit(broker.SndBytes),
		WaitShare: broker.WaitShare.Limit(), HandshakeTimeout: socket.HandshakeTimeout,
	}
}

// noLimit converts a limit of zmtp.Config, where 0 stands for none.
func noLimit(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// gatewayJob is the WebSocket gateway of a broker.
type gatewayJob struct {
	flags *forwarderFlags
	env   *daemon.Env
	g     *gateway.Gateway
}

// errGatewayFlags is returned if there is no gateway to which other flags apply.
var errGatewayFlags = daemon.Usagef("--websocket-... or --event-signatures without --websocket: " +
	"no WebSocket client could connect; give --websocket too")

// open makes the gateway of f, nil without one.
func (f *gatewayFlags) open(broker *forwarderFlags, at *forwarder.Forwarder,
	env *daemon.Env) (*gatewayJob, error) {
	if len(f.WebSocket) == 0 {
		for _, file := range []string{f.WebSocketClients, f.WebSocketCertificate, f.WebSocketKey,
			f.WebSocketClientCA, f.EventSignatures} {
			if file != "" {
				return nil, errGatewayFlags
			}
		}
		return nil, nil
	}
	if (f.WebSocketCertificate == "") != (f.WebSocketKey == "") {
		return nil, daemon.Usagef("--websocket-certificate and --websocket-key need each other: " +
			"give both")
	}
	if f.WebSocketClientCA != "" && f.WebSocketCertificate == "" {
		return nil, daemon.Usagef("--websocket-client-ca without --websocket-certificate: " +
			"clients show certificates with TLS only; give it too")
	}
	config := f.config(broker, env.Common())
	config.Memory, config.Logger = env.Memory, env.Log
	g, err := gateway.New(at, config)
	if err != nil {
		return nil, err
	}
	return &gatewayJob{broker, env, g}, nil
}

func (j *gatewayJob) listen() ([]daemon.Endpoint, error) {
	if j == nil {
		return nil, nil
	}
	return daemon.BindAll("--websocket", "WebSocket", j.flags.WebSocket, j.bind)
}

// bind listens at an address and returns the URL for clients.
func (j *gatewayJob) bind(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	scheme, bound := "ws", l.Addr().(*net.TCPAddr).AddrPort()
	if j.flags.WebSocketCertificate != "" {
		scheme = "wss"
	}
	j.warn(bound)
	j.g.Serve(l)
	return scheme + "://" + bound.String() + gateway.Path, nil
}

// warn warns about an address that other hosts can reach.
func (j *gatewayJob) warn(bound netip.AddrPort) {
	if bound.Addr().Unmap().IsLoopback() {
		return
	}
	if j.flags.WebSocketCertificate == "" {
		j.env.Log.Warn("other hosts can reach the WebSocket gateway, whose traffic is not "+
			"encrypted; give --websocket-certificate", "address", bound)
	}
	if j.flags.WebSocketClients == "" && j.flags.WebSocketClientCA == "" {
		j.env.Log.Warn("other hosts can reach the WebSocket gateway, and everybody may publish "+
			"and subscribe all events; give --websocket-clients", "address", bound)
	}
}

func (j *gatewayJob) reload(flags *forwarderFlags, common *daemon.Flags) {
	if j != nil {
		j.g.Reconfigure(flags.gatewayFlags.config(flags, common))
	}
}

// shutdown closes the clients. The forwarder has ended before.
func (j *gatewayJob) shutdown(ctx context.Context) error {
	if j == nil {
		return nil
	}
	if err := j.g.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil // what clients lost is counted
}

// summary returns attributes for the broker's last line in the log.
func (j *gatewayJob) summary() []any {
	if j == nil {
		return nil
	}
	st := j.g.Stats()
	in, out := uint64(0), uint64(0)
	for _, c := range st.ByClient {
		in += c.In.Messages
		out += c.Out.Messages
	}
	return []any{"websocket_in", in, "websocket_out", out, "websocket_dropped",
		daemon.Sum(st.Dropped)}
}
