package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progressInterval is how often the line is written anew.
const progressInterval = 250 * time.Millisecond

// progress is one line on a terminal that says how far some work is. Whatever else is
// written there meanwhile goes through Write, so that the two do not mix.
type progress struct {
	w     io.Writer
	width func() int // of the terminal, in columns; nil if w is none, and then there is no line

	mu    sync.Mutex
	drawn int // columns that the line takes now; guarded by mu
}

// newProgress returns a progress on w, which nothing else should write to. There is a line only if
// w is a terminal.
func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(interface{ Fd() uintptr }); ok && term.IsTerminal(int(f.Fd())) {
		p.width = func() int {
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
				return width
			}
			return 80
		}
	}
	return p
}

// show keeps the line that text returns on the terminal until stop is called, which removes
// it. text is called by another goroutine, with the columns that there are.
func (p *progress) show(text func(now time.Time, columns int) string) (stop func()) {
	if p.width == nil {
		return func() {}
	}
	end := make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case now := <-tick.C:
				// In the last column some terminals begin a new line.
				p.draw(text(now, p.width()-1))
			}
		}
	})
	return sync.OnceFunc(func() {
		close(end)
		drawing.Wait()
		p.draw("")
	})
}

// draw replaces the line. What is left of a longer one is overwritten: that works on every
// terminal, as escape sequences do not. There is nobody to tell of an error.
func (p *progress) draw(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn == 0 && line == "" {
		return
	}
	line = "\r" + line + strings.Repeat(" ", max(0, p.drawn-len(line)))
	p.drawn = len(strings.TrimRight(line[1:], " "))
	if p.drawn == 0 {
		line += "\r"
	}
	_, _ = io.WriteString(p.w, line)
}

// Write writes whole lines, which stand where the line was. It comes back with the next tick.
func (p *progress) Write(b []byte) (int, error) {
	p.draw("")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Write(b)
}

// sample is how far a replay is.
type sample struct {
	at              time.Time
	messages, bytes uint64  // sent
	passes          float64 // of the file, 0 if that is not known
}

// rateWindow is how far back a meter looks to find out how fast work goes.
const rateWindow = 10 * time.Second

// meter makes a line of text of samples.
type meter struct {
	rate   float64 // messages a second that are asked for, 0 for any
	repeat int     // passes to be made, 0 for no end
	began  time.Time
	recent []sample // of the last rateWindow, the oldest first
}

// newMeter returns a meter for work that begins now.
func newMeter(now time.Time, rate float64, repeat int) *meter {
	return &meter{rate: rate, repeat: repeat, began: now, recent: []sample{{at: now}}}
}

// line says in at most that many columns how far the work is: less of it in fewer columns, the
// least important first.
func (m *meter) line(now sample, columns int) string {
	for len(m.recent) > 1 && now.at.Sub(m.recent[0].at) > rateWindow {
		m.recent = m.recent[1:]
	}
	before := m.recent[0]
	m.recent = append(m.recent, now)
	seconds := now.at.Sub(before.at).Seconds()
	if seconds <= 0 {
		return ""
	}

	const percent, messages, bytes, rate, left = 0, 1, 2, 3, 4 // as they stand in the line
	parts := [left + 1]string{
		percent:  m.percent(now),
		messages: fmt.Sprintf("%d messages", now.messages),
		bytes:    formatBytes(now.bytes),
		rate:     formatRate(float64(now.messages-before.messages) / seconds),
	}
	if d, ok := m.left(now, (now.passes-before.passes)/seconds); ok {
		parts[left] = formatLeft(d)
	}
	line := joinParts(parts[:])
	for _, leave := range [...]int{bytes, messages, rate, left, percent} {
		if len(line) <= columns {
			break
		}
		parts[leave] = ""
		line = joinParts(parts[:])
	}
	return line
}

// done returns which part of all passes is done.
func (m *meter) done(now sample) float64 { return min(now.passes/float64(m.repeat), 1) }

func (m *meter) percent(now sample) string {
	switch {
	case now.passes == 0:
		return ""
	case m.repeat == 0:
		pass := int(now.passes)
		return fmt.Sprintf("%d%% of pass %d", int(100*(now.passes-float64(pass))), pass+1)
	}
	return fmt.Sprintf("%d%%", int(100*m.done(now)))
}

// left returns the time that is left, at so many passes a second, if it can be told.
func (m *meter) left(now sample, speed float64) (time.Duration, bool) {
	if m.repeat == 0 || now.passes == 0 {
		return 0, false
	}
	elapsed := now.at.Sub(m.began).Seconds()
	var seconds float64
	switch {
	case m.rate > 0 && now.messages > 0 && float64(now.messages) >= m.rate*(elapsed-1):
		// It goes as it was asked for, not by how the messages' sizes differ.
		seconds = float64(now.messages)/m.done(now)/m.rate - elapsed
	case speed > 0:
		seconds = (float64(m.repeat) - now.passes) / speed
	default:
		return 0, false // it stands still
	}
	const most = 1e9 // and more is as good as never
	return time.Duration(min(max(seconds, 0), most) * float64(time.Second)), true
}

// joinParts joins what is not empty.
func joinParts(parts []string) string {
	var b strings.Builder
	for _, p := range parts {
		if p == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p)
	}
	return b.String()
}

func formatRate(perSecond float64) string {
	if perSecond > 0 && perSecond < 10 {
		return fmt.Sprintf("%.1f/s", perSecond)
	}
	return fmt.Sprintf("%.0f/s", perSecond)
}

func formatBytes(n uint64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	units := []string{"KiB", "MiB", "GiB"}
	size, unit := float64(n)/(1<<10), 0
	for size >= 1<<10 && unit < len(units)-1 {
		size, unit = size/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

func formatLeft(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	h, m, s := s/3600, s/60%60, s%60
	if h > 0 {
		return fmt.Sprintf("%d:%02d:%02d left", h, m, s)
	}
	return fmt.Sprintf("%d:%02d left", m, s)
}
