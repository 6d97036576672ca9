package gateway

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"zmtpd/curve/access"
	"zmtpd/forwarder/token"
)

// Identity is a client that may connect. It is immutable.
type Identity struct {
	Name string
	access.Permissions
	token       token.Hash // zero for none
	certificate string     // "" for none
}

// same reports whether a connection of i may stay open when j takes its place.
func (i *Identity) same(j *Identity) bool {
	return i.Name == j.Name && i.token == j.token && i.certificate == j.certificate &&
		i.Permissions.Equal(&j.Permissions)
}

const (
	// maxIdentities bounds the clients of a file.
	maxIdentities = 10_000
	// maxFile bounds a file, in bytes.
	maxFile = 16 << 20
)

// Identities are the clients of a file, see [ReadClients].
type Identities struct {
	byName        map[string]*Identity
	byToken       map[token.Hash]*Identity
	byCertificate map[string]*Identity
}

// ReadClients reads a file in YAML or JSON with the clients that may connect:
//
//	clients:
//	  - name: dashboard
//	    token: 9b1c5e0a7d3f4e62           # at least 16 characters
//	    publish: []                       # prefixes of topics; none
//	    subscribe: [zeek.logs., app.]
//	  - name: agent
//	    token_sha256: 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8
//	  - name: sensor
//	    certificate: sensor.example.org   # common name, or an alternative name
//
// A client shows its token in the header Authorization ("Bearer", a space and the token), or in a
// subprotocol. A client with a token and a certificate needs both. publish and subscribe are the
// prefixes of the topics that it may publish and subscribe: without them all.
func ReadClients(name string) (*Identities, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	var file struct {
		Clients []struct {
			Name        string
			Token       string
			TokenSHA256 string `yaml:"token_sha256"`
			Certificate string
			Publish     []string
			Subscribe   []string
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(file.Clients) > maxIdentities {
		return nil, fmt.Errorf("%s: more than %d clients", name, maxIdentities)
	}
	all := &Identities{byName: map[string]*Identity{}, byToken: map[token.Hash]*Identity{},
		byCertificate: map[string]*Identity{}}
	for n, c := range file.Clients {
		id := &Identity{Name: c.Name, certificate: c.Certificate,
			Permissions: access.Permissions{Publish: c.Publish, Subscribe: c.Subscribe}}
		err := access.CheckName(c.Name)
		if err == nil {
			id.token, err = token.Parse(c.Token, c.TokenSHA256)
		}
		if err == nil {
			err = all.add(id)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: client %d (%.64s): %w", name, n+1, c.Name, err)
		}
	}
	return all, nil
}

func (all *Identities) add(id *Identity) error {
	noToken := id.token == token.Hash{}
	switch {
	case noToken && id.certificate == "":
		return errors.New("it needs a token or a certificate")
	case all.byName[id.Name] != nil:
		return errors.New("there is another client with this name")
	case all.byToken[id.token] != nil && !noToken:
		return fmt.Errorf("client %s has the same token", all.byToken[id.token].Name)
	case id.certificate != "" && all.byCertificate[id.certificate] != nil:
		return fmt.Errorf("client %s has the same certificate",
			all.byCertificate[id.certificate].Name)
	}
	all.byName[id.Name] = id
	if !noToken {
		all.byToken[id.token] = id
	}
	if id.certificate != "" {
		all.byCertificate[id.certificate] = id
	}
	return nil
}

// identify returns the client that sent a request, nil if it may not connect.
func (all *Identities) identify(r *http.Request) *Identity {
	var chain *x509.Certificate
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		chain = r.TLS.VerifiedChains[0][0]
	}
	if shown := bearer(r); shown != "" {
		id := all.byToken[token.Of(shown)]
		if id == nil || id.certificate != "" && !slices.Contains(names(chain), id.certificate) {
			return nil
		}
		return id
	}
	for _, name := range names(chain) {
		if id := all.byCertificate[name]; id != nil && id.token == (token.Hash{}) {
			return id
		}
	}
	return nil
}

// names returns the names in a verified certificate, none for nil.
func names(c *x509.Certificate) []string {
	if c == nil {
		return nil
	}
	all := slices.Concat([]string{c.Subject.CommonName}, c.DNSNames, c.EmailAddresses)
	for _, uri := range c.URIs {
		all = append(all, uri.String())
	}
	return slices.DeleteFunc(all, func(name string) bool { return name == "" })
}

// bearer returns the token of a request, "" if it has none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	for _, value := range r.Header.Values("Sec-WebSocket-Protocol") {
		for one := range strings.SplitSeq(value, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(one), tokenProtocol); ok {
				return token
			}
		}
	}
	return ""
}

// readFile reads a file of at most maxFile bytes.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return b, err
}
