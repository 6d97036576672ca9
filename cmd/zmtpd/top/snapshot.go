package top

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/statusapi"
	"zmtpd/forwarder/cluster"
)

// Snapshot is the state of all daemons at a moment. Rates are per second, since the snapshot
// before.
type Snapshot struct {
	Time    time.Time `json:"time"`
	Daemons []Daemon  `json:"daemons"`
	Nodes   []Node    `json:"nodes"`
	Logs    []Log     `json:"logs"`
	Topics  []Topic   `json:"topics"`
	Clients []Client  `json:"clients"`
	Stores  []Store   `json:"stores"`
}

// Daemon is one daemon as a whole.
type Daemon struct {
	Address       string  `json:"address"`
	Error         string  `json:"error,omitempty"` // why there is no answer; the rest is zero then
	Version       string  `json:"version,omitempty"`
	UptimeSeconds float64 `json:"uptime_seconds"`
	Ready         bool    `json:"ready"`
	NotReady      string  `json:"not_ready,omitempty"`
	EventsIn      uint64  `json:"events_received"`
	EventsOut     uint64  `json:"events_delivered"`
	EventsLost    uint64  `json:"events_lost"`
	EventsInRate  float64 `json:"events_received_rate"`
	EventsOutRate float64 `json:"events_delivered_rate"`
	Records       uint64  `json:"records_received"`
	RecordsLost   uint64  `json:"records_lost"`
	RecordsRate   float64 `json:"records_received_rate"`
	MemoryUsed    int64   `json:"memory_used_bytes"`
	MemoryLimit   int64   `json:"memory_limit_bytes"` // 0 for none
}

// Node is what a node has to do with one socket of a daemon.
type Node struct {
	Daemon         string  `json:"daemon"`
	Node           string  `json:"node"` // name, else id, client or address
	Socket         string  `json:"socket"`
	Address        string  `json:"address"`
	Received       uint64  `json:"received"` // messages from it
	Sent           uint64  `json:"sent"`     // messages to it
	ReceivedRate   float64 `json:"received_rate"`
	SentRate       float64 `json:"sent_rate"`
	Queue          int     `json:"queue"` // messages that wait for it
	QueueBytes     int64   `json:"queue_bytes"`
	Lost           uint64  `json:"lost"`
	BlockedSeconds float64 `json:"blocked_seconds"`
	Slow           bool    `json:"slow"`
}

// Log is a log path at one sink.
type Log struct {
	Daemon       string  `json:"daemon"`
	Sink         string  `json:"sink"`
	Path         string  `json:"path"`
	Stream       string  `json:"stream"`
	Received     uint64  `json:"received"` // records
	Written      uint64  `json:"written"`
	Queued       uint64  `json:"queued"`
	Lost         uint64  `json:"lost"`
	ReceivedRate float64 `json:"received_rate"`
}

// Topic is a class of topics.
type Topic struct {
	Daemon    string  `json:"daemon"`
	Topic     string  `json:"topic"`
	Messages  uint64  `json:"messages"`
	Bytes     uint64  `json:"bytes"`
	Unmatched uint64  `json:"unmatched"`
	Lost      uint64  `json:"lost"`
	Rate      float64 `json:"rate"`
}

// Client is a WebSocket client with an application.
type Client struct {
	Daemon      string  `json:"daemon"`
	Client      string  `json:"client"` // empty if clients have no tokens
	Application string  `json:"application"`
	Connections int     `json:"connections"` // now
	Received    uint64  `json:"received"`    // messages from it
	Sent        uint64  `json:"sent"`        // events to it
	SentRate    float64 `json:"sent_rate"`
	Throttled   uint64  `json:"throttled"` // messages from it that waited for the rate limit
	Lost        uint64  `json:"lost"`
}

// Store is a key-value store, or a clone of one.
type Store struct {
	Daemon        string  `json:"daemon"`
	Store         string  `json:"store"`
	Clone         bool    `json:"clone"`
	Keys          int     `json:"keys"`
	Bytes         int64   `json:"bytes"`      // 0 for a clone
	Operations    uint64  `json:"operations"` // reads and changes; 0 for a clone
	OperationRate float64 `json:"operation_rate"`
	Unsaved       int64   `json:"unsaved_bytes"` // changes that wait for the file
	Clones        int     `json:"clones"`        // 0 for a clone
	Behind        uint64  `json:"behind"`        // changes that a clone, or the last of them, lacks
	Trouble       string  `json:"trouble,omitempty"`
}

const (
	// maxRows bounds the rows of each kind for one daemon. A broker has at most some 10,000 peers.
	maxRows = 20_000
	maxText = 120 // characters of a text
)

// clean makes a text safe for a terminal.
func clean(text string) string {
	var b strings.Builder
	n := 0
	for _, c := range text {
		if n++; n > maxText {
			b.WriteString("...")
			break
		}
		if !unicode.IsPrint(c) || unicode.IsMark(c) || c == unicode.ReplacementChar {
			c = '?'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// earlier is a state of a daemon, to find rates.
type earlier struct {
	at     time.Time
	status *statusapi.Status // nil if it did not answer
	counts map[string]uint64 // by the key of a counter
}

// meter makes rows of one answer.
type meter struct {
	address string
	now     earlier
	before  *earlier
}

// rate notes a counter and returns how fast it grew. A daemon that was started again begins anew.
func (m *meter) rate(key string, n uint64) float64 {
	m.now.counts[key] = n
	b := m.before
	if b == nil || b.status == nil || !b.status.Started.Equal(m.now.status.Started) {
		return 0
	}
	old, ok := b.counts[key]
	seconds := m.now.at.Sub(b.at).Seconds()
	if !ok || n < old || seconds <= 0 {
		return 0
	}
	return float64(n-old) / seconds
}

// add adds the rows of a daemon to a snapshot.
func (m *meter) add(s *Snapshot) {
	st := m.now.status
	d := Daemon{Address: m.address, Version: clean(st.Version), UptimeSeconds: st.UptimeSeconds,
		Ready: st.Ready, NotReady: clean(st.NotReady)}
	if st.Memory != nil {
		d.MemoryUsed, d.MemoryLimit = st.Memory.Used, st.Memory.Limit
	}
	if f := st.Forwarder; f != nil {
		d.EventsIn, d.EventsOut = f.Received.Messages, f.Account.Delivered
		d.EventsLost = sum(f.Account.Dropped)
		d.EventsInRate, d.EventsOutRate = m.rate("in", d.EventsIn), m.rate("out", d.EventsOut)
		m.peers(s, "xsub", f.XSub.Peers)
		m.peers(s, "xpub", f.XPub.Peers)
		for topic, t := range f.ByTopic {
			if len(s.Topics) < maxRows {
				s.Topics = append(s.Topics, Topic{m.address, clean(topic), t.Messages, t.Bytes,
					t.Unmatched, sum(t.Dropped), m.rate("topic "+topic, t.Messages)})
			}
		}
		if f.WebSocket != nil {
			m.clients(s, f.WebSocket.ByClient)
		}
	}
	if st.Store != nil {
		m.stores(s, st.Store)
	}
	if l := st.Logger; l != nil {
		d.Records = l.Received.Records
		d.RecordsRate = m.rate("records", d.Records)
		m.peers(s, "pull", l.Pull.Peers)
		for _, sink := range l.Sinks {
			d.RecordsLost += sink.Lost()
			for _, p := range sink.Paths[:min(len(sink.Paths), maxRows)] {
				s.Logs = append(s.Logs, Log{m.address, clean(sink.Sink), clean(p.Path),
					clean(p.Stream), p.Received.Records, p.Written.Records, p.Queued.Records,
					p.Lost(), m.rate("log "+sink.Sink+"\x00"+p.Path+"\x00"+p.Stream,
						p.Received.Records)})
			}
		}
	}
	if b := st.Balance; b != nil {
		m.peers(s, "pull", b.Pull.Peers)
	}
	s.Daemons = append(s.Daemons, d)
}

// peers adds the connections of a socket.
func (m *meter) peers(s *Snapshot, socket string, peers []daemon.PeerStatus) {
	for _, p := range peers[:min(len(peers), maxRows)] {
		key := socket + " " + p.Address + " " + p.Since.String()
		n := Node{Daemon: m.address, Node: clean(nodeName(p)), Socket: socket,
			Address: clean(p.Address), Received: p.Received.Messages, Sent: p.Sent.Messages,
			ReceivedRate: m.rate("from "+key, p.Received.Messages),
			SentRate:     m.rate("to "+key, p.Sent.Messages),
			Queue:        p.Queue, QueueBytes: p.QueueBytes, Lost: sum(p.Dropped),
			BlockedSeconds: p.BlockedSeconds, Slow: p.SlowSince != nil}
		if p.Account != nil {
			n.Lost = sum(p.Account.Dropped)
		}
		s.Nodes = append(s.Nodes, n)
	}
}

// clients adds the WebSocket clients.
func (m *meter) clients(s *Snapshot, clients []statusapi.WebSocketClient) {
	for _, c := range clients[:min(len(clients), maxRows)] {
		s.Clients = append(s.Clients, Client{m.address, clean(c.Client), clean(c.Application),
			c.Connections, c.MessagesIn, c.EventsOut,
			m.rate("client "+c.Client+"\x00"+c.Application, c.EventsOut), c.Throttled, c.Dropped})
	}
}

// stores adds the stores and the clones.
func (m *meter) stores(s *Snapshot, all *statusapi.Stores) {
	for _, st := range all.Stores[:min(len(all.Stores), maxRows)] {
		row := Store{Daemon: m.address, Store: clean(st.Name), Keys: st.Keys, Bytes: st.Bytes,
			Operations: st.Reads + sum(st.Operations), Unsaved: st.Pending,
			Clones: st.Clones, Behind: st.Behind, Trouble: clean(st.Failure)}
		row.OperationRate = m.rate("store "+st.Name, row.Operations)
		s.Stores = append(s.Stores, row)
	}
	for _, c := range all.Clones[:min(len(all.Clones), maxRows)] {
		row := Store{Daemon: m.address, Store: clean(c.Name), Clone: true, Keys: c.Keys,
			Behind: c.Behind}
		if c.Stale {
			row.Trouble = "stale"
		}
		s.Stores = append(s.Stores, row)
	}
}

func nodeName(p daemon.PeerStatus) string {
	return cmp.Or(cluster.NameInID(p.Node), p.Node, p.Client, p.Address)
}

func sum(byReason map[string]uint64) (n uint64) {
	for _, v := range byReason {
		n += v
	}
	return n
}

// column is a column of a table.
type column[R any] struct {
	name  string
	text  func(*R) string
	order func(a, b *R) int // the natural one: the largest number or the first name first
	left  bool
}

// number makes a column of numbers.
func number[R any, N int | int64 | uint64 | float64](name string, value func(*R) N,
	format func(float64) string) column[R] {
	return column[R]{name: name,
		text:  func(r *R) string { return format(float64(value(r))) },
		order: func(a, b *R) int { return cmp.Compare(value(b), value(a)) }}
}

// text makes a column of texts.
func text[R any](name string, value func(*R) string) column[R] {
	return column[R]{name: name, text: value, left: true,
		order: func(a, b *R) int { return strings.Compare(value(a), value(b)) }}
}

// sorted returns rows in the order of a column. Rows that are equal there are in the order of the
// first columns, so that they do not jump.
func sorted[R any](rows []R, columns []column[R], by int, reverse bool) []R {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b R) int {
		n := columns[by].order(&a, &b)
		if reverse {
			n = -n
		}
		for i := 0; n == 0 && i < len(columns); i++ {
			if columns[i].left {
				n = columns[i].order(&a, &b)
			}
		}
		return n
	})
	return rows
}
