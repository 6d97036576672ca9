package tool

import (
	"fmt"
	"strings"
	"time"
)

// Sample is the progress of a replay at one time.
type Sample struct {
	At              time.Time
	Messages, Bytes uint64  // sent
	Passes          float64 // of the file, 0 if that is not known
}

// rateWindow is the time over which a Meter computes the rate.
const rateWindow = 10 * time.Second

// Meter describes the progress of a replay in a line of text.
type Meter struct {
	rate   float64 // messages a second that were asked for, 0 for no limit
	repeat int     // passes to make, 0 for no end
	began  time.Time
	recent []Sample // of the last rateWindow, the oldest first
}

// NewMeter returns a Meter for a replay that begins now, at rate messages a second, 0 for no limit,
// with repeat passes over the file, 0 for no end.
func NewMeter(now time.Time, rate float64, repeat int) *Meter {
	return &Meter{rate: rate, repeat: repeat, began: now, recent: []Sample{{At: now}}}
}

// Line describes the progress in at most so many columns. If they are too few, it leaves out the
// least important parts.
func (m *Meter) Line(now Sample, columns int) string {
	for len(m.recent) > 1 && now.At.Sub(m.recent[0].At) > rateWindow {
		m.recent = m.recent[1:]
	}
	before := m.recent[0]
	m.recent = append(m.recent, now)
	seconds := now.At.Sub(before.At).Seconds()
	if seconds <= 0 {
		return ""
	}

	const percent, messages, bytes, rate, left = 0, 1, 2, 3, 4 // as they stand in the line
	parts := [left + 1]string{
		percent:  m.percent(now),
		messages: fmt.Sprintf("%d messages", now.Messages),
		bytes:    formatBytes(now.Bytes),
		rate:     formatRate(float64(now.Messages-before.Messages) / seconds),
	}
	if d, ok := m.left(now, (now.Passes-before.Passes)/seconds); ok {
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

// done returns the share of all passes that is done.
func (m *Meter) done(now Sample) float64 { return min(now.Passes/float64(m.repeat), 1) }

func (m *Meter) percent(now Sample) string {
	switch {
	case now.Passes == 0:
		return ""
	case m.repeat == 0:
		pass := int(now.Passes)
		return fmt.Sprintf("%d%% of pass %d", int(100*(now.Passes-float64(pass))), pass+1)
	}
	return fmt.Sprintf("%d%%", int(100*m.done(now)))
}

// left returns the remaining time at a speed in passes a second, and whether it is known.
func (m *Meter) left(now Sample, speed float64) (time.Duration, bool) {
	if m.repeat == 0 || now.Passes == 0 {
		return 0, false
	}
	elapsed := now.At.Sub(m.began).Seconds()
	var seconds float64
	switch {
	case m.rate > 0 && now.Messages > 0 && float64(now.Messages) >= m.rate*(elapsed-1):
		// The rate is as asked for. The sizes of messages do not matter then.
		seconds = float64(now.Messages)/m.done(now)/m.rate - elapsed
	case speed > 0:
		seconds = (float64(m.repeat) - now.Passes) / speed
	default:
		return 0, false // nothing moves
	}
	const most = 1e9 // more has no meaning
	return time.Duration(min(max(seconds, 0), most) * float64(time.Second)), true
}

// joinParts joins the parts that are not empty.
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
