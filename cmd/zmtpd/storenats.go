package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve/access"
	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/jetstream"
)

// natsFlags are the flags about stores in NATS.
type natsFlags struct {
	StoreNATS             []string `name:"store-nats" group:"store" placeholder:"URL" help:"Keep the stores in NATS JetStream instead of --store-dir: NAME in the bucket zmtpd_NAME. A server of the NATS cluster, as in nats://10.0.0.1:4222 or tls://nats.example:4222 (repeatable: more servers of the same cluster)."`
	StoreNATSReplicas     int      `name:"store-nats-replicas" group:"store" default:"1" placeholder:"N" help:"Replicas of a bucket that zmtpd makes. With 3, entries survive the loss of one server of NATS."`
	StoreNATSUser         string   `name:"store-nats-user" group:"store" placeholder:"NAME" help:"User of NATS."`
	StoreNATSPasswordFile string   `name:"store-nats-password-file" group:"store" placeholder:"FILE" help:"File with the password of --store-nats-user, which only its owner may read. It is read again for each connection, as all files with credentials are."`
	StoreNATSTokenFile    string   `name:"store-nats-token-file" group:"store" placeholder:"FILE" help:"File with a token of NATS."`
	StoreNATSCreds        string   `name:"store-nats-creds" group:"store" placeholder:"FILE" help:"Credentials file of NATS, with a JWT and a seed."`
	StoreNATSNkey         string   `name:"store-nats-nkey" group:"store" placeholder:"FILE" help:"File with the seed of an nkey of NATS."`
	StoreNATSCA           string   `name:"store-nats-ca" group:"store" placeholder:"FILE" help:"PEM file with the authorities that may sign the certificates of NATS; it turns TLS on. Default: those of the system."`
	StoreNATSCertificate  string   `name:"store-nats-certificate" group:"store" placeholder:"FILE" help:"PEM file with the certificate that zmtpd shows to NATS."`
	StoreNATSKey          string   `name:"store-nats-key" group:"store" placeholder:"FILE" help:"PEM file with the key of --store-nats-certificate."`
}

// maxCredentials bounds a file with credentials.
const maxCredentials = 64 << 10

// check checks the flags as far as that needs no server.
func (f *natsFlags) check(env *daemon.Env) error {
	given := 0
	for _, file := range []string{f.StoreNATSPasswordFile, f.StoreNATSTokenFile, f.StoreNATSCreds,
		f.StoreNATSNkey} {
		if file == "" {
			continue
		}
		given++
		if _, err := access.ReadSecretFile(file, maxCredentials); err != nil {
			return fmt.Errorf("credentials for --store-nats: %w", err)
		}
	}
	for _, two := range [][4]string{
		{"--store-nats-user", f.StoreNATSUser,
			"--store-nats-password-file", f.StoreNATSPasswordFile},
		{"--store-nats-certificate", f.StoreNATSCertificate,
			"--store-nats-key", f.StoreNATSKey},
	} {
		if (two[1] == "") != (two[3] == "") {
			return daemon.Usagef("%s and %s: give both or none", two[0], two[2])
		}
	}
	switch {
	case given > 1:
		return daemon.Usagef("credentials for --store-nats: give one of " +
			"--store-nats-password-file, --store-nats-token-file, --store-nats-creds and " +
			"--store-nats-nkey")
	case len(f.StoreNATS) == 0 && (given > 0 || f.StoreNATSCA+f.StoreNATSKey != ""):
		return daemon.Usagef("credentials or certificates for NATS without --store-nats: give " +
			"it too")
	case f.StoreNATSReplicas < 1 || f.StoreNATSReplicas > 5:
		return daemon.Usagef("--store-nats-replicas: NATS has 1 to 5, not %d", f.StoreNATSReplicas)
	}
	for _, text := range f.StoreNATS {
		if err := jetstream.CheckURL(text); err != nil {
			return daemon.Usagef("--store-nats: %w", err)
		}
		if f.StoreNATSCA == "" && crossesNetwork(text) {
			env.Log.Warn("the stores pass to NATS over the network, which is not encrypted; give "+
				"a URL with tls:// or --store-nats-ca", "url", text)
		}
	}
	return nil
}

// crossesNetwork returns whether a URL of NATS leads to another host without TLS.
func crossesNetwork(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "tls" || u.Scheme == "wss" || u.Hostname() == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err != nil || !addr.Unmap().IsLoopback()
}

// open opens the bucket of a store.
func (f *natsFlags) open(name string, sync store.Sync, env *daemon.Env) (*jetstream.Backend,
	error) {
	cfg := jetstream.Config{Store: name, Sync: sync, URLs: f.StoreNATS,
		Replicas: f.StoreNATSReplicas, User: f.StoreNATSUser,
		CredentialsFile: f.StoreNATSCreds, NKeyFile: f.StoreNATSNkey,
		CAFile: f.StoreNATSCA, CertificateFile: f.StoreNATSCertificate, KeyFile: f.StoreNATSKey,
		Who: processName(), Logger: env.Log,
		Lost: func(err error) { env.Fail(fmt.Errorf("--store %s: %w", name, err)) }}
	if f.StoreNATSPasswordFile != "" {
		cfg.Password = secretLine(f.StoreNATSPasswordFile)
	}
	if f.StoreNATSTokenFile != "" {
		cfg.Token = secretLine(f.StoreNATSTokenFile)
	}
	return jetstream.Open(cfg)
}

// secretLine returns a function that reads a file with one secret in a line.
func secretLine(file string) func() (string, error) {
	return func() (string, error) {
		text, err := access.ReadSecretFile(file, maxCredentials)
		return strings.TrimRight(string(text), "\r\n"), err
	}
}

// The metrics of stores in NATS.
var (
	storeNATSConnected = daemon.Gauge("zmtpd_store_nats_connected",
		"1 if a store is connected to NATS. Without, reads go on and writes are refused.", "store")
	storeNATSReconnects = daemon.Counter("zmtpd_store_nats_reconnects_total",
		"Times that a store was connected to NATS again.", "store")
)

func collectNATS(ch chan<- prometheus.Metric, name string, b *jetstream.Backend) {
	st := b.Stats()
	connected := 0
	if st.Connected {
		connected = 1
	}
	daemon.Send(ch, storeNATSConnected, connected, name)
	daemon.Send(ch, storeNATSReconnects, st.Reconnects, name)
}

// natsStatus is the part of /status about the bucket of a store.
type natsStatus struct {
	Connected  bool   `json:"connected"`
	Server     string `json:"server"`
	Reconnects uint64 `json:"reconnects"`
	Replicas   int    `json:"replicas"`
}
