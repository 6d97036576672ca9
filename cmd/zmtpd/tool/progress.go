package tool

import (
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progressInterval is the time between two updates of the line.
const progressInterval = 250 * time.Millisecond

// Progress is a line on a terminal about the progress of work. All other output to the terminal
// goes through Write, so that the two do not mix.
type Progress struct {
	w     io.Writer
	width func() int // of the terminal, in columns; nil if w is no terminal

	mu    sync.Mutex
	drawn int // columns that the line takes now; guarded by mu
}

// NewProgress returns a Progress on w, to which nothing else should write. If w is no terminal,
// there is no line.
func NewProgress(w io.Writer) *Progress {
	p := &Progress{w: w}
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

// Show shows the line that text returns, and updates it until stop is called, which removes it.
// Another goroutine calls text, with the number of columns that the line may take.
func (p *Progress) Show(text func(now time.Time, columns int) string) (stop func()) {
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
				// Some terminals begin a new line in the last column.
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

// draw replaces the line. Blanks overwrite the rest of a longer line: that works on every terminal,
// unlike escape sequences. Errors have no effect, since there is nowhere to report them.
func (p *Progress) draw(line string) {
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

// Write writes whole lines in place of the line. The next update draws the line below them.
func (p *Progress) Write(b []byte) (int, error) {
	p.draw("")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Write(b)
}
