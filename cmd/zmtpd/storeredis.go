package main

import (
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/redis"
	"zmtpd/forwarder/store/rest"
)

// redisFlags are the flags about clients of Redis.
type redisFlags struct {
	StoreRedis            []string `group:"store" placeholder:"ADDRESS" help:"Address at which clients of Redis, such as Zeek's Storage framework, use the stores, as in 127.0.0.1:6379 (repeatable). Database 0 is the first --store. A password is a token of --store-clients. --max-connections and --max-connections-per-address apply to it too."`
	StoreRedisCertificate string   `group:"store" placeholder:"FILE" help:"PEM file with the certificate chain of --store-redis. It turns TLS on, and is read again on SIGHUP."`
	StoreRedisKey         string   `group:"store" placeholder:"FILE" help:"PEM file with the key of --store-redis-certificate."`
	StoreRedisClientCA    string   `name:"store-redis-client-ca" group:"store" placeholder:"FILE" help:"PEM file with authorities. A client of --store-redis has to show a certificate that one of them has signed. It is read again on SIGHUP."`
}

// redisDoor serves the stores to clients of Redis. All methods of a nil one do nothing.
type redisDoor struct {
	flags       *redisFlags
	env         *daemon.Env
	clients     func() *rest.Clients
	server      *redis.Server
	certificate *certificate // nil without TLS
}

// open makes the door of f, nil without one.
func (f *redisFlags) open(stores []*store.Store, clients func() *rest.Clients, env *daemon.Env) (
	*redisDoor, error) {
	c, err := newCertificate("--store-redis", f.StoreRedisCertificate, f.StoreRedisKey,
		f.StoreRedisClientCA, env.Log)
	if err != nil {
		return nil, err
	}
	if len(f.StoreRedis) == 0 {
		if c != nil {
			return nil, daemon.Usagef("--store-redis-certificate without --store-redis: no client " +
				"could connect; give it too")
		}
		return nil, nil
	}
	if len(stores) == 0 {
		return nil, daemon.Usagef("--store-redis without --store: clones cannot be changed as " +
			"databases of Redis; name a store")
	}
	d := &redisDoor{flags: f, env: env, clients: clients, certificate: c}
	cfg := d.config(env.Common())
	cfg.TLS = c.config()
	d.server = redis.New(stores, cfg)
	return d, nil
}

// config returns the configuration for the flags of a daemon, without TLS.
func (d *redisDoor) config(common *daemon.Flags) redis.Config {
	socket := common.Socket(nil)
	return redis.Config{
		Version: versionString(), Access: redisAccess{d.clients},
		MaxClients:           noLimit(socket.MaxConnections),
		MaxClientsPerAddress: noLimit(socket.MaxConnectionsPerAddress),
		AuthTimeout:          socket.HandshakeTimeout, Memory: d.env.Memory, Logger: d.env.Log,
	}
}

func (d *redisDoor) listen() ([]daemon.Endpoint, error) {
	if d == nil {
		return nil, nil
	}
	return daemon.BindAll("--store-redis", "REDIS", d.flags.StoreRedis, d.bind)
}

// bind listens at an address and returns the URL for clients.
func (d *redisDoor) bind(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	bound := l.Addr().(*net.TCPAddr).AddrPort()
	scheme := "redis"
	if d.certificate != nil {
		scheme = "rediss"
	}
	if !bound.Addr().Unmap().IsLoopback() {
		if scheme == "redis" {
			d.env.Log.Warn("other hosts can reach the stores as clients of Redis, which is not "+
				"encrypted; give --store-redis-certificate", "address", bound)
		}
		if d.clients() == nil && d.flags.StoreRedisClientCA == "" {
			d.env.Log.Warn("other hosts can reach the stores, and everybody may change them; give "+
				"--store-clients", "address", bound)
		}
	}
	d.server.Serve(l)
	return scheme + "://" + bound.String(), nil
}

// reload reads the certificate again and changes the limits.
func (d *redisDoor) reload(common *daemon.Flags) {
	if d == nil {
		return
	}
	d.server.Reconfigure(d.config(common))
	d.certificate.reload()
}

// The metrics of the door.
var (
	redisClients = daemon.Gauge("zmtpd_store_redis_clients",
		"Connections of clients of Redis.")
	redisSubscribers = daemon.Gauge("zmtpd_store_redis_subscribers",
		"Connections of clients of Redis that follow keyspace events.")
	redisAccepted = daemon.Counter("zmtpd_store_redis_connections_total",
		"Connections of clients of Redis that were accepted.")
	redisCommands = daemon.Counter("zmtpd_store_redis_commands_total",
		"Commands of clients of Redis that were carried out.", "command")
	redisBytesIn = daemon.Counter("zmtpd_store_redis_received_bytes_total",
		"Bytes from clients of Redis.")
	redisBytesOut = daemon.Counter("zmtpd_store_redis_sent_bytes_total",
		"Bytes to clients of Redis.")
	redisEvents = daemon.Counter("zmtpd_store_redis_keyspace_events_total",
		"Keyspace events for clients of Redis, once for each subscriber.")
	redisMissed = daemon.Counter("zmtpd_store_redis_keyspace_gaps_total",
		"How often changes came so fast that there were no keyspace events of them.")
	redisRefused = daemon.Counter("zmtpd_store_redis_refused_total",
		"Connections and requests of clients of Redis that were refused.", "reason")
)

func (d *redisDoor) collect(ch chan<- prometheus.Metric) {
	if d == nil {
		return
	}
	st := d.server.Stats()
	daemon.Send(ch, redisClients, st.Clients)
	daemon.Send(ch, redisSubscribers, st.Subscribers)
	daemon.Send(ch, redisAccepted, st.Accepted)
	for name, n := range st.Commands {
		daemon.Send(ch, redisCommands, n, name)
	}
	daemon.Send(ch, redisBytesIn, st.BytesIn)
	daemon.Send(ch, redisBytesOut, st.BytesOut)
	daemon.Send(ch, redisEvents, st.Events)
	daemon.Send(ch, redisMissed, st.Missed)
	for reason, n := range st.Refused {
		daemon.Send(ch, redisRefused, n, reason.String())
	}
}

// redisStatus is the part of /status about clients of Redis.
type redisStatus struct {
	Clients     int                     `json:"clients"`
	Subscribers int                     `json:"subscribers"`
	Accepted    uint64                  `json:"accepted"`
	Commands    map[string]uint64       `json:"commands"`
	Refused     map[redis.Reason]uint64 `json:"refused"`
}

// status returns the door's part of /status, nil without one.
func (d *redisDoor) status() *redisStatus {
	if d == nil {
		return nil
	}
	st := d.server.Stats()
	return &redisStatus{st.Clients, st.Subscribers, st.Accepted, st.Commands, st.Refused}
}

// redisAccess is the clients of --store-clients as users of Redis. A password is the token of a
// client; the user is its name, or default.
type redisAccess struct{ clients func() *rest.Clients }

// Login implements [redis.Access].
func (a redisAccess) Login(name, password string) *redis.User {
	all := a.clients()
	if all == nil {
		if name == "default" {
			return everybody // as Redis without passwords
		}
		return nil
	}
	c := all.ByToken(password)
	if c == nil || name != "default" && name != c.Name {
		return nil
	}
	return &redis.User{Name: c.Name, Of: c, Allow: func(name string, key []byte, write bool) bool {
		if key == nil { // a key that is no string is covered by the right to the whole store only
			return c.May(name, event.Raw(nil), write)
		}
		return c.May(name, store.Text(key), write)
	}}
}

// everybody is who has not authenticated, and need not.
var everybody = &redis.User{Name: "redis"}

// Anonymous implements [redis.Access].
func (a redisAccess) Anonymous() *redis.User {
	if a.clients() != nil {
		return nil
	}
	return everybody
}

// Current implements [redis.Access].
func (a redisAccess) Current(u *redis.User) bool {
	all := a.clients()
	c, _ := u.Of.(*rest.Client)
	if c == nil || all == nil {
		return c == nil && all == nil
	}
	return all.Current(c)
}
