package simulation

import (
	"maps"
	"sync"
)

// kind is a stream of events of the cluster.
type kind int

const (
	findings   kind = iota // from workers to the manager
	hosts                  // from workers to the proxy to which a host belongs
	indicators             // from the manager to all workers
	numKinds
)

// names are the names of the events of each kind.
var names = [numKinds]string{"Simulation::finding", "Simulation::host", "Simulation::indicator"}

// stream is what one process of a node sends to one other node, or to all workers: events with the
// numbers 1, 2, 3 and so on.
type stream struct {
	kind kind
	from string // process of the sender
	to   string // name of the receiver, empty for all workers
}

// book has how much was sent in each stream.
type book struct {
	mu   sync.Mutex
	sent map[stream]uint64
	dead map[string]bool // processes that died: what they had not yet sent is lost with them
}

func newBook() *book {
	return &book{sent: make(map[stream]uint64), dead: make(map[string]bool)}
}

// next returns the number of the next event in s. The caller calls taken once it is sent.
func (b *book) next(s stream) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent[s] + 1
}

// taken notes that an event was sent.
func (b *book) taken(s stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent[s]++
}

// died notes that a process has died.
func (b *book) died(process string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead[process] = true
}

// soFar returns how much was sent in each stream so far.
func (b *book) soFar() map[stream]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.sent)
}

// isDead reports whether a process has died.
func (b *book) isDead(process string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dead[process]
}

// arrivals are the events that one process of a node has received, by stream.
type arrivals struct {
	slow bool
	mu   sync.Mutex
	base map[stream]uint64 // sent before the process was ready
	died bool              // what was sent later is not for it
	of   map[stream]*arrival
}

// arrival is what came of one stream.
type arrival struct {
	first, last, count uint64
	disordered         uint64 // came again, or behind a later one
}

// got notes the event number n of s.
func (a *arrivals) got(s stream, n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.of[s]
	if r == nil {
		r = &arrival{first: n}
		a.of[s] = r
	}
	if n <= r.last {
		r.disordered++
		return
	}
	r.last = n
	r.count++
}

// ready notes what was sent before the process was ready: it need not have received that.
func (a *arrivals) ready(sent map[stream]uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.base = sent
}

// end notes that the process has died.
func (a *arrivals) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.died = true
}

// expects reports whether the process of a node with a name is a receiver of s.
func (s stream) expects(name string, worker bool) bool {
	if s.kind == indicators {
		return worker
	}
	return s.to == name
}

// Balance says what became of the events of one kind. Each receiver counts: an event for eight
// workers is expected eight times.
type Balance struct {
	Event      string // its name
	Sent       uint64 // published
	Expected   uint64 // by all receivers together
	Received   uint64
	Lost       uint64 // expected and not received, for none of the reasons below
	LostSlow   uint64 // by slow workers
	LostDead   uint64 // sent by a worker that died before all of it was on its way
	Disordered uint64 // received twice, or behind a later one of the same sender
}

// balance adds up what the processes of a node with a name have received of what b has sent.
func (b *book) balance(all *[numKinds]Balance, name string, worker bool, a *arrivals) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	for s, sent := range b.sent {
		if !s.expects(name, worker) {
			continue
		}
		r := a.of[s]
		if r == nil {
			r = new(arrival)
		}
		k := &all[s.kind]
		k.Received += r.count
		k.Disordered += r.disordered
		// What was sent before the process was ready, or after it died, is not for it.
		from, to := a.base[s]+1, sent
		if r.first > 0 {
			from = min(from, r.first)
		}
		if a.died {
			to = r.last
		}
		if to < from {
			continue
		}
		expected := to - from + 1
		k.Expected += expected
		lost := expected - r.count
		switch {
		case a.slow:
			k.LostSlow += lost
		case b.dead[s.from]:
			tail := min(lost, sent-r.last)
			k.LostDead += tail
			k.Lost += lost - tail
		default:
			k.Lost += lost
		}
	}
}
