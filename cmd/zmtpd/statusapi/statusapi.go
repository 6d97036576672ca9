// Package statusapi asks daemons for /status. It takes the answer for hostile: its size is bounded,
// and so is the time.
package statusapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
)

// maxSize bounds an answer in bytes. A broker with 10,000 peers answers with some 6 MB.
const maxSize = 32 << 20

// Status is what a tool reads of an answer.
type Status struct {
	daemon.Status
	Forwarder *Forwarder `json:"forwarder"`
	Logger    *Logger    `json:"logger"`
	Balance   *Balance   `json:"balance"`
	Store     *Stores    `json:"store"`

	Date time.Time `json:"-"` // the clock of the host that answered, zero if it is unknown
}

// Forwarder is the part about the broker.
type Forwarder struct {
	Topics   int                   `json:"topics"`
	XSub     daemon.SocketStatus   `json:"xsub"`
	XPub     daemon.SocketStatus   `json:"xpub"`
	Account  daemon.DeliveryStatus `json:"account"`
	ByTopic  map[string]Topic      `json:"by_topic"`
	Received struct {
		Messages uint64 `json:"messages"`
	} `json:"received"`
	WebSocket *struct {
		ByClient []WebSocketClient `json:"by_client"`
	} `json:"websocket"`
}

// WebSocketClient counts for all connections of a client of the gateway with an application.
type WebSocketClient struct {
	Client      string `json:"client"` // empty if clients have no tokens
	Application string `json:"application"`
	Connections int    `json:"connections"` // now
	MessagesIn  uint64 `json:"messages_in"`
	EventsOut   uint64 `json:"events_out"`
	Dropped     uint64 `json:"dropped"`
	Throttled   uint64 `json:"throttled"`
}

// Stores is the part about key-value stores.
type Stores struct {
	Stores []Store `json:"stores"`
	Clones []Clone `json:"clones"`
}

// Store is the state of a store that the daemon keeps.
type Store struct {
	Name       string            `json:"name"`
	Keys       int               `json:"keys"`
	Bytes      int64             `json:"bytes"`
	Pending    int64             `json:"pending_bytes"`
	Failure    string            `json:"failure"`
	Reads      uint64            `json:"reads"`
	Operations map[string]uint64 `json:"operations"` // changes
	Clones     int               `json:"clones"`
	Behind     uint64            `json:"clones_behind"` // changes that the last clone lacks
}

// Clone is the state of a copy of a store that another process keeps.
type Clone struct {
	Name   string `json:"name"`
	Keys   int    `json:"keys"`
	Behind uint64 `json:"behind"`
	Stale  bool   `json:"stale"`
}

// Topic counts the messages of a class of topics.
type Topic struct {
	Messages  uint64            `json:"messages"`
	Bytes     uint64            `json:"bytes"`
	Unmatched uint64            `json:"unmatched"`
	Dropped   map[string]uint64 `json:"dropped"`
}

// Logger is the part about the logger.
type Logger struct {
	Pull     daemon.SocketStatus `json:"pull"`
	Received Counts              `json:"received"`
	Sinks    []Sink              `json:"sinks"`
}

// Counts are messages, each of one batch, and the records in them.
type Counts struct {
	Messages uint64 `json:"messages"`
	Records  uint64 `json:"records"`
}

// Account accounts for records: received = written + queued + dropped.
type Account struct {
	Received Counts            `json:"received"`
	Written  Counts            `json:"written"`
	Queued   Counts            `json:"queued"`
	Dropped  map[string]Counts `json:"dropped"`
}

// Lost returns how many records were dropped.
func (a *Account) Lost() (records uint64) {
	for _, n := range a.Dropped {
		records += n.Records
	}
	return records
}

// Sink is the state of a destination of logs.
type Sink struct {
	Sink string `json:"sink"`
	Account
	QueueBytes int64  `json:"queue_bytes"`
	Spooling   bool   `json:"spooling"`
	NodesWait  string `json:"nodes_wait"`
	Paths      []Path `json:"paths"`
}

// Path is the account of a log path.
type Path struct {
	Path   string `json:"path"`
	Stream string `json:"stream"`
	Account
}

// Balance is the part about the balancer.
type Balance struct {
	Pull    daemon.SocketStatus `json:"pull"`
	Loggers []struct {
		Endpoint  string `json:"endpoint"`
		Connected bool   `json:"connected"`
	} `json:"loggers"`
}

// Client asks daemons. The zero Client is ready for use.
type Client struct{ http http.Client }

// NewClient returns a client that waits at most timeout for an answer.
func NewClient(timeout time.Duration) *Client {
	return &Client{http.Client{Timeout: timeout, Transport: &http.Transport{
		Proxy: nil, DisableKeepAlives: true}}}
}

// URL returns the URL of /status at an address such as 127.0.0.1:9321, or http://host:port/status.
func URL(address string) (string, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("%q is no address of a daemon; write that of its --http, as in "+
			"127.0.0.1:9321", address)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/status"
	}
	return u.String(), nil
}

// Get asks for the status at a URL. It blocks until the answer is complete, the timeout is over or
// ctx ends.
func (c *Client) Get(ctx context.Context, url string) (*Status, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d; is it a daemon of zmtpd?", url, answer.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	if len(text) > maxSize {
		return nil, fmt.Errorf("%s: the answer has more than %d bytes", url, maxSize)
	}
	s := &Status{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: the answer is no status: %w", url, err)
	}
	if s.Started.IsZero() {
		return nil, fmt.Errorf("%s: %w", url, errNoDaemon)
	}
	s.Date, _ = http.ParseTime(answer.Header.Get("Date"))
	return s, nil
}

var errNoDaemon = errors.New("the answer is not that of a daemon of zmtpd")
