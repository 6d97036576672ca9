package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"zmtpd/zmtp/testkit"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	next int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{dir: t.TempDir()}
	a.issue(t, "ca", nil)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue writes NAME.crt and NAME.key. The first certificate is that of the authority.
func (a *authority) issue(t *testing.T, name string, hosts []string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.next++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: a.cert == nil, BasicConstraintsValid: true, DNSNames: hosts,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.KeyUsage = x509.KeyUsageCertSign
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert == nil {
		a.key = key
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for ext, block := range map[string]*pem.Block{
		".crt": {Type: "CERTIFICATE", Bytes: der},
		".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(a.file(name+ext), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// deliver sends a few records. It returns nil if they were taken, else the reason.
func deliver(t *testing.T, cfg Config) error {
	t.Helper()
	cfg.stallAfter = 50 * time.Millisecond
	s := newTestSink(t, cfg)
	r := newResults(t)
	s.Send(testkit.Context(t), r.entry("n", batch(t, "p", numbers(0, 10)...)))
	testkit.Eventually(t, "delivery or trouble",
		func() bool { return r.left() == 0 || inTrouble(s) })
	var err error
	if r.left() > 0 {
		// the final reason comes a moment later
		testkit.Eventually(t, "the reason", func() bool {
			err = s.Stats().Err
			return r.left() == 0 || strings.Contains(fmt.Sprint(err), ": ")
		})
	}
	if r.left() == 0 {
		shut(t, s)
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Close(ctx)
	return err
}

func TestSASL(t *testing.T) {
	c := newCluster(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "plain", "secret"),
		kfake.Superuser("SCRAM-SHA-256", "s256", "secret"),
		kfake.Superuser("SCRAM-SHA-512", "s512", "secret"), kfake.SeedTopics(1, "zeek"))
	sent := 0
	for _, test := range []struct {
		mechanism Mechanism
		user      string
	}{{Plain, "plain"}, {ScramSHA256, "s256"}, {ScramSHA512, "s512"}} {
		for _, password := range []string{"secret", "wrong"} {
			err := deliver(t, Config{Brokers: c.ListenAddrs(),
				SASL: &SASL{Mechanism: test.mechanism, User: test.user, Password: password}})
			if (err == nil) != (password == "secret") {
				t.Errorf("%v with password %s: %v", test.mechanism, password, err)
			}
			if err == nil {
				sent += 10
			}
		}
	}
	if err := deliver(t, Config{Brokers: c.ListenAddrs()}); err == nil {
		t.Error("delivered without authentication")
	}
	consume(t, c, sent, []string{"zeek"},
		kgo.SASL(plain.Auth{User: "plain", Pass: "secret"}.AsMechanism()))
}

// As Kafka does, the broker says that it does not know the password, until it does.
func TestSASLRefused(t *testing.T) {
	c := newCluster(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "secret"),
		kfake.SeedTopics(1, "zeek"))
	var knows atomic.Bool
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		resp.ErrorMessage = kmsg.StringPtr("Authentication failed")
		return resp, nil, !knows.Load()
	})
	s := newTestSink(t, Config{Brokers: c.ListenAddrs(), stallAfter: 20 * time.Millisecond,
		SASL: &SASL{Mechanism: Plain, User: "u", Password: "secret"}})
	r := newResults(t)
	s.Send(testkit.Context(t), r.entry("n", batch(t, "p", numbers(0, 10)...)))
	testkit.Eventually(t, "the reason",
		func() bool { return errors.Is(s.Stats().Err, kerr.SaslAuthenticationFailed) })
	knows.Store(true)
	testkit.Eventually(t, "delivery", func() bool { return r.left() == 0 })
	testkit.Eventually(t, "being up", func() bool { return s.Stats().Up })
	if st := s.Stats(); st.Records != 10 {
		t.Errorf("%+v", st)
	}
	shut(t, s)
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "broker", []string{"kafka.example"})
	a.issue(t, "client", nil)
	other := newAuthority(t)
	other.issue(t, "client", nil)
	pair, err := tls.LoadX509KeyPair(a.file("broker.crt"), a.file("broker.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := newCluster(t, kfake.SeedTopics(1, "zeek"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool,
			ClientAuth: tls.RequireAndVerifyClientCert}))
	good := TLS{CAFile: a.file("ca.crt"), CertFile: a.file("client.crt"),
		KeyFile: a.file("client.key"), ServerName: "kafka.example"}
	if err := deliver(t, Config{Brokers: c.ListenAddrs(), TLS: &good}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		want   string
		change func(*TLS)
	}{
		"other authority": {"unknown authority",
			func(c *TLS) { c.CAFile = other.file("ca.crt") }},
		"other name":        {"not example.com", func(c *TLS) { c.ServerName = "example.com" }},
		"name from address": {"127.0.0.1", func(c *TLS) { c.ServerName = "" }},
		"no certificate":    {"certificate", func(c *TLS) { c.CertFile, c.KeyFile = "", "" }},
		"wrong certificate": {"certificate", func(c *TLS) {
			c.CertFile, c.KeyFile = other.file("client.crt"), other.file("client.key")
		}},
		"system authorities": {"unknown authority", func(c *TLS) { c.CAFile = "" }},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			test.change(&bad)
			if err := deliver(t, Config{Brokers: c.ListenAddrs(), TLS: &bad}); err == nil ||
				!strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	config, err := good.config()
	if err != nil {
		t.Fatal(err)
	}
	consume(t, c, 10, []string{"zeek"},
		kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, host)
		}))
}

// A renewed client certificate is used for the next connection.
func TestCertificateRenewed(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "client", nil)
	config, err := (&TLS{CertFile: a.file("client.crt"), KeyFile: a.file("client.key")}).config()
	if err != nil {
		t.Fatal(err)
	}
	first, err := config.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	a.issue(t, "client", nil)
	second, err := config.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(first.Certificate[0]) == string(second.Certificate[0]) {
		t.Error("the client still uses the old certificate")
	}
}
