package printer

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"time"

	"zmtpd/capture"
	"zmtpd/capture/cluster"
	"zmtpd/pipeline/zeek"
)

// Format is the form of the output.
type Format string

// The formats.
const (
	Text Format = "text" // for people
	JSON Format = "json" // one object a line
	TSV  Format = "tsv"  // columns, named in the first line
)

// maxSchemas bounds the renderers of logs that are kept.
const maxSchemas = 1000

// Writer prints. It is not for concurrent use.
type Writer struct {
	w      *bufio.Writer
	format Format
	color  bool
	zone   *time.Location // of times in text

	header    bool // TSV: the first line is written
	renderers map[string]*zeek.Renderer
	buf       []byte
}

// New returns a Writer. Text has colors if color says so.
func New(w io.Writer, format Format, color bool) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, 64<<10), format: format, color: color,
		zone: time.Local, renderers: map[string]*zeek.Renderer{}}
}

// Flush writes what is buffered.
func (w *Writer) Flush() error { return w.w.Flush() }

// Write prints an event. names are the nodes that are known.
func (w *Writer) Write(ev *capture.Event, item cluster.Item, names *cluster.Analyzer) error {
	l := w.line(ev, item, names)
	var err error
	switch w.format {
	case JSON:
		err = json.NewEncoder(w.w).Encode(l)
	case TSV:
		err = w.tsv(l)
	default:
		err = w.text(l)
	}
	return err
}

// line is an event as it is printed.
type line struct {
	Time    time.Time `json:"ts"`
	Session uint64    `json:"session"`
	From    string    `json:"from,omitempty"`
	Source  string    `json:"src"` // the client, if nobody in particular sent it
	Dest    string    `json:"dst"`
	Type    string    `json:"socket_type,omitempty"` // of the sender
	Kind    string    `json:"kind"`

	Version   string            `json:"version,omitempty"`
	Mechanism string            `json:"mechanism,omitempty"`
	Protocol  string            `json:"protocol,omitempty"` // of an upgrade to WebSocket
	Metadata  map[string]string `json:"metadata,omitempty"`
	Command   string            `json:"command,omitempty"`
	Data      string            `json:"data,omitempty"`
	Parts     []string          `json:"parts,omitempty"`
	Size      int               `json:"size,omitempty"`
	Missing   int64             `json:"missing,omitempty"`
	Closed    string            `json:"closed,omitempty"`
	Error     string            `json:"error,omitempty"`

	Topic   string            `json:"topic,omitempty"`
	Node    string            `json:"node,omitempty"` // its name
	NodeID  string            `json:"node_id,omitempty"`
	Event   string            `json:"event,omitempty"`
	Args    json.RawMessage   `json:"args,omitempty"`
	Path    string            `json:"path,omitempty"`
	Stream  string            `json:"stream,omitempty"`
	Records int               `json:"records,omitempty"`
	Rows    []json.RawMessage `json:"rows,omitempty"`
}

// maxShown bounds the bytes of a part or of data that are printed.
const maxShown = 4 << 10

func (w *Writer) line(ev *capture.Event, item cluster.Item, names *cluster.Analyzer) line {
	l := line{Time: ev.Time, Session: ev.Session.ID, Kind: ev.Kind.String(),
		Source: ev.Session.Client.String(), Dest: ev.Session.Server.String()}
	if ev.From != capture.NoSide {
		l.From, l.Source, l.Dest = ev.From.String(), ev.Source().String(), ev.To().String()
		l.Type = printable([]byte(ev.Session.Peer(ev.From).Type))
	}
	if ev.Err != nil {
		l.Error = printable([]byte(ev.Err.Error()))
	}
	switch ev.Kind {
	case capture.Greeting:
		l.Version = version(ev.Greeting)
		l.Mechanism = printable([]byte(ev.Greeting.Mechanism))
	case capture.Upgrade:
		l.Protocol = printable([]byte(ev.Name))
	case capture.Metadata:
		l.Metadata = map[string]string{}
		for _, p := range ev.Metadata {
			l.Metadata[printable([]byte(p.Name))] = printable(p.Value)
		}
	case capture.Command:
		l.Command = printable([]byte(ev.Name))
		l.Data, l.Size = handshakeData(ev), len(ev.Data)
	case capture.Message:
		l.Size = ev.Message.Size()
	case capture.Encrypted:
		l.Size = ev.Size
	case capture.Gap, capture.Resumed:
		l.Missing = ev.Missing
	case capture.Closed:
		l.Closed = ev.Closed.String()
	}
	switch item.Kind {
	case cluster.Log:
		w.log(&l, item)
	case cluster.Event:
		l.Kind, l.Event, l.Args = "event", printable(item.Event.Name), appendArgs(nil, item.Event)
	case cluster.Subscribe, cluster.Unsubscribe, cluster.Malformed:
		l.Kind = item.Kind.String()
		if item.Err != nil {
			l.Error = printable([]byte(item.Err.Error()))
		}
	default:
		if ev.Kind == capture.Message {
			for part := range ev.Message.Parts() {
				l.Parts = append(l.Parts, printable(part))
			}
		}
	}
	if item.Kind == cluster.Subscribe || item.Kind == cluster.Unsubscribe {
		l.Data = ""
	}
	l.Topic = printable(item.Topic)
	if item.Node != nil {
		l.NodeID, l.Node = printable(item.Node), printable([]byte(names.Name(string(item.Node))))
	}
	return l
}

// log adds a log batch with its rows.
func (w *Writer) log(l *line, item cluster.Item) {
	b := item.Batch
	l.Kind, l.Path, l.Stream = "log", printable(b.Path), printable(b.Stream)
	l.Records = b.NumRecords
	r, err := w.renderer(b)
	if err == nil {
		w.buf, _, err = r.AppendRecords(w.buf[:0], b)
	}
	if err != nil {
		l.Kind, l.Error = "malformed", printable([]byte(err.Error()))
		return
	}
	for row := range strings.Lines(string(w.buf)) {
		row := []byte(strings.TrimSuffix(row, "\n"))
		if !json.Valid(row) { // such as an infinite number
			row, _ = json.Marshal(string(row))
		}
		l.Rows = append(l.Rows, row)
	}
}

func (w *Writer) renderer(b zeek.Batch) (*zeek.Renderer, error) {
	if r := w.renderers[string(b.Header)]; r != nil {
		return r, nil
	}
	schema, err := zeek.ParseSchema(b.Header)
	if err != nil {
		return nil, err
	}
	opts := zeek.DefaultOptions()
	opts.UseJSON, opts.JSONTimestamps = true, zeek.JSONTimestampsISO8601
	r, err := zeek.NewRenderer(schema, opts)
	if err != nil {
		return nil, err
	}
	if len(w.renderers) >= maxSchemas {
		clear(w.renderers)
	}
	w.renderers[string(b.Header)] = r
	return r, nil
}
