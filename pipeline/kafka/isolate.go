package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
)

// isolate finds the records that a broker will never take among those that came back for that reason, refuses them
// and delivers the others. It returns false if something else got in the way; what has not ended stays in todo.
//
// A broker refuses a record batch as a whole, and the client then gives back everything it has for the partition, that of other flows too. So the
// records are given to a client of their own, by halves, until one that is refused was alone.
func (g *group) isolate() bool {
	s := g.sink
	client, err := kgo.NewClient(s.options...)
	if err != nil { // the options are those of a client that there is
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
	s.log.Warn("Kafka refuses record batches, their records are sent by themselves to find those at fault; if it says too large, MaxBatchBytes is to be lowered to max.message.bytes of the topic",
		"topic", g.flow.topic, "records", len(suspects), "err", suspects[0].err)
	ok := g.divide(client, suspects)
	g.todo = all[:0]
	for _, r := range all {
		if !r.ended {
			g.todo = append(g.todo, r)
		}
	}
	return ok
}

// divide delivers or refuses records. It returns false at the first error that says nothing about a record: what is behind must not
// overtake.
func (g *group) divide(client *kgo.Client, records []*record) bool {
	if len(records) == 0 {
		return true
	}
	g.todo = append([]*record(nil), records...)
	g.produce(client, len(g.todo))
	for _, r := range records {
		r.ended = true
	}
	for _, r := range g.todo {
		r.ended = false
	}
	left := g.todo
	if err := g.worst(); err != nil && !refusable(err) {
		return false
	}
	if r := records[0]; len(records) == 1 && len(left) == 1 && r.err != nil {
		reason, _ := refusal(r.err)
		r.of.refuse(r, reason, r.err)
		r.ended = true
		return true
	}
	half := (len(left) + 1) / 2
	return g.divide(client, left[:half]) && g.divide(client, left[half:])
}
