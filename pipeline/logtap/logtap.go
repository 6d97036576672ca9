// Package logtap gives the records of chosen logs to the subscribers of a Zeek cluster's events:
// [Sink] is a [pipeline.Sink]. It takes part in nothing else. What does not fit its queue, or the
// queue of a subscriber, is missing there, and the nodes and other sinks do not notice.
//
// A record becomes the event zmtpd_log(path: string, record: any) in the topic zeek.logs.PATH, in
// Zeek's format broker-json-v1. The record is a table from names of columns to values with their
// types; columns that are not set are missing in it. The node id is that of the node that logged.
package logtap

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/loglimit"
	"zmtpd/zmtp/memory"
)

const (
	// TopicPrefix stands before the path of a log in the topic of its records.
	TopicPrefix = "zeek.logs."
	// EventName is the name of the events.
	EventName = "zmtpd_log"
)

// Config configures a Sink. Paths and Publish have to be set.
type Config struct {
	// Paths are the paths of the logs to be published.
	Paths []string
	// Publish publishes the messages of a batch, as far as that is possible at once: it must not
	// block. It does not keep the batch.
	Publish func(*zmtp.Batch) error
	// Wanted reports whether somebody may have subscribed a topic. Records of others cost little.
	// Default: always.
	Wanted func(topic []byte) bool
	// Memory is the budget for batches while they are converted. Default: no limit.
	Memory *memory.Budget
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// Stats are the counters of a Sink, in records: all of the chosen logs are in one of them, or
// waiting.
type Stats struct {
	Published uint64 // given to Publish, which counts what subscribers lose
	Unwanted  uint64 // nobody had subscribed them
	Backlog   uint64 // dropped: the sink did not keep up
	Invalid   uint64 // dropped: they are not as their header says, or too large
	Failed    uint64 // dropped: Publish failed
}

// Sink implements [pipeline.Sink].
type Sink struct {
	cfg    Config
	paths  map[string]bool
	limit  *loglimit.Limiter
	holder *memory.Holder
	jobs   chan *pipeline.Entry
	done   chan struct{} // closed when the goroutine has ended

	queued atomic.Int64 // bytes of the entries in jobs

	published, unwanted, backlog, invalid, failed atomic.Uint64
}

var _ pipeline.Sink = (*Sink)(nil)

const (
	// maxQueue bounds the batches that wait, in bytes. It is far below the window of an outlet, so
	// that the outlet is never full because of this sink.
	maxQueue = 8 << 20
	// maxEntries bounds their number.
	maxEntries = 1024
	// decoded is how many times its size a batch takes while it is converted, see
	// zeek.DecodeRecords.
	decoded = 10
	// maxBuilder is the size from which on collected messages are published, in bytes.
	maxBuilder = 64 << 10
)

// New returns a Sink. Close ends it.
func New(cfg Config) *Sink {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sink{cfg: cfg, paths: map[string]bool{}, limit: loglimit.New(1),
		holder: cfg.Memory.NewHolder("published logs", 0, nil),
		jobs:   make(chan *pipeline.Entry, maxEntries), done: make(chan struct{})}
	for _, path := range cfg.Paths {
		s.paths[path] = true
	}
	go s.run()
	return s
}

// Send implements [pipeline.Sink]. It does not block.
func (s *Sink) Send(_ context.Context, e *pipeline.Entry) {
	if !s.paths[string(e.Batch.Path)] {
		e.Done(nil)
		return
	}
	records := uint64(e.Batch.NumRecords)
	if s.cfg.Wanted != nil && !s.cfg.Wanted(topicOf(e.Batch.Path)) {
		s.unwanted.Add(records)
		e.Done(nil)
		return
	}
	size := int64(len(e.Batch.Values))
	if s.queued.Add(size) <= maxQueue {
		select {
		case s.jobs <- e:
			return
		default:
		}
	}
	s.queued.Add(-size)
	s.lose(&s.backlog, records, "the logger makes records faster than it can publish them")
	e.Done(nil)
}

// lose counts records that are not published.
func (s *Sink) lose(counter *atomic.Uint64, records uint64, why string) {
	counter.Add(records)
	if more, ok := s.limit.Admit(why, ""); ok {
		s.cfg.Logger.Warn("log records are not published", "reason", why, "records", records,
			"others", more)
	}
}

// Close implements [pipeline.Sink].
func (s *Sink) Close(context.Context) error {
	close(s.jobs)
	<-s.done // the goroutine waits for nobody
	s.holder.Close()
	return nil
}

// Done returns a channel that is closed when Close has returned, or is about to.
func (s *Sink) Done() <-chan struct{} { return s.done }

// Stats returns a snapshot of the counters.
func (s *Sink) Stats() Stats {
	return Stats{s.published.Load(), s.unwanted.Load(), s.backlog.Load(), s.invalid.Load(),
		s.failed.Load()}
}

func topicOf(path []byte) []byte { return append([]byte(TopicPrefix), path...) }

func (s *Sink) run() {
	defer close(s.done)
	for e := range s.jobs {
		size := int64(len(e.Batch.Values))
		if s.holder.TryReserve(decoded * size) {
			s.publish(e)
			s.holder.Release(decoded * size)
		} else {
			s.lose(&s.backlog, uint64(e.Batch.NumRecords), "the memory is used up")
		}
		s.queued.Add(-size)
		e.Done(nil)
	}
}

// publish publishes the records of a batch.
func (s *Sink) publish(e *pipeline.Entry) {
	schema, err := zeek.ParseSchema(e.Batch.Header)
	var records [][]zeek.Value
	if err == nil {
		records, err = zeek.DecodeRecords(e.Batch, schema)
	}
	if err != nil {
		s.lose(&s.invalid, uint64(e.Batch.NumRecords), err.Error())
		return
	}
	topic, path := topicOf(e.Batch.Path), string(e.Batch.Path)
	var b zmtp.BatchBuilder
	var body, text []byte
	for _, record := range records {
		body, err = event.AppendEvent(body[:0], EventName, []any{path, table(schema, record)})
		if err != nil {
			s.lose(&s.invalid, 1, "a record cannot be an event: "+err.Error())
			continue
		}
		text = event.AppendJSON(text[:0], body)
		b.Add(topic, e.Node, []byte(event.JSONName), text)
		if b.Size() >= maxBuilder {
			s.flush(&b)
		}
	}
	s.flush(&b)
}

// flush publishes what b has.
func (s *Sink) flush(b *zmtp.BatchBuilder) {
	n := uint64(b.Len())
	if n == 0 {
		return
	}
	batch := b.Batch()
	defer batch.Release()
	if err := s.cfg.Publish(batch); err != nil {
		if errors.Is(err, zmtp.ErrClosed) {
			s.failed.Add(n) // the broker ends
		} else {
			s.lose(&s.failed, n, err.Error())
		}
		return
	}
	s.published.Add(n)
}

// table returns a record as a value of an event.
func table(s *zeek.Schema, record []zeek.Value) event.Table {
	all := make(event.Table, 0, len(record))
	for i := range record {
		if v := &record[i]; !v.Unset {
			all = append(all, event.Entry{Key: s.Fields[i].Name, Value: value(v)})
		}
	}
	return all
}

// value returns a value of a log as one of an event.
func value(v *zeek.Value) any {
	if v.Unset {
		return nil // a hole in a vector
	}
	switch v.Type {
	case zeek.TypeBool:
		return v.Num != 0
	case zeek.TypeInt:
		return int64(v.Num)
	case zeek.TypeCount:
		return v.Num
	case zeek.TypeDouble:
		return math.Float64frombits(v.Num)
	case zeek.TypeTime:
		return time.Unix(0, nanoseconds(v.Num))
	case zeek.TypeInterval:
		return time.Duration(nanoseconds(v.Num))
	case zeek.TypeEnum:
		return event.Enum(v.Text)
	case zeek.TypePort:
		return event.Port{Number: uint16(v.Num), Proto: event.Proto(v.Proto)}
	case zeek.TypeAddr:
		return v.Addr
	case zeek.TypeSubnet:
		bits := int(v.Num)
		if v.Addr.Is4() {
			bits -= 96
		}
		return netip.PrefixFrom(v.Addr, bits)
	case zeek.TypeSet, zeek.TypeVector:
		all := make([]any, len(v.Elems))
		for i := range v.Elems {
			all[i] = value(&v.Elems[i])
		}
		if v.Type == zeek.TypeSet {
			return event.Set(all)
		}
		return event.Vector(all)
	}
	return v.Text // string, file, func
}

// nanoseconds converts seconds as Zeek does for events: the product is cut towards zero
// (broker/Data.cc). What an event cannot say becomes its nearest value, NaN becomes 0.
func nanoseconds(bits uint64) int64 {
	ns := math.Float64frombits(bits) * 1e9
	switch {
	case math.IsNaN(ns):
		return 0
	case ns >= math.MaxInt64:
		return math.MaxInt64
	case ns <= math.MinInt64:
		return math.MinInt64
	}
	return int64(ns)
}
