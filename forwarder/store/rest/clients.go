package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/token"
)

const maxClients = 10_000

// Client is a client that may use stores. It is immutable.
type Client struct {
	Name        string
	token       token.Hash
	read, write []scope
}

// scope is the keys of a store with a prefix.
type scope struct{ store, prefix string }

// May returns whether a client may read a key of a store, or write it. A nil Client may everything.
func (c *Client) May(store string, key event.Raw, write bool) bool {
	if c == nil {
		return true
	}
	text, _ := key.Text()
	return c.mayPrefix(store, text, key.Kind() == event.String, write)
}

// mayAll returns whether the client may read or write all string keys with a prefix, and all others
// too if the prefix is empty.
func (c *Client) mayAll(store, prefix string, write bool) bool {
	return c == nil || c.mayPrefix(store, []byte(prefix), prefix != "", write)
}

func (c *Client) mayPrefix(store string, text []byte, isString, write bool) bool {
	scopes := c.read
	if write {
		scopes = c.write
	}
	for _, s := range scopes {
		if (s.store == store || s.store == "*") &&
			(s.prefix == "" || isString && bytes.HasPrefix(text, []byte(s.prefix))) {
			return true
		}
	}
	return false
}

// Clients are the clients of a file, see [ParseClients].
type Clients struct{ byToken map[token.Hash]*Client }

// ParseClients reads a file in YAML or JSON with the clients that may use stores:
//
//	clients:
//	  - name: dashboard
//	    token: 9b1c5e0a7d3f4e62      # at least 16 characters; or token_sha256
//	    read: ["*"]                  # all stores
//	  - name: sensor
//	    token_sha256: 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8
//	    read: [hosts]
//	    write: [hosts/seen:, notes]  # string keys of hosts that begin with seen:, and all of notes
//
// Whoever may write a key may not read it for that, except for the value that a write has made.
func ParseClients(text []byte) (*Clients, error) {
	var file struct {
		Clients []struct {
			Name        string
			Token       string
			TokenSHA256 string `yaml:"token_sha256"`
			Read, Write []string
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(file.Clients) > maxClients {
		return nil, fmt.Errorf("more than %d clients", maxClients)
	}
	all, names := &Clients{map[token.Hash]*Client{}}, map[string]bool{}
	for i, c := range file.Clients {
		client := &Client{Name: c.Name, read: scopes(c.Read), write: scopes(c.Write)}
		hash, err := token.Parse(c.Token, c.TokenSHA256)
		switch {
		case (c.Token == "") == (c.TokenSHA256 == ""):
			err = errors.New("give either token or token_sha256")
		case err != nil:
		case c.Name == "" || len(c.Name) > 64 || names[c.Name]:
			err = errors.New("it needs a name of up to 64 bytes that no other client has")
		case all.byToken[hash] != nil:
			err = fmt.Errorf("client %s has the same token", all.byToken[hash].Name)
		}
		if err != nil {
			return nil, fmt.Errorf("client %d (%.64s): %w", i+1, c.Name, err)
		}
		client.token = hash
		names[c.Name], all.byToken[hash] = true, client
	}
	return all, nil
}

func scopes(list []string) (all []scope) {
	for _, text := range list {
		store, prefix, _ := strings.Cut(text, "/")
		all = append(all, scope{store, prefix})
	}
	return all
}

// ByToken returns the client with a token, nil if there is none.
func (all *Clients) ByToken(text string) *Client { return all.byToken[token.Of(text)] }

// Current returns whether the client is still in the list as it was.
func (all *Clients) Current(c *Client) bool {
	now := all.byToken[c.token]
	return now != nil && now.Name == c.Name && slices.Equal(now.read, c.read) &&
		slices.Equal(now.write, c.write)
}
