package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/forwarder/cluster"
)

const manager = "manager"

// processName names the process number n of a node.
func processName(name string, n int) string { return fmt.Sprintf("%s/%d", name, n) }

// Progress are the counts of a running simulation.
type Progress struct {
	Up      int // processes that have joined and not ended
	Sent    uint64
	Arrived uint64 // events, by all receivers together but the slow ones
	Records uint64 // written to logs
	Deaths  uint64
}

// simulation is a cluster whose nodes run in this process.
type simulation struct {
	cfg    Config
	layout *cluster.Layout
	book   *book
	client *http.Client
	before uint64 // records that the logger had received before

	sent, arrived, deaths atomic.Uint64

	mu   sync.Mutex
	all  []*node // every process that has ever joined
	live map[*node]struct{}
}

// Run simulates a cluster until ctx ends, then waits until everything has arrived. It returns an
// error if the nodes do not come up, or cannot send. show is called with a function that returns
// the progress, and returns one that ends the display.
func Run(ctx context.Context, cfg Config, show func(func() Progress) (stop func())) (*Report,
	error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &simulation{cfg: cfg, book: newBook(), live: make(map[*node]struct{}),
		layout: &cluster.Layout{Nodes: map[string]cluster.NodeType{manager: cluster.Manager}},
		client: &http.Client{Transport: new(http.Transport)}}
	defer s.client.CloseIdleConnections()
	defer s.end()
	for i := range cfg.Proxies {
		s.layout.Nodes[fmt.Sprintf("proxy-%d", i+1)] = cluster.Proxy
	}
	for i := range cfg.Workers {
		s.layout.Nodes[workerName(i)] = cluster.Worker
	}
	if cfg.Status != "" {
		var err error
		if s.before, err = s.firstRecords(ctx); err != nil {
			return nil, fmt.Errorf("the logger does not say what it has received: %w", err)
		}
	}
	began := time.Now()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	hide := show(s.progress)
	err := s.run(ctx)
	took := time.Since(began)
	if err == nil {
		err = s.settle()
	}
	hide()
	if err != nil {
		return nil, err
	}
	return s.report(took)
}

func workerName(i int) string { return fmt.Sprintf("worker-%d", i+1) }

// start starts all nodes and waits until each of them sees all others.
func (s *simulation) start(ctx context.Context) error {
	for name := range s.layout.Nodes {
		slow := false
		for i := range s.cfg.Slow {
			slow = slow || name == workerName(s.cfg.Workers-1-i)
		}
		if _, err := s.join(name, 1, slow); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTime,
		fmt.Errorf("not all nodes came up within %v: is the broker reachable, and is it used by "+
			"another cluster?", startTime))
	defer cancel()
	for _, v := range s.all {
		if err := s.up(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// up waits until v sees all other nodes.
func (s *simulation) up(ctx context.Context, v *node) error {
	if err := v.Ready(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(v.Peers()) < len(s.layout.Nodes)-1 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// joined notes a process that has started.
func (s *simulation) joined(v *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, v)
	s.live[v] = struct{}{}
}

// left notes that v has ended.
func (s *simulation) left(v *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, v)
}

// processes returns every process that has ever joined.
func (s *simulation) processes() []*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// run lets the nodes work until ctx ends.
func (s *simulation) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	failed := func(err error) {
		if err != nil && ctx.Err() == nil {
			cancel(&failure{err})
		}
	}
	for _, v := range s.processes() {
		if v.name == manager || v.worker && !slices.Contains(s.dying(), v.name) {
			wg.Go(func() { failed(s.work(ctx, v)) })
		}
	}
	for turn, name := range s.dying() {
		i := slices.IndexFunc(s.all, func(v *node) bool { return v.name == name })
		v := s.all[i]
		wg.Go(func() { failed(s.lives(ctx, v, turn)) })
	}
	wg.Wait()
	if f, ok := errors.AsType[*failure](context.Cause(ctx)); ok {
		return f.error
	}
	return nil
}

// failure is the end of a simulation by an error.
type failure struct{ error }

// dying returns the names of the workers that die. The slow ones are at the other end.
func (s *simulation) dying() (names []string) {
	for i := range s.cfg.Dying {
		names = append(names, workerName(i))
	}
	return names
}

// lives lets a worker die and come back until ctx ends. turn is its turn among those that die.
func (s *simulation) lives(ctx context.Context, v *node, turn int) error {
	life := lifetime * time.Duration(1+turn)
	for n := 2; ; n++ {
		working, stop := context.WithTimeout(ctx, life)
		err := s.work(working, v)
		stop()
		if err != nil || ctx.Err() != nil {
			return err
		}
		v.die()
		s.left(v)
		s.deaths.Add(1)
		life = lifetime * time.Duration(s.cfg.Dying)
		if v, err = s.join(v.name, n, false); err != nil {
			return err
		}
		limited, cancel := context.WithTimeoutCause(ctx, startTime,
			fmt.Errorf("%s did not come back within %v", v.name, startTime))
		err = s.up(limited, v)
		cancel()
		// The simulation may end before the process is up. It need not have received then what was
		// sent so far, although it may have received the latest of it.
		v.got.ready(s.book.soFar())
		if err != nil {
			v.got.end()
			return err
		}
	}
}

// work lets v send its share of events and log records until ctx ends.
func (s *simulation) work(ctx context.Context, v *node) error {
	// An indicator goes to all workers; so a tenth of the events is enough for the manager.
	events := s.cfg.Events / 10
	logs := 0.0
	if v.worker {
		events = s.cfg.Events * 9 / 10 / float64(s.cfg.Workers)
		logs = s.cfg.Logs / float64(s.cfg.Workers)
	}
	// What was begun is finished, so that the books say what happened.
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	var owedEvents, owedLogs float64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		passed := min(now.Sub(last), time.Second).Seconds() // nobody makes up for a long pause
		last = now
		for owedEvents += events * passed; owedEvents >= 1; owedEvents-- {
			if err := v.event(whole); err != nil {
				return fmt.Errorf("%s cannot publish: %w", v.name, err)
			}
		}
		for owedLogs += logs * passed; owedLogs >= 1; owedLogs-- {
			if err := v.logs.write(whole, v.traffic, now); err != nil {
				return fmt.Errorf("%s cannot log: %w", v.name, err)
			}
		}
	}
}

// settle sends what waits, and returns when everything has arrived, or nothing more arrives.
func (s *simulation) settle() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	for v := range s.live {
		if v.logs == nil {
			continue
		}
		if err := v.logs.close(ctx); err != nil {
			return fmt.Errorf("the logs of %s did not reach the logger: %w", v.name, err)
		}
	}
	tick := time.NewTicker(100 * time.Millisecond) // each time the logger is asked
	defer tick.Stop()
	last, quiet := s.arrived.Load(), time.Now()
	for time.Since(quiet) < calm {
		r, err := s.report(0)
		if err == nil && r.Complete() {
			return nil
		}
		<-tick.C
		now := s.arrived.Load()
		if r != nil {
			now += r.Logs.Received
		}
		if now != last {
			last, quiet = now, time.Now()
		}
	}
	return nil
}

// end ends all nodes.
func (s *simulation) end() {
	ctx, cancel := context.WithTimeout(context.Background(), calm)
	defer cancel()
	var wg sync.WaitGroup
	for v := range s.live {
		wg.Go(func() {
			v.Shutdown(ctx)
			if v.logs != nil {
				v.logs.kill()
			}
		})
	}
	wg.Wait()
}

func (s *simulation) progress() Progress {
	p := Progress{Sent: s.sent.Load(), Arrived: s.arrived.Load(), Deaths: s.deaths.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Up = len(s.live)
	for _, v := range s.all {
		if v.logs != nil {
			p.Records += v.logs.written()
		}
	}
	return p
}
