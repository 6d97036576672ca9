package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/jetstream"
	"zmtpd/forwarder/store/rest"
	"zmtpd/forwarder/store/sqlite"
)

// storeFlags are the flags about stores.
type storeFlags struct {
	Store                []string           `group:"store" placeholder:"NAME" help:"Key-value store to keep, as Broker did (repeatable)."`
	StoreDir             string             `group:"store" default:"." placeholder:"DIR" help:"Folder of the stores: NAME.sqlite, which may be a file of Broker. Empty: stores are in memory only."`
	StoreSync            store.Sync         `group:"store" enum:"always,group,off" default:"always" help:"When a write is answered. always: it is on disk; group: the operating system has it, and a second later the disk; off: it is in memory, and goes to the file in the background."`
	StoreBytes           daemon.ByteSize    `group:"store" default:"1GiB" help:"Memory for the entries of one store; a write that needs more is refused."`
	StoreClone           []string           `group:"store" placeholder:"NAME" help:"Store of another process to follow: a copy in memory that can be read and watched (repeatable)."`
	StoreXSub            string             `name:"store-xsub" group:"store" placeholder:"ENDPOINT" help:"XSUB of the broker over which stores are shared. Default: that of this process; store-server has none, and shares nothing without it."`
	StoreXPub            string             `name:"store-xpub" group:"store" placeholder:"ENDPOINT" help:"XPUB of the broker over which stores are shared. Default as for --store-xsub."`
	StoreKeys            daemon.ClientFlags `embed:"" prefix:"store-"`
	StoreHTTP            string             `name:"store-http" group:"store" default:"127.0.0.1:9324" placeholder:"ADDRESS" help:"Address at which to serve stores as JSON over HTTP. Empty: none."`
	StoreHTTPCertificate string             `name:"store-http-certificate" group:"store" placeholder:"FILE" help:"PEM file with the certificate chain of --store-http. It turns TLS on, and is read again on SIGHUP."`
	StoreHTTPKey         string             `name:"store-http-key" group:"store" placeholder:"FILE" help:"PEM file with the key of --store-http-certificate."`
	StoreHTTPClientCA    string             `name:"store-http-client-ca" group:"store" placeholder:"FILE" help:"PEM file with authorities. A client of --store-http has to show a certificate that one of them has signed. It is read again on SIGHUP."`
	StoreClients         string             `group:"store" placeholder:"FILE" help:"YAML or JSON file with the clients that may use stores, their tokens, and the stores and prefixes of keys that they may read and write. It is read again on SIGHUP. Default: everybody may do everything."`
	natsFlags
	redisFlags
}

// maxStoreConnections bounds the connections of --store-http.
const maxStoreConnections = 1000

// maxStoreClients bounds the file of --store-clients.
const maxStoreClients = 16 << 20

// storeJob is the stores of a process.
type storeJob struct {
	flags       *storeFlags
	env         *daemon.Env
	own         []*store.Store
	buckets     []*jetstream.Backend // those of own, with --store-nats
	share       *storeShare
	clients     atomic.Pointer[rest.Clients] // nil for everybody
	http        *rest.Server
	redis       *redisDoor   // nil without --store-redis
	certificate *certificate // of HTTP; nil without TLS
	server      *http.Server // nil until Listen
}

// newStoreJob opens the stores; it returns nil without any.
func newStoreJob(flags *storeFlags, env *daemon.Env, broker *forwarderJob) (_ *storeJob,
	err error) {
	if len(flags.Store)+len(flags.StoreClone) == 0 {
		for flag, given := range map[string]bool{"--store-clients": flags.StoreClients != "",
			"--store-http-certificate": flags.StoreHTTPCertificate != "",
			"--store-redis":            len(flags.StoreRedis) > 0,
			"--store-nats":             len(flags.StoreNATS) > 0} {
			if given {
				return nil, daemon.Usagef("%s without --store: there is nothing to use; name a store",
					flag)
			}
		}
		return nil, nil
	}
	if err := flags.natsFlags.check(env); err != nil {
		return nil, err
	}
	j := &storeJob{flags: flags, env: env}
	if err := j.readClients(); err != nil {
		return nil, err
	}
	if j.certificate, err = newCertificate("--store-http", flags.StoreHTTPCertificate,
		flags.StoreHTTPKey, flags.StoreHTTPClientCA, env.Log); err != nil {
		return nil, err
	}
	if j.certificate != nil && flags.StoreHTTP == "" {
		return nil, daemon.Usagef("--store-http-certificate without --store-http: no client could " +
			"connect; give it too")
	}
	defer func() {
		if err != nil {
			j.close()
		}
	}()
	names := map[string]bool{}
	for _, name := range slices.Concat(flags.Store, flags.StoreClone) {
		if err := store.CheckName(name); err != nil {
			return nil, daemon.Usagef("--store: %w", err)
		}
		if names[name] {
			return nil, daemon.Usagef("--store %s is there twice: remove one of the two", name)
		}
		names[name] = true
	}
	for _, name := range flags.Store {
		cfg := store.Config{Name: name, Sync: flags.StoreSync, MaxBytes: int64(flags.StoreBytes),
			Memory: env.Memory, Logger: env.Log}
		switch {
		case len(flags.StoreNATS) > 0:
			bucket, err := flags.natsFlags.open(name, flags.StoreSync, env)
			if err != nil {
				return nil, fmt.Errorf("--store %s: %w", name, err)
			}
			j.buckets = append(j.buckets, bucket)
			cfg.Backend, cfg.MaxValue = bucket, bucket.MaxValue()
		case flags.StoreDir != "":
			if err := os.MkdirAll(flags.StoreDir, 0o700); err != nil {
				return nil, fmt.Errorf("--store-dir: %w", err)
			}
			cfg.Backend, err = sqlite.Open(filepath.Join(flags.StoreDir, name+".sqlite"),
				flags.StoreSync)
			if err != nil {
				return nil, fmt.Errorf("--store %s: %w", name, err)
			}
			env.Memory.NewHolder("store files", sqlite.Memory, nil)
		}
		s, err := store.Open(cfg)
		if err != nil {
			return nil, fmt.Errorf("--store %s: %w", name, err)
		}
		j.own = append(j.own, s)
	}
	if j.share, err = newStoreShare(j, broker); err != nil {
		return nil, err
	}
	j.http = rest.New(rest.Config{Stores: j.all, Clients: j.clients.Load,
		Master: func(name string) rest.Master {
			if c := j.share.clone(name); c != nil {
				return c
			}
			return nil
		}})
	j.redis, err = flags.redisFlags.open(j.own, j.clients.Load, env)
	return j, err
}

// processName names this process to others that want the same store.
func processName() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}

// all returns the stores that can be read: those of this process, and the clones.
func (j *storeJob) all() []*store.Store { return slices.Concat(j.own, j.share.copies()) }

// Targets implements [daemon.Connecter].
func (j *storeJob) Targets() []daemon.Target { return j.share.targets() }

// Connect implements [daemon.Connecter].
func (j *storeJob) Connect() error { return j.share.connect() }

// readClients reads --store-clients.
func (j *storeJob) readClients() error {
	if j.flags.StoreClients == "" {
		return nil
	}
	info, err := os.Stat(j.flags.StoreClients)
	if err == nil && info.Size() > maxStoreClients {
		err = fmt.Errorf("%s has more than %d bytes", j.flags.StoreClients, maxStoreClients)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(j.flags.StoreClients)
	}
	if err != nil {
		return fmt.Errorf("--store-clients: %w", err)
	}
	all, err := rest.ParseClients(text)
	if err != nil {
		return daemon.Usagef("--store-clients %s: %w", j.flags.StoreClients, err)
	}
	j.clients.Store(all)
	return nil
}

// with returns jobs, and the stores if there are any.
func (j *storeJob) with(jobs ...daemon.Job) []daemon.Job {
	if j == nil {
		return jobs
	}
	return append(jobs, j)
}

func (j *storeJob) Name() string { return "store" }

func (j *storeJob) Listen() ([]daemon.Endpoint, error) {
	var web []daemon.Endpoint
	if j.flags.StoreHTTP != "" {
		var err error
		web, err = daemon.BindAll("--store-http", "STORE", []string{j.flags.StoreHTTP}, j.bind)
		if err != nil {
			return nil, err
		}
	}
	redis, err := j.redis.listen()
	return append(web, redis...), err
}

// bind serves HTTP at an address and returns its URL.
func (j *storeJob) bind(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	bound := l.Addr().(*net.TCPAddr).AddrPort()
	if !bound.Addr().Unmap().IsLoopback() {
		if j.certificate == nil {
			j.env.Log.Warn("other hosts can reach the stores over HTTP, which is not encrypted; "+
				"give --store-http-certificate", "address", bound)
		}
		if j.clients.Load() == nil && j.flags.StoreHTTPClientCA == "" {
			j.env.Log.Warn("other hosts can reach the stores, and everybody may change them; give "+
				"--store-clients", "address", bound)
		}
	}
	var connections atomic.Int64
	j.server = &http.Server{Handler: j.http, ConnState: func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if connections.Add(1) > maxStoreConnections {
				c.Close()
			}
		case http.StateClosed, http.StateHijacked:
			connections.Add(-1)
		}
	}, ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 128 << 10} // a key may have 64 KiB
	if j.certificate != nil {
		j.server.TLSConfig = j.certificate.config()
		j.server.Protocols = new(http.Protocols) // without HTTP/2, whose streams nobody would count
		j.server.Protocols.SetHTTP1(true)
		go j.server.ServeTLS(l, "", "") // until Shutdown
		return "https://" + bound.String(), nil
	}
	go j.server.Serve(l) // until Shutdown
	return "http://" + bound.String(), nil
}

// Reload reads the clients and the certificates again.
func (j *storeJob) Reload(now daemon.Command) {
	if err := j.readClients(); err != nil {
		j.env.Log.Error("the clients of the stores cannot be read; those read before stay in use",
			"err", err)
	}
	j.certificate.reload()
	j.redis.reload(now.Common())
}

// Ready implements [daemon.Readier].
func (j *storeJob) Ready() error {
	for _, s := range j.own {
		if err := s.Stats().Failure; err != nil {
			return err
		}
	}
	for i, b := range j.buckets {
		if !b.Stats().Connected {
			return fmt.Errorf("the store %s is not connected to NATS: it can be read only",
				j.own[i].Name())
		}
	}
	return j.share.ready()
}

// Shutdown ends the servers, then the stores, which commit what there is.
func (j *storeJob) Shutdown(ctx context.Context) error {
	j.http.Close()
	if j.server != nil {
		if j.server.Shutdown(ctx) != nil {
			j.server.Close()
		}
	}
	if j.redis != nil {
		j.redis.server.Shutdown(ctx) // what it has not answered was not promised
	}
	return errors.Join(j.share.shutdown(ctx), j.close())
}

func (j *storeJob) close() (err error) {
	for _, s := range j.own {
		err = errors.Join(err, s.Close())
	}
	return err
}

func (j *storeJob) Summary() []any {
	writes, keys := uint64(0), 0
	for _, s := range j.own {
		st := s.Stats()
		writes += st.Writes.Count
		keys += st.Keys
	}
	return []any{"writes", writes, "keys", keys}
}
