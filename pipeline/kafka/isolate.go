package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
)

// isolate finds the records that a broker will never take among those that came back for that
// reason. It refuses them and delivers the others. It returns false at any other error; then todo
// has the records that have not ended.
//
// A broker refuses a record batch as a whole. The client then gives back all its records for the
// partition, also those of other flows. So isolate gives the records to a client of their own, and
// halves them until a refused one is alone.
func (g *group) isolate() bool {
	s := g.sink
	client, err := s.newClient()
	if err != nil { // impossible: New has made one with the same configuration
		return false
	}
	defer client.Close()
	stop := context.AfterFunc(s.giveUp, client.Close)
	defer stop()

	all := g.todo
	var suspects []*record
	for _, r := range all {
		if r.err != nil && refusable(r.err) {
			suspects = append(suspects, r)
		}
	}
	if _, said := s.isolated.LoadOrStore(g.flow.topic, true); !said {
		s.log.Warn("Kafka refuses a record batch; its records are sent one by one to find "+
			"the faulty ones, now and for this topic later; "+
			"if it is too large for Kafka, lower MaxBatchBytes to max.message.bytes of the topic",
			"topic", g.flow.topic, "records", len(suspects), "err", suspects[0].err)
	}
	ok := g.divide(client, suspects)
	g.todo = all[:0]
	for _, r := range all {
		if !r.ended {
			g.todo = append(g.todo, r)
		}
	}
	return ok
}

// divide delivers or refuses records. It returns false at the first error that is not about a
// record: later records must not overtake.
func (g *group) divide(client *kgo.Client, records []*record) bool {
	for len(records) > 0 {
		for _, r := range records {
			r.ended = true
		}
		g.todo = append([]*record(nil), records...)
		g.produce(client)
		var back, rest []*record
		for _, r := range g.todo {
			r.ended = false
			if r.err != nil {
				back = append(back, r)
			} else {
				rest = append(rest, r)
			}
		}
		if worst := g.worst(); worst != nil && !refusable(worst) {
			return false
		}
		if len(records) == 1 && len(back) == 1 {
			r := back[0]
			reason, _ := refusal(r.err)
			r.of.refuse(r, reason, r.err)
			r.ended = true
			return true
		}
		half := (len(back) + 1) / 2
		if !g.divide(client, back[:half]) || !g.divide(client, back[half:]) {
			return false
		}
		records = rest
	}
	return true
}
