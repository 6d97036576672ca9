package cluster

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"zmtpd/capture"
)

// Named are counts with their name.
type Named struct {
	Name string
	Counts
}

// SessionSummary is what became of a session.
type SessionSummary struct {
	capture.Session
	Node string // id of the node that is the client, if it is one
	// Messages that each side sent.
	ClientSent, ServerSent Counts
	Closed                 capture.CloseReason
	Err                    error
	Lost                   uint64 // messages of the broker that did not come out to it
}

// BrokerSummary is what is known of a broker of which both sides are in the capture.
type BrokerSummary struct {
	Address  string
	In, Out  uint64 // events
	Unknown  uint64 // events that came out and were not seen on their way in
	Lost     uint64 // events that a subscriber should have got, for each of them
	P50, P99 time.Duration
	Max      time.Duration
}

// Summary is what an Analyzer has found.
type Summary struct {
	First, Last   time.Time
	Sessions      []SessionSummary // in the order in which they began
	Skipped       uint64           // sessions that are not in Sessions
	Nodes, Topics []Named
	Events, Logs  []Named // by most messages
	Membership    []Membership
	Brokers       []BrokerSummary
	Malformed     uint64
}

// Summary returns what was found so far.
func (a *Analyzer) Summary() Summary {
	lost := map[uint64]uint64{}
	sum := Summary{First: a.first, Last: a.last, Skipped: a.skipped, Malformed: a.malformed,
		Nodes: a.nodes.list(), Topics: a.topics.list(), Events: a.events.list(),
		Logs:       a.logs.list(),
		Membership: slices.Clone(a.membership), Sessions: slices.Clone(a.ended)}
	for _, address := range slices.Sorted(maps.Keys(a.brokers)) {
		b := a.brokers[address]
		if b.in+b.out == 0 {
			continue // only subscriptions
		}
		b.expire(a.last.Add(-a.opts.MaxLatency))
		sorted := slices.Clone(b.samples)
		slices.Sort(sorted)
		sum.Brokers = append(sum.Brokers, BrokerSummary{Address: address, In: b.in, Out: b.out,
			Unknown: b.early, Lost: b.total, Max: b.max, P50: quantile(sorted, 0.5),
			P99: quantile(sorted, 0.99)})
		maps.Copy(lost, b.lost)
	}
	for _, s := range a.sessions {
		sum.Sessions = append(sum.Sessions, a.summarize(s, nil))
	}
	slices.SortFunc(sum.Sessions, func(x, y SessionSummary) int { return cmp.Compare(x.ID, y.ID) })
	for i := range sum.Sessions {
		sum.Sessions[i].Lost = lost[sum.Sessions[i].ID]
	}
	for i := range sum.Membership {
		m := &sum.Membership[i]
		m.Node = a.Name(m.observer)
		if m.Of == "" {
			m.Of = a.Name(m.OfID)
		}
	}
	return sum
}

// list returns the counts, those with most messages first.
func (n names) list() []Named {
	list := make([]Named, 0, len(n))
	for name, c := range n {
		list = append(list, Named{name, *c})
	}
	slices.SortFunc(list, func(a, b Named) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
	return list
}
