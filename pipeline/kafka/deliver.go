package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/await"
)

// record is a record of a group.
type record struct {
	kgo.Record
	of    *delivery
	err   error // the client's last error for it, nil if it was not tried
	ended bool  // acknowledged or refused
}

// group is a part of a flow that is delivered together. The flow's goroutine owns it.
type group struct {
	sink       *Sink
	flow       *flow
	deliveries []*delivery
	slab       []record
	todo       []*record // records that have not ended, in order
	trouble    troubleMark
}

const (
	minBackoff = 250 * time.Millisecond // before records that came back are retried
	maxBackoff = 5 * time.Second
	// stallAfter is the time after which a group that is not delivered is logged.
	stallAfter = 10 * time.Second
	// keepRecords is the largest number of records whose memory is reused for the next group.
	keepRecords = 1 << 14
)

// deliver returns when every record of the group is acknowledged or refused, or with an error when
// Close gives up.
func (g *group) deliver() error {
	s := g.sink
	g.slab, g.todo = g.slab[:0], g.todo[:0]
	records := 0
	for _, d := range g.deliveries {
		records += d.records
	}
	g.slab = slices.Grow(g.slab, records) // todo points into slab
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
	backoff := await.Backoff{Min: minBackoff, Max: s.cfg.maxBackoff}
	for {
		client := s.current()
		if g.produce(client) {
			return nil
		}
		worst := g.worst()
		if s.giveUp.Err() != nil {
			return givenUp(worst)
		}
		switch {
		case worst == nil || errors.Is(worst, kgo.ErrClientClosed):
			continue // no record has failed, or the client was replaced
		case refusable(worst):
			if g.isolate() {
				continue
			}
			worst = g.worst()
		case errors.Is(worst, kerr.UnknownTopicID): // the topic was deleted
			client.PurgeTopicsFromProducing(g.flow.topic)
		case s.stuck(client, worst):
			s.replace(client)
		}
		g.trouble.enter(&s.troubles, troubleKey(g.flow.topic, worst), worst)
		backoff.Sleep(s.giveUp, s.giveUp)
	}
}

// givenUp returns the error of a group that was not delivered when Close gave up.
func givenUp(last error) error {
	if last == nil || errors.Is(last, kgo.ErrClientClosed) {
		return errors.New("not delivered before the sink was closed")
	}
	return fmt.Errorf("not delivered before the sink was closed: %w", last)
}

// reset drops the records' references to memory.
func (g *group) reset() {
	if cap(g.slab) > keepRecords {
		g.slab, g.todo = nil, nil
	}
	clear(g.slab)
	clear(g.todo)
}

// worst returns the error that determines the next step. An error that does not refuse records
// comes first. It returns nil if none of the remaining records was tried.
func (g *group) worst() error {
	var worst error
	for _, r := range g.todo {
		if r.err != nil && (worst == nil || refusable(worst)) {
			worst = r.err
		}
	}
	return worst
}

// produce gives records to a client, as many as may be in flight together, and waits for the
// outcome of all of them. It reports whether no record is left. Records that came back or were not
// tried stay in todo.
func (g *group) produce(client *kgo.Client) bool {
	if len(g.todo) == 0 {
		return true
	}
	h := newHandover(len(g.todo), g.flow.place)
	fulfil := h.fulfil
	tried := 0
	for ; tried < len(g.todo) && !h.stop.Load(); tried++ {
		r := g.todo[tried]
		r.Record = kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp,
			Context: h}
		client.Produce(h, &r.Record, fulfil)
	}
	if tried < len(g.todo) {
		h.answered(len(g.todo) - tried)
	}
	g.wait(h)

	left := g.todo[:0]
	for i, r := range g.todo {
		err, back := h.errs[&r.Record]
		if r.err = err; err != nil {
			g.sink.retries.Add(1)
		}
		if back || i >= tried {
			left = append(left, r)
		}
	}
	clear(g.todo[len(left):])
	g.todo = left
	return len(left) == 0
}

// wait waits for all outcomes. It reports a long wait as a trouble, since the client does not say
// what it retries.
func (g *group) wait(h *handover) {
	s := g.sink
	since := time.Now()
	t := time.NewTicker(s.cfg.stallAfter)
	defer t.Stop()
	for {
		select {
		case <-h.all:
			return
		case <-t.C:
			g.trouble.enter(&s.troubles, clusterTrouble, s.lastConn.stall(since))
		}
	}
}

// refusable reports whether err, of the broker or the client, is about the content of a record or
// of its record batch.
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

// stuck reports whether the client can never produce again: it keeps the error with which a broker
// has refused it a producer id, even when the cause is gone.
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

// ofTopic reports whether err is about a topic rather than about brokers or the client.
func ofTopic(err error) bool {
	for _, e := range []error{kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition,
		kerr.UnknownTopicID, kerr.InvalidTopicException} {
		if errors.Is(err, e) {
			return true
		}
	}
	return refusable(err)
}
