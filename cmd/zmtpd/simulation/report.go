package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Report is the balance of a simulation.
type Report struct {
	Took   time.Duration
	Nodes  int
	Deaths uint64
	Events [numKinds]Balance
	Logs   LogBalance
}

// report adds everything up.
func (s *simulation) report(took time.Duration) (*Report, error) {
	r := &Report{Took: took, Nodes: len(s.layout.Nodes), Deaths: s.deaths.Load()}
	for k := range r.Events {
		r.Events[k].Event = names[k]
	}
	for st, n := range s.book.soFar() {
		r.Events[st.kind].Sent += n
	}
	for _, v := range s.processes() {
		s.book.balance(&r.Events, v.name, v.worker, v.got)
		if v.logs == nil {
			continue
		}
		n := v.logs.written()
		r.Logs.Written += n
		if s.book.isDead(v.process) {
			r.Logs.Dead += n
		}
	}
	if s.cfg.Status == "" {
		return r, nil
	}
	now, err := s.records(context.Background())
	if err != nil {
		return r, fmt.Errorf("the logger does not say what it has received: %w", err)
	}
	r.Logs.Known = true
	r.Logs.Received = now - s.before
	if living := r.Logs.Written - r.Logs.Dead; r.Logs.Received < living {
		r.Logs.Lost = living - r.Logs.Received
	}
	return r, nil
}

// Complete reports whether nothing is missing any more, apart from what slow workers lose.
func (r *Report) Complete() bool {
	for _, b := range r.Events {
		if b.Lost > 0 || b.LostDead > 0 {
			return false
		}
	}
	return !r.Logs.Known || r.Logs.Received >= r.Logs.Written
}

// Err returns an error if something is lost that should have arrived.
func (r *Report) Err() error {
	var errs []error
	for _, b := range r.Events {
		if b.Lost > 0 {
			errs = append(errs, fmt.Errorf("%d of %d %s are lost", b.Lost, b.Expected, b.Event))
		}
		if b.Disordered > 0 {
			errs = append(errs, fmt.Errorf("%d %s came twice or out of order", b.Disordered,
				b.Event))
		}
	}
	if r.Logs.Lost > 0 {
		errs = append(errs, fmt.Errorf("at least %d of %d log records are lost", r.Logs.Lost,
			r.Logs.Written))
	}
	return errors.Join(errs...)
}

// Write writes the report as a table.
func (r *Report) Write(w io.Writer) error {
	fmt.Fprintf(w, "%d nodes, %d deaths, %v\n\n", r.Nodes, r.Deaths, r.Took.Round(time.Millisecond))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tsent\texpected\treceived\tlost\tby slow nodes\twith dead nodes\tdisordered\t")
	for _, b := range r.Events {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", b.Event, b.Sent, b.Expected,
			b.Received,
			b.Lost, b.LostSlow, b.LostDead, b.Disordered)
	}
	l := r.Logs
	received, lost, dead := "-", "-", "-"
	if l.Known {
		received, lost = fmt.Sprint(l.Received), fmt.Sprint(l.Lost)
		dead = "0"
		if l.Written > l.Received+l.Lost {
			dead = fmt.Sprint(l.Written - l.Received - l.Lost)
		}
	}
	fmt.Fprintf(t, "log records\t%d\t%d\t%s\t%s\t-\t%s\t-\t\n", l.Written, l.Written, received,
		lost,
		dead)
	return t.Flush()
}
