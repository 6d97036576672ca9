package top

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// style is the look of a line.
type style int

const (
	plain style = iota
	heading
	bad
	selected
)

// line is a line of the view.
type line struct {
	text  string
	style style
}

// view is what is shown: which table, in which order.
type view struct {
	table   int // index in tables
	sort    [len(tables)]int
	reverse bool
	first   int // first row that is shown
	several bool
}

// tables are the names of the tables, in the order of the Tab key.
var tables = [...]string{"nodes", "logs", "topics", "clients", "stores"}

// The columns of the tables. The first one is left out if there is only one daemon.
var (
	nodeColumns = []column[Node]{
		text("daemon", func(n *Node) string { return n.Daemon }),
		text("node", func(n *Node) string { return n.Node }),
		text("socket", func(n *Node) string { return n.Socket }),
		number("from/s", func(n *Node) float64 { return n.ReceivedRate }, rate),
		number("to/s", func(n *Node) float64 { return n.SentRate }, rate),
		number("received", func(n *Node) uint64 { return n.Received }, count),
		number("sent", func(n *Node) uint64 { return n.Sent }, count),
		number("queue", func(n *Node) int { return n.Queue }, count),
		number("bytes", func(n *Node) int64 { return n.QueueBytes }, size),
		number("lost", func(n *Node) uint64 { return n.Lost }, count),
		number("blocked", func(n *Node) float64 { return n.BlockedSeconds }, seconds),
	}
	logColumns = []column[Log]{
		text("daemon", func(l *Log) string { return l.Daemon }),
		text("log", func(l *Log) string { return l.Path }),
		text("sink", func(l *Log) string { return l.Sink }),
		number("records/s", func(l *Log) float64 { return l.ReceivedRate }, rate),
		number("received", func(l *Log) uint64 { return l.Received }, count),
		number("written", func(l *Log) uint64 { return l.Written }, count),
		number("queued", func(l *Log) uint64 { return l.Queued }, count),
		number("lost", func(l *Log) uint64 { return l.Lost }, count),
	}
	topicColumns = []column[Topic]{
		text("daemon", func(t *Topic) string { return t.Daemon }),
		text("topic", func(t *Topic) string { return t.Topic }),
		number("events/s", func(t *Topic) float64 { return t.Rate }, rate),
		number("events", func(t *Topic) uint64 { return t.Messages }, count),
		number("bytes", func(t *Topic) uint64 { return t.Bytes }, size),
		number("unmatched", func(t *Topic) uint64 { return t.Unmatched }, count),
		number("lost", func(t *Topic) uint64 { return t.Lost }, count),
	}
	clientColumns = []column[Client]{
		text("daemon", func(c *Client) string { return c.Daemon }),
		text("client", func(c *Client) string { return cmp.Or(c.Client, "anybody") }),
		text("application", func(c *Client) string { return c.Application }),
		number("to/s", func(c *Client) float64 { return c.SentRate }, rate),
		number("sent", func(c *Client) uint64 { return c.Sent }, count),
		number("received", func(c *Client) uint64 { return c.Received }, count),
		number("connections", func(c *Client) int { return c.Connections }, count),
		number("held back", func(c *Client) uint64 { return c.Throttled }, count),
		number("lost", func(c *Client) uint64 { return c.Lost }, count),
	}
	storeColumns = []column[Store]{
		text("daemon", func(s *Store) string { return s.Daemon }),
		text("store", func(s *Store) string { return s.Store }),
		text("kind", func(s *Store) string { return kind(s.Clone) }),
		number("operations/s", func(s *Store) float64 { return s.OperationRate }, rate),
		number("operations", func(s *Store) uint64 { return s.Operations }, count),
		number("keys", func(s *Store) int { return s.Keys }, count),
		number("bytes", func(s *Store) int64 { return s.Bytes }, size),
		number("unsaved", func(s *Store) int64 { return s.Unsaved }, size),
		number("clones", func(s *Store) int { return s.Clones }, count),
		number("behind", func(s *Store) uint64 { return s.Behind }, count),
		text("trouble", func(s *Store) string { return s.Trouble }),
	}
	// columnNames are the names of the columns of each table.
	columnNames = [len(tables)][]string{names(nodeColumns), names(logColumns), names(topicColumns),
		names(clientColumns), names(storeColumns)}
)

func kind(clone bool) string {
	if clone {
		return "clone"
	}
	return "master"
}

func names[R any](columns []column[R]) (all []string) {
	for _, c := range columns {
		all = append(all, c.name)
	}
	return all
}

// newView returns the view at the start: the nodes that most waits for are first.
func newView(daemons int) view {
	return view{sort: [len(tables)]int{7, 3, 2, 3, 3}, several: daemons > 1}
}

// sortBy chooses the column by whose values all tables that have it are sorted. It returns false if
// none has it.
func (v *view) sortBy(name string) (ok bool) {
	for t, columns := range columnNames {
		for i, c := range columns {
			if c == name {
				v.sort[t], ok = i, true
			}
		}
	}
	return ok
}

// next sorts the shown table by another column, step columns to the right.
func (v *view) next(step int) {
	n := len(columnNames[v.table])
	for {
		v.sort[v.table] = (v.sort[v.table] + step + n) % n
		if v.several || v.sort[v.table] != 0 {
			return
		}
	}
}

// head returns the lines about the daemons.
func (v *view) head(s *Snapshot) (lines []line) {
	for _, d := range s.Daemons {
		switch {
		case d.Error != "":
			lines = append(lines, line{fmt.Sprintf("%s: no answer: %s", d.Address, d.Error), bad})
			continue
		case !d.Ready:
			lines = append(lines, line{fmt.Sprintf("%s: not ready: %s", d.Address, d.NotReady), bad})
		}
		up := time.Duration(d.UptimeSeconds * float64(time.Second)).Truncate(time.Second)
		text := fmt.Sprintf("%s  zmtpd %s, up %v", d.Address, d.Version, up)
		if d.MemoryLimit > 0 {
			text += fmt.Sprintf(", memory %s of %s", size(float64(d.MemoryUsed)),
				size(float64(d.MemoryLimit)))
		}
		lines = append(lines, line{text, plain})
		lines = append(lines, line{fmt.Sprintf("  events %s/s in, %s/s out, %d received, %d lost; "+
			"records %s/s, %d received, %d lost", rate(d.EventsInRate), rate(d.EventsOutRate),
			d.EventsIn, d.EventsLost, rate(d.RecordsRate), d.Records, d.RecordsLost), lossStyle(
			d.EventsLost+d.RecordsLost > 0)})
	}
	return lines
}

func lossStyle(lost bool) style {
	if lost {
		return bad
	}
	return plain
}

// rows returns the lines of a table, its heading first.
func (v *view) rows(s *Snapshot, t int) []line {
	switch t {
	case 0:
		return tableOf(v, t, s.Nodes, nodeColumns, func(n *Node) bool { return n.Slow })
	case 1:
		return tableOf(v, t, s.Logs, logColumns, func(l *Log) bool { return l.Lost > 0 })
	case 2:
		return tableOf(v, t, s.Topics, topicColumns, func(t *Topic) bool { return t.Lost > 0 })
	case 3:
		return tableOf(v, t, s.Clients, clientColumns, func(c *Client) bool { return c.Lost > 0 })
	}
	return tableOf(v, t, s.Stores, storeColumns, func(s *Store) bool { return s.Trouble != "" })
}

func tableOf[R any](v *view, t int, rows []R, columns []column[R], isBad func(*R) bool) []line {
	rows = sorted(rows, columns, v.sort[t], v.reverse)
	skip := 1
	if v.several {
		skip = 0
	}
	shown := columns[skip:]
	cells := make([][]string, len(rows)+1)
	width := make([]int, len(shown))
	for i := range cells {
		cells[i] = make([]string, len(shown))
		for j, c := range shown {
			switch {
			case i > 0:
				cells[i][j] = c.text(&rows[i-1])
			case j+skip == v.sort[t] && v.reverse:
				cells[i][j] = c.name + "^"
			case j+skip == v.sort[t]:
				cells[i][j] = c.name + "*"
			default:
				cells[i][j] = c.name
			}
			width[j] = max(width[j], utf8.RuneCountInString(cells[i][j]))
		}
	}
	lines := make([]line, len(cells))
	for i, row := range cells {
		var b strings.Builder
		for j, cell := range row {
			if j > 0 {
				b.WriteString("  ")
			}
			pad := strings.Repeat(" ", width[j]-utf8.RuneCountInString(cell))
			if shown[j].left {
				b.WriteString(cell + pad)
			} else {
				b.WriteString(pad + cell)
			}
		}
		lines[i].text = strings.TrimRight(b.String(), " ")
		if i == 0 {
			lines[i].style = heading
		} else if isBad(&rows[i-1]) {
			lines[i].style = bad
		}
	}
	return lines
}

// count formats a counter exactly.
func count(n float64) string { return strconv.FormatFloat(n, 'f', 0, 64) }

// rate formats a number per second.
func rate(n float64) string {
	if n < 10 && n > 0 {
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return count(n)
}

// seconds formats a time in seconds.
func seconds(n float64) string { return strconv.FormatFloat(n, 'f', 1, 64) + " s" }

// size formats a number of bytes.
func size(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 1, 64), ".0") + " " + unit
		}
		n /= 1024
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + " TiB"
}

// Text returns a snapshot as text, with all tables. sort names a column; empty for the default.
func Text(s *Snapshot, sort string, reverse bool) (string, error) {
	v := newView(len(s.Daemons))
	v.reverse = reverse
	if sort != "" && !v.sortBy(sort) {
		return "", errNoColumn(sort)
	}
	var b strings.Builder
	for _, l := range v.head(s) {
		b.WriteString(l.text + "\n")
	}
	for t := range tables {
		rows := v.rows(s, t)
		if len(rows) == 1 {
			continue
		}
		b.WriteByte('\n')
		for _, l := range rows {
			b.WriteString(l.text + "\n")
		}
	}
	return b.String(), nil
}

// errNoColumn is the error about a column that no table has.
type errNoColumn string

func (e errNoColumn) Error() string {
	return fmt.Sprintf("no table has a column %q; the columns are %s", string(e), allColumns())
}

// allColumns names the columns of all tables.
func allColumns() string {
	var all []string
	for t, name := range tables {
		all = append(all, fmt.Sprintf("of %s: %s", name, strings.Join(columnNames[t], ", ")))
	}
	return strings.Join(all, "; ")
}
