package printer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
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

// maxSchemas and maxHeaders bound the renderers of logs that are kept, and the bytes of the headers
// by which they are found.
const (
	maxSchemas = 1000
	maxHeaders = 16 << 20
)

// Writer prints. It is not for concurrent use.
type Writer struct {
	w      *bufio.Writer
	format Format
	color  bool
	zone   *time.Location // of times in text

	header    bool // TSV: the first line is written
	renderers map[string]*zeek.Renderer
	headers   int    // bytes of the keys of renderers
	rows      []byte // of the current batch
	piece     []byte // of rows
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
	Parts     []string          `json:"parts,omitempty"` // the first maxParts
	PartsLeft int               `json:"parts_left_out,omitempty"`
	Size      int               `json:"size,omitempty"`
	Missing   int64             `json:"missing,omitempty"`
	Closed    string            `json:"closed,omitempty"`
	Error     string            `json:"error,omitempty"`

	Topic    string            `json:"topic,omitempty"`
	Node     string            `json:"node,omitempty"` // its name
	NodeID   string            `json:"node_id,omitempty"`
	Event    string            `json:"event,omitempty"`
	Args     json.RawMessage   `json:"args,omitempty"`
	Path     string            `json:"path,omitempty"`
	Stream   string            `json:"stream,omitempty"`
	Records  int               `json:"records,omitempty"`
	Rows     []json.RawMessage `json:"rows,omitempty"` // of maxRows bytes
	RowsLeft int               `json:"rows_left_out,omitempty"`
}

// Bounds on what is printed of one event, so that a hostile one does not fill the memory.
const (
	maxShown = 4 << 10  // bytes of a part, or of data
	maxParts = 1000     // parts of a message
	maxRows  = 16 << 20 // bytes of the rows of a log batch
)

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
				if len(l.Parts) < maxParts {
					l.Parts = append(l.Parts, printable(part))
				} else {
					l.PartsLeft++
				}
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
	if err := w.render(b); err != nil {
		l.Kind, l.Error = "malformed", printable([]byte(err.Error()))
		return
	}
	for row := range bytes.Lines(w.rows) {
		row = bytes.TrimSuffix(row, []byte("\n"))
		if !json.Valid(row) { // such as an infinite number
			row, _ = json.Marshal(string(row))
		}
		l.Rows = append(l.Rows, row)
	}
	l.RowsLeft = b.NumRecords - len(l.Rows)
}

// render renders the rows of a batch, as many whole ones as fit, to w.rows.
func (w *Writer) render(b zeek.Batch) error {
	r, err := w.renderer(b)
	if err != nil {
		return err
	}
	w.rows = w.rows[:0]
	full := false
	add := func(text []byte) ([]byte, error) {
		if full = full || len(w.rows)+len(text) > maxRows; !full {
			w.rows = append(w.rows, text...)
		}
		return text[:0], nil
	}
	if w.piece, _, err = r.RenderRecords(w.piece[:0], b, add); err != nil {
		return err
	}
	_, err = add(w.piece)
	w.rows = w.rows[:bytes.LastIndexByte(w.rows, '\n')+1]
	return err
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
	if w.headers += len(b.Header); len(w.renderers) >= maxSchemas || w.headers > maxHeaders {
		clear(w.renderers)
		w.headers = len(b.Header)
	}
	w.renderers[string(b.Header)] = r
	return r, nil
}
