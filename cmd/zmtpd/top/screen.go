package top

import (
	"context"
	"fmt"
	"time"

	"github.com/gdamore/tcell/v2"
)

// maxReads bounds the events of the terminal that wait.
const maxReads = 100

// Options are the settings of Watch.
type Options struct {
	Interval time.Duration // between two polls
	Sort     string        // a column, empty for the default
	Reverse  bool
}

// Watch shows what the daemons answer on a screen until the user quits or ctx ends. It initialises
// the screen, and restores the terminal at the end.
func Watch(ctx context.Context, screen tcell.Screen, p *Poller, o Options) error {
	v := newView(len(p.addresses))
	v.reverse = o.Reverse
	if o.Sort != "" && !v.sortBy(o.Sort) {
		return errNoColumn(o.Sort)
	}
	if err := screen.Init(); err != nil {
		return fmt.Errorf("the terminal cannot be used: %w; --once needs none", err)
	}
	defer screen.Fini()
	ctx, cancel := context.WithCancel(ctx)
	snapshots, polled := make(chan *Snapshot), make(chan struct{})
	go func() {
		defer close(polled)
		poll(ctx, p, o.Interval, snapshots)
	}()
	defer func() { cancel(); <-polled }()
	keys, quit := make(chan tcell.Event, maxReads), make(chan struct{})
	defer close(quit)
	go screen.ChannelEvents(keys, quit)

	w := &window{screen: screen, view: v}
	w.draw()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-snapshots:
			if !w.paused {
				w.snapshot = s
			}
		case e, ok := <-keys:
			if !ok || !w.handle(e) {
				return nil
			}
		}
		w.draw()
	}
}

// poll sends a snapshot in each interval until ctx ends.
func poll(ctx context.Context, p *Poller, interval time.Duration, snapshots chan<- *Snapshot) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s := p.Poll(ctx)
		select {
		case snapshots <- s:
		case <-ctx.Done():
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// window is what is on the screen.
type window struct {
	screen   tcell.Screen
	view     view
	snapshot *Snapshot // nil before the first answer
	paused   bool
	help     bool
	height   int // rows of the table that fit
	length   int // rows that the table has
}

var helpLines = []string{
	"Tab         next table: nodes, logs, topics, WebSocket clients, stores",
	"< >         sort by the column to the left or right; * marks it",
	"r           reverse the order; ^ marks it",
	"arrows, PgUp, PgDn, Home, End   scroll",
	"p           pause, or go on",
	"?           this help, or back",
	"q, Esc      quit",
}

// handle handles an event. It returns false at the end.
func (w *window) handle(e tcell.Event) bool {
	switch e := e.(type) {
	case *tcell.EventResize:
		w.screen.Sync()
	case *tcell.EventKey:
		return w.key(e)
	}
	return true
}

func (w *window) key(e *tcell.EventKey) bool {
	v := &w.view
	switch e.Key() {
	case tcell.KeyEscape, tcell.KeyCtrlC:
		return false
	case tcell.KeyTab:
		w.turn(1)
	case tcell.KeyBacktab:
		w.turn(-1)
	case tcell.KeyUp:
		v.first--
	case tcell.KeyDown:
		v.first++
	case tcell.KeyPgUp:
		v.first -= w.height
	case tcell.KeyPgDn:
		v.first += w.height
	case tcell.KeyHome:
		v.first = 0
	case tcell.KeyEnd:
		v.first = w.length
	case tcell.KeyLeft:
		v.next(-1)
	case tcell.KeyRight:
		v.next(1)
	case tcell.KeyRune:
		switch e.Rune() {
		case 'q':
			return false
		case '<':
			v.next(-1)
		case '>':
			v.next(1)
		case 'r':
			v.reverse = !v.reverse
		case 'p':
			w.paused = !w.paused
		case '?':
			w.help = !w.help
		}
	}
	return true
}

// turn shows the next table in a direction. It passes over tables without rows, but for the first.
func (w *window) turn(step int) {
	v := &w.view
	for {
		v.table, v.first = (v.table+step+len(tables))%len(tables), 0
		if v.table == 0 || w.snapshot == nil || len(v.rows(w.snapshot, v.table)) > 1 {
			return
		}
	}
}

// draw draws everything. tcell sends only what has changed to the terminal.
func (w *window) draw() {
	w.screen.Clear()
	defer w.screen.Show()
	width, height := w.screen.Size()
	lines := []line{{"asking", plain}}
	switch {
	case w.help:
		lines = nil
		for _, h := range helpLines {
			lines = append(lines, line{h, plain})
		}
	case w.snapshot != nil:
		lines = w.table(height)
	}
	for y, l := range lines[:min(len(lines), max(height-1, 0))] {
		w.put(y, width, l)
	}
	state := ""
	if w.paused {
		state = "  PAUSED"
	}
	w.put(height-1, width, line{fmt.Sprintf("%s%s  Tab table  <> sort  r reverse  p pause  ? help  "+
		"q quit", tables[w.view.table], state), selected})
}

// table returns the lines that fit into a height.
func (w *window) table(height int) []line {
	v := &w.view
	lines := append(v.head(w.snapshot), line{})
	rows := v.rows(w.snapshot, v.table)
	lines = append(lines, rows[0])
	w.length = len(rows) - 1
	w.height = max(height-1-len(lines), 1)
	v.first = max(min(v.first, w.length-w.height), 0)
	return append(lines, rows[1+v.first:]...)
}

var styles = map[style]tcell.Style{
	plain:    tcell.StyleDefault,
	heading:  tcell.StyleDefault.Bold(true).Underline(true),
	bad:      tcell.StyleDefault.Foreground(tcell.ColorRed),
	selected: tcell.StyleDefault.Reverse(true),
}

// put writes a line, up to the width of the screen. All texts are clean.
func (w *window) put(y, width int, l line) {
	x := 0
	for _, c := range l.text {
		if x >= width {
			return
		}
		w.screen.SetContent(x, y, c, nil, styles[l.style])
		x++
	}
	for ; l.style == selected && x < width; x++ {
		w.screen.SetContent(x, y, ' ', nil, styles[selected])
	}
}
