package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"zmtpd/curve"
)

// Client is a client that may connect. It is immutable.
type Client struct {
	Name string // the User-Id of its connections, unique among the clients
	Key  curve.Key
	Permissions

	id uint64 // a new one whenever a field above changes
}

// Permissions are what a client may do. The zero value allows everything.
type Permissions struct {
	// Publish and Subscribe are prefixes of the topics that the client may publish and subscribe.
	// Nil allows all topics, empty none.
	Publish, Subscribe []string
	// NoLogs forbids it to send logs.
	NoLogs bool
}

// Equal reports whether both have the same prefixes in the same order.
func (p *Permissions) Equal(q *Permissions) bool {
	return p.NoLogs == q.NoLogs && samePrefixes(p.Publish, q.Publish) &&
		samePrefixes(p.Subscribe, q.Subscribe)
}

func samePrefixes(a, b []string) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }

// maxName bounds a client's name in bytes. The name becomes a metric label and a User-Id.
const maxName = 64

const (
	// maxPrefixes bounds the prefixes of one kind: each is compared with each topic that is new to
	// a connection.
	maxPrefixes = 256
	// maxPrefixBytes bounds the prefixes of all clients together, in bytes.
	maxPrefixBytes = 16 << 20
)

// newClient makes a client of a certificate. name is used if the certificate has no name.
func newClient(c *curve.Certificate, name string) (*Client, error) {
	client := &Client{Name: name, Key: c.Public}
	seen := map[string]bool{}
	for _, p := range c.Metadata {
		var err error
		switch p.Name {
		case "name":
			client.Name = p.Value
		case "publish":
			client.Publish, err = parsePrefixes(p.Value)
		case "subscribe":
			client.Subscribe, err = parsePrefixes(p.Value)
		case "logs":
			switch p.Value {
			case "yes":
			case "no":
				client.NoLogs = true
			default:
				err = fmt.Errorf("%.32q is neither yes nor no", p.Value)
			}
		default:
			continue // other metadata are for other programs
		}
		if seen[p.Name] {
			err = errors.New("given twice")
		}
		seen[p.Name] = true
		if err != nil {
			return nil, fmt.Errorf("metadata %s: %w", p.Name, err)
		}
	}
	return client, CheckName(client.Name)
}

func parsePrefixes(value string) ([]string, error) {
	all := append([]string{}, strings.Fields(value)...)
	if len(all) > maxPrefixes {
		return nil, fmt.Errorf("%d prefixes, at most %d are allowed", len(all), maxPrefixes)
	}
	return all, nil
}

// CheckName returns an error if name cannot be the name of a client. The name becomes a label of
// metrics and the User-Id of connections.
func CheckName(name string) error {
	hidden := func(r rune) bool { return !unicode.IsGraphic(r) }
	if name == "" || len(name) > maxName || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, hidden) {
		return fmt.Errorf("client name %.80q: want 1 to %d printable bytes; set it in the file's "+
			"metadata, as in name = \"worker-1\"", name, maxName)
	}
	return nil
}

// list is all clients. It is immutable once it is complete.
type list struct {
	byKey    map[curve.Key]*Client
	byID     map[uint64]*Client
	byName   map[string]string // the place where the name was given
	prefixes int               // bytes of the prefixes of all clients
}

// maxClients bounds the number of clients.
const maxClients = 10_000

func (l *list) add(c *Client, where string) error {
	if len(l.byKey) >= maxClients {
		return fmt.Errorf("%s: more than %d clients", where, maxClients)
	}
	for _, p := range [][]string{c.Publish, c.Subscribe} {
		for _, prefix := range p {
			l.prefixes += len(prefix)
		}
	}
	if l.prefixes > maxPrefixBytes {
		return fmt.Errorf("%s: the prefixes of all clients take more than %d bytes; shorten the "+
			"lists of publish and subscribe", where, maxPrefixBytes)
	}
	if other, ok := l.byName[c.Name]; ok {
		return fmt.Errorf("%s: the client of %s has the name %q too: give each client its own "+
			"name", where, other, c.Name)
	}
	if other, ok := l.byKey[c.Key]; ok {
		return fmt.Errorf("%s: has the same key as %s: make a key for each client", where,
			l.byName[other.Name])
	}
	l.byKey[c.Key], l.byName[c.Name] = c, where
	return nil
}
