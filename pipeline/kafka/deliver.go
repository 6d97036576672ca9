package kafka

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"zmtpd/pipeline"
)

// record is a record of a group.
type record struct {
	kgo.Record
	of    *delivery
	err   error // why the client gave it back the last time, nil if it was not tried
	ended bool  // acknowledged or refused
}

// group is what a flow delivers together. Its goroutine owns it.
type group struct {
	sink       *Sink
	flow       *flow
	deliveries []*delivery
	slab       []record
	todo       []*record // those that have not ended, in order
	trouble    troubleMark
}

const (
	minBackoff = 250 * time.Millisecond // before records that came back are tried again
	maxBackoff = 5 * time.Second
	// stallAfter is how long a group may take until something is said about it.
	stallAfter = 10 * time.Second
	// keepRecords is up to how many records memory is kept for the next group.
	keepRecords = 1 << 14
)

// deliver returns when every record of the group is acknowledged or refused, or with an error when Close gave up.
func (g *group) deliver() error {
	s := g.sink
	g.slab, g.todo = g.slab[:0], g.todo[:0]
	records := 0
	for _, d := range g.deliveries {
		records += d.entry.Batch.NumRecords
	}
	g.slab = slices.Grow(g.slab, records) // todo points into it
	for _, d := range g.deliveries {
		g.slab = s.appendRecords(g.slab, g.flow, d)
	}
	for i := range g.slab {
		r := &g.slab[i]
		if len(r.Key)+len(r.Value) > s.cfg.MaxBatchBytes {
			r.of.refuse(r, pipeline.ReasonTooLarge, kerr.MessageTooLarge)
			continue
		}
		g.todo = append(g.todo, r)
	}
	defer g.reset()
	defer g.trouble.leave(&s.troubles)
	backoff, probe := min(minBackoff, s.cfg.maxBackoff), false
	for {
		client := s.current()
		n := len(g.todo)
		if probe {
			n = 1
		}
		if g.produce(client, n) {
			return nil
		}
		probe = false
		worst := g.worst()
		if s.giveUp.Err() != nil {
			return errors.Join(errGivenUp, worst)
		}
		switch {
		case worst == nil || errors.Is(worst, kgo.ErrClientClosed): // the probe is there, or the client was replaced
			continue
		case refusable(worst):
			if g.isolate() {
				continue
			}
			worst = g.worst()
		case errors.Is(worst, kerr.UnknownTopicID): // deleted, and perhaps created again
			client.PurgeTopicsFromProducing(g.flow.topic)
		case s.stuck(client, worst):
			s.replace(client)
		}
		g.trouble.enter(&s.troubles, troubleKey(g.flow.topic, worst), worst)
		sleep(s.giveUp, backoff)
		backoff = min(2*backoff, s.cfg.maxBackoff)
		// One record shows whether it has got better. Were all of them sent, the broker might refuse some and take those
		// behind, at the moment when it does.
		probe = true
	}
}

// reset lets go of the memory that records refer to.
func (g *group) reset() {
	if cap(g.slab) > keepRecords {
		g.slab, g.todo = nil, nil
	}
	clear(g.slab)
	clear(g.todo)
}

// worst returns the error that decides on what is done: one that is no reason to refuse records, if there is one; nil if
// all records that are left were not tried.
func (g *group) worst() error {
	var worst error
	for _, r := range g.todo {
		if r.err != nil && (worst == nil || refusable(worst)) {
			worst = r.err
		}
	}
	return worst
}

// produce gives the first n records to a client, waits until it has an answer for all of them, and reports whether none is left. Those that came back
// are left in todo, with those that were not tried. It stops at the first that comes back: what is behind must not overtake.
func (g *group) produce(client *kgo.Client, n int) bool {
	if n == 0 {
		return true
	}
	p := promise{all: make(chan struct{})}
	p.left.Store(int64(n))
	fulfil := p.fulfil
	tried := 0
	for ; tried < n && !p.failed.Load(); tried++ {
		r := g.todo[tried]
		r.Record = kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, Partition: g.flow.place}
		client.Produce(context.Background(), &r.Record, fulfil)
	}
	if tried < n && p.left.Add(-int64(n-tried)) == 0 {
		close(p.all)
	}
	g.wait(&p)
	g.sink.retries.Add(uint64(len(p.errs)))
	return g.leave(&p, tried)
}

// leave leaves in todo the records that came back, and those from number tried on.
func (g *group) leave(p *promise, tried int) bool {
	if len(p.errs) == 0 && tried == len(g.todo) {
		clear(g.todo)
		g.todo = g.todo[:0]
		return true
	}
	left := g.todo[:0]
	for i, r := range g.todo {
		r.err = p.errs[&r.Record]
		if r.err != nil || i >= tried {
			left = append(left, r)
		}
	}
	g.todo = left
	return false
}

// promise collects the answers for records.
type promise struct {
	left   atomic.Int64  // answers to come
	all    chan struct{} // closed when none is
	failed atomic.Bool

	errs map[*kgo.Record]error // of the client's goroutine until all is closed
}

// fulfil is called by the client, by one goroutine at a time.
func (p *promise) fulfil(r *kgo.Record, err error) {
	if err != nil {
		if p.errs == nil {
			p.errs = make(map[*kgo.Record]error)
		}
		p.errs[r] = err
		p.failed.Store(true)
	}
	if p.left.Add(-1) == 0 {
		close(p.all)
	}
}

// wait waits for all answers. If that takes long it is noted: the client does not tell what it tries again itself.
func (g *group) wait(p *promise) {
	s := g.sink
	since := time.Now()
	t := time.NewTicker(s.cfg.stallAfter)
	defer t.Stop()
	for {
		select {
		case <-p.all:
			return
		case <-t.C:
			g.trouble.enter(&s.troubles, clusterTrouble, s.lastConn.stall(since))
		}
	}
}

// refusable reports whether err is the broker's, or the client's, judgement on a record or on the record batch that it was in.
func refusable(err error) bool { _, ok := refusal(err); return ok }

func refusal(err error) (pipeline.Reason, bool) {
	switch {
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return pipeline.ReasonTooLarge, true
	case errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp):
		return pipeline.ReasonRejected, true
	}
	return 0, false
}

// stuck reports whether the client will never produce again because a broker has refused it a producer id, whatever is done about
// the reason: it keeps that error.
func (s *Sink) stuck(client *kgo.Client, err error) bool {
	e, ok := errors.AsType[*kerr.Error](err)
	if !ok || e.Retriable || !s.cfg.idempotent() || ofTopic(err) {
		return false
	}
	ctx, cancel := context.WithTimeout(s.giveUp, time.Second)
	defer cancel()
	_, _, idErr := client.ProducerID(ctx)
	return errors.Is(idErr, e)
}

// ofTopic reports whether err says something about a topic rather than about brokers or client.
func ofTopic(err error) bool {
	for _, e := range []error{kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.InvalidTopicException} {
		if errors.Is(err, e) {
			return true
		}
	}
	return refusable(err)
}

// sleep returns after d or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
