package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"zmtpd/zmtp/testkit"
)

const (
	tokenFree  = "0123456789abcdef-free"
	tokenBound = "0123456789abcdef-bound"
)

const clientsFile = `
clients:
  - name: free
    token: ` + tokenFree + `
  - {name: bound, token: ` + tokenBound + `, publish: [app.], subscribe: [app., zeek.]}
  - name: sensor
    certificate: sensor.example
    publish: []
`

func TestReadClients(t *testing.T) {
	all, err := ReadClients(writeFile(t, clientsFile))
	if err != nil {
		t.Fatal(err)
	}
	if c := all.byName["free"]; c.Publish != nil || c.Subscribe != nil {
		t.Errorf("free has prefixes: %+v", c)
	}
	if c := all.byName["sensor"]; c.Publish == nil || len(c.Publish) != 0 || c.Subscribe != nil {
		t.Errorf("sensor may publish: %+v", c)
	}
	json := fmt.Sprintf(`{"clients": [{"name": "a", "token_sha256": "%x"}]}`,
		sha256.Sum256([]byte(tokenFree)))
	if all, err = ReadClients(writeFile(t, json)); err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Header: http.Header{"Authorization": {"bearer " + tokenFree}}}
	if c := all.identify(r); c == nil || c.Name != "a" {
		t.Errorf("the token of a is %+v", c)
	}
	for text, want := range map[string]string{
		"clients: [{name: a}]": "a token or a certificate",

		"clients: [{name: a, token: short}]":                                 "could be guessed",
		"clients: [{name: '', token: 0123456789abcdef}]":                     "client name",
		"clients: [{name: a, tokens: x}]":                                    "tokens",
		"clients: [{name: a, token_sha256: 12}]":                             "64 hexadecimal",
		"clients: [{name: a, certificate: x}, {name: b, certificate: x}]":    "same certificate",
		"clients: [{name: a, certificate: x}, {name: a, certificate: y}]":    "another client",
		"clients: [{name: a, token: 0123456789abcdef, token_sha256: \"1\"}]": "not both",
		"clients: {": "yaml",
	} {
		if _, err := ReadClients(writeFile(t, text)); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestBrowserToken: a page gives its token in a subprotocol.
func TestBrowserToken(t *testing.T) {
	g := serve(t, Config{Clients: writeFile(t, clientsFile), Origins: []string{"*.example.org"}})
	c, _, err := websocket.Dial(testContext(t), "ws://"+g.address+Path, &websocket.DialOptions{
		Subprotocols: []string{subprotocol, tokenProtocol + tokenFree},
		HTTPHeader:   http.Header{"Origin": {"https://soc.example.org"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.Subprotocol() != subprotocol {
		t.Errorf("the subprotocol is %q", c.Subprotocol())
	}
}

// TestClientsChange: the file is read again. Clients that have changed are closed, others stay.
func TestClientsChange(t *testing.T) {
	name := writeFile(t, clientsFile)
	g := serve(t, Config{Clients: name})
	free := g.publisher(t, "Authorization", "Bearer "+tokenFree)
	bound := g.publisher(t, "Authorization", "Bearer "+tokenBound)
	change := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change("clients: {")
	g.Poll()
	change(strings.Replace(clientsFile, "publish: [app.]", "publish: [app., more.]", 1))
	bound.closed(websocket.StatusPolicyViolation)
	free.send(ping("t", "x", 1))
	testkit.Eventually(t, "the event of the other client", func() bool {
		return g.Stats().ByTopic["t"].In == 1
	})
	bound = g.publisher(t, "Authorization", "Bearer "+tokenBound)
	bound.send(ping("more.t", "x", 1))
	testkit.Eventually(t, "the event with the new permission", func() bool {
		return g.Stats().ByTopic["more.t"].In == 1
	})
}

// authority makes certificates in files.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("authority", nil)
	return a
}

// issue makes the files name.pem and name.key.
func (a *authority) issue(name string, dns []string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: dns,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        a.cert == nil, BasicConstraintsValid: true,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der},
		".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// client returns a client with the certificate of that name, none for "".
func (a *authority) client(name string) *http.Client {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	c := &tls.Config{RootCAs: roots, ServerName: "gateway.example"}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: c}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func dialTLS(t *testing.T, g *served, client *http.Client, token string) (*websocket.Conn, error) {
	h := http.Header{}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	c, r, err := websocket.Dial(testContext(t), "wss://"+g.address+Path,
		&websocket.DialOptions{HTTPClient: client, HTTPHeader: h})
	if err == nil {
		t.Cleanup(func() { c.CloseNow() })
	} else if r != nil {
		r.Body.Close()
	}
	return c, err
}

// TestTLS: clients log in with a certificate or a token, and the server's certificate is read again
// when it changes.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", []string{"gateway.example"})
	a.issue("sensor.example", nil)
	a.issue("stranger.example", nil)
	g := serve(t, Config{Certificate: a.file("server.pem"), Key: a.file("server.key"),
		ClientCA: a.file("authority.pem"), Clients: writeFile(t, clientsFile)})
	for _, tt := range []struct {
		certificate, token string
		ok                 bool
	}{
		{"sensor.example", "", true}, {"", tokenFree, true}, {"stranger.example", "", false},
		{"", "", false}, {"stranger.example", tokenFree, true},
	} {
		if _, err := dialTLS(t, g, a.client(tt.certificate), tt.token); (err == nil) != tt.ok {
			t.Errorf("certificate %q, token %q: %v", tt.certificate, tt.token, err)
		}
	}
	serial := func() *big.Int {
		config := a.client("").Transport.(*http.Transport).TLSClientConfig
		c, err := tls.Dial("tcp", g.address, config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber
	}
	before := serial()
	a.issue("server", []string{"gateway.example"})
	testkit.Eventually(t, "the new certificate", func() bool { return serial().Cmp(before) != 0 })

	// Without a list of clients, a certificate is needed and gives the name.
	g = serve(t, Config{Certificate: a.file("server.pem"), Key: a.file("server.key"),
		ClientCA: a.file("authority.pem")})
	if _, err := dialTLS(t, g, a.client(""), ""); err == nil {
		t.Error("a client without a certificate was accepted")
	}
	if _, err := dialTLS(t, g, a.client("sensor.example"), ""); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "client sensor.example", func() bool {
		all := g.Stats().ByClient
		return len(all) == 1 && all[0].Client == "sensor.example"
	})
	if _, err := New(g.f, Config{Key: "x"}); err == nil {
		t.Error("a key without a certificate is no error")
	}
}
