package access

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"zmtpd/curve"
)

// Client is somebody who may come in. It does not change.
type Client struct {
	Name string // the User-Id of its connections; no other client has it
	Key  curve.Key
	Permissions

	id uint64 // another one whenever anything of the above is
}

// Permissions are what a client may do. The zero value allows everything.
type Permissions struct {
	// Publish and Subscribe are prefixes of the topics that it may publish and subscribe. Nil allows all, empty none.
	Publish, Subscribe []string
	// NoLogs forbids it to send logs.
	NoLogs bool
}

// equal reports whether both allow the same, in the same words.
func (p *Permissions) equal(q *Permissions) bool {
	return p.NoLogs == q.NoLogs && samePrefixes(p.Publish, q.Publish) && samePrefixes(p.Subscribe, q.Subscribe)
}

func samePrefixes(a, b []string) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }

// maxName bounds a client's name in bytes. It becomes a label of metrics, and a User-Id.
const maxName = 64

// maxPrefixes bounds the prefixes of one kind: each is compared with each topic that is new to a connection.
const maxPrefixes = 256

// newClient makes a client of a certificate. Without a name of its own it gets the given one.
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
			continue // metadata are free
		}
		if seen[p.Name] {
			err = fmt.Errorf("it stands there twice")
		}
		seen[p.Name] = true
		if err != nil {
			return nil, fmt.Errorf("metadata %s: %w", p.Name, err)
		}
	}
	return client, checkName(client.Name)
}

func parsePrefixes(value string) ([]string, error) {
	all := append([]string{}, strings.Fields(value)...)
	if len(all) > maxPrefixes {
		return nil, fmt.Errorf("%d prefixes, at most %d are allowed", len(all), maxPrefixes)
	}
	return all, nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return fmt.Errorf("client name %.80q: want 1 to %d bytes that can be printed; give it in the metadata, as in name = \"worker-1\"", name, maxName)
	}
	return nil
}

// list is all clients. It does not change.
type list struct {
	byKey  map[curve.Key]*Client
	byID   map[uint64]*Client
	byName map[string]string // where the name was given
}

// maxClients bounds how many clients there may be.
const maxClients = 10_000

func (l *list) add(c *Client, where string) error {
	if len(l.byKey) >= maxClients {
		return fmt.Errorf("%s: more than %d clients", where, maxClients)
	}
	if other, ok := l.byName[c.Name]; ok {
		return fmt.Errorf("%s: the client of %s is called %q as well: give each a name of its own", where, other, c.Name)
	}
	if other, ok := l.byKey[c.Key]; ok {
		return fmt.Errorf("%s: has the same key as %s: make a key for each client", where, l.byName[other.Name])
	}
	l.byKey[c.Key], l.byName[c.Name] = c, where
	return nil
}
