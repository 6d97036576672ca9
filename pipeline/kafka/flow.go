package kafka

import (
	"context"
	"fmt"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/text"
)

// flowKey identifies a flow. Records of a flow stay in order.
type flowKey struct{ node, path string }

// flow holds the deliveries of one node and log path. It exists only while there are any. Its
// goroutine delivers one group after the other.
type flow struct {
	key   flowKey
	topic string
	place uint32
	// of key, for the keys of records
	node, path []byte

	queue []*delivery // guarded by Sink.mu
}

// maxGroup is the largest text of a group in bytes. Only a group of one entry may exceed it.
const maxGroup = 1 << 20

// enqueue waits for d's share of memory and appends d to the flow of e. It calls d.done, now or
// later, unless it returns an error.
func (s *Sink) enqueue(ctx context.Context, topic string, e *pipeline.Entry, d *delivery) error {
	// The client's request contains the text again.
	d.cost = 2*int64(cap(*d.text)) + int64(d.records)*recordCost
	if !s.quota.Acquire(ctx, ctx, d.cost) {
		text.Put(d.text)
		return fmt.Errorf("kafka: %w", ctx.Err())
	}
	s.entries.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flows[flowKey{string(e.Node), string(e.Batch.Path)}]
	if f == nil {
		f = &flow{key: flowKey{string(e.Node), string(e.Batch.Path)}, topic: topic}
		f.place = f.key.place()
		f.node, f.path = []byte(f.key.node), []byte(f.key.path)
		s.flows[f.key] = f
		s.flowers.Go(func() { s.runFlow(f) })
	}
	f.queue = append(f.queue, d)
	return nil
}

// runFlow delivers the queue until it is empty.
func (s *Sink) runFlow(f *flow) {
	g := group{sink: s, flow: f}
	for {
		g.deliveries = s.take(f, g.deliveries[:0])
		if len(g.deliveries) == 0 {
			return
		}
		err := g.deliver()
		if err != nil {
			err = fmt.Errorf("kafka: topic %s: %w", f.topic, err)
		}
		for _, d := range g.deliveries {
			s.done(d, err)
		}
		clear(g.deliveries)
	}
}

// take moves the next group from the queue to dst. If there is none, the flow ends.
func (s *Sink) take(f *flow, dst []*delivery) []*delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(f.queue) && (n == 0 || size+len(*f.queue[n].text) <= maxGroup) {
		size += len(*f.queue[n].text)
		n++
	}
	dst = append(dst, f.queue[:n]...)
	clear(f.queue[:n])
	if f.queue = f.queue[n:]; len(f.queue) == 0 {
		f.queue = nil
	}
	if n == 0 {
		delete(s.flows, f.key)
	}
	return dst
}
