package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/text"
	"zmtpd/pipeline/lines"
	"zmtpd/zmtp/memory"
)

// Sink delivers records to Kafka. The package's documentation has its guarantees.
//
// Lock order: Sink.mu is the only lock.
type Sink struct {
	// Not changed after New.
	cfg    Config
	tls    *tls.Config    // nil for none
	sasl   sasl.Mechanism // nil for none
	lines  *lines.Renderer
	topics *topics
	keys   keys
	log    *slog.Logger
	memory *memory.Holder // of the client; nil without a budget

	// Safe for concurrent use.
	rendering *text.Quota // for texts that have no share of quota yet
	quota     *text.Quota // for deliveries
	troubles  troubles
	lastConn  connError
	isolated  sync.Map     // topics for which the isolation of records was logged
	entries   atomic.Int64 // deliveries that are not done
	records   atomic.Uint64
	bytes     atomic.Uint64
	retries   atomic.Uint64

	greeting sync.WaitGroup     // the goroutine of greet
	flowers  sync.WaitGroup     // the goroutines of flows
	giveUp   context.Context    // ends when Close's context does
	cancel   context.CancelFunc // ends giveUp

	mu     sync.Mutex
	client *kgo.Client       // guarded by mu
	flows  map[flowKey]*flow // guarded by mu; only those with deliveries
}

var _ pipeline.Sink = (*Sink)(nil)

// Stats describes a Sink at one moment.
type Stats struct {
	// Up says that a broker has answered and no obstacle to delivery is known, and Since when that
	// began or ended. Err is the obstacle.
	Up    bool
	Since time.Time
	Err   error
	// Records counts acknowledged records, with AcksNone written ones. Bytes is the size of their
	// values.
	Records, Bytes uint64
	// Retries counts the records that the sink gave to the client once more. Retries of the client
	// itself do not count.
	Retries uint64
	// Buffered is the part of Config.MaxBuffered that is in use, in bytes.
	Buffered int64
}

// New returns a Sink. It reads the files of cfg.TLS. It does not wait for a broker, and succeeds
// even if all brokers are down: Stats.Up is false until one has answered.
func New(cfg Config) (*Sink, error) {
	s, err := newSink(cfg)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return s, nil
}

func newSink(cfg Config) (*Sink, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Sink{
		cfg:   cfg,
		keys:  newKeys(cfg.Key),
		log:   cfg.Logger,
		flows: make(map[flowKey]*flow),
	}
	s.troubles.init(cfg.Logger)
	if s.topics, err = newTopics(cfg.Topic); err != nil {
		return nil, &pipeline.ConfigError{Field: "Topic", Err: err}
	}
	if s.lines, err = lines.New(*cfg.Format, !s.topics.perPath); err != nil {
		return nil, err
	}
	if cfg.TLS != nil {
		if s.tls, err = cfg.TLS.config(); err != nil {
			return nil, err
		}
	}
	if cfg.SASL != nil {
		if s.sasl, err = cfg.SASL.mechanism(); err != nil {
			return nil, err
		}
	}
	if s.client, err = s.newClient(); err != nil {
		return nil, err
	}
	if cfg.SASL != nil && cfg.SASL.Mechanism == Plain && cfg.TLS == nil {
		s.log.Warn("the password is sent to Kafka in clear text: turn TLS on, or use SCRAM")
	}
	const kind = "kafka"
	s.rendering = text.NewQuota(cfg.Memory, kind, maxRendering*s.room(), minRendering*s.room())
	s.quota = text.NewQuota(cfg.Memory, kind, cfg.MaxBuffered, leastBuffered)
	s.memory = cfg.Memory.NewHolder(kind, cfg.clientBytes(), nil)
	s.giveUp, s.cancel = context.WithCancel(context.Background())
	s.greeting.Go(s.greet)
	return s, nil
}

// newClient returns a client. It connects at its first use.
func (s *Sink) newClient() (*kgo.Client, error) {
	return kgo.NewClient(append(s.cfg.clientOptions(s.tls, s.sasl), kgo.WithHooks(&s.lastConn))...)
}

// Stats describes the Sink at this moment.
func (s *Sink) Stats() Stats {
	st := Stats{
		Records:  s.records.Load(),
		Bytes:    s.bytes.Load(),
		Retries:  s.retries.Load(),
		Buffered: s.quota.Used(),
	}
	st.Up, st.Since, st.Err = s.troubles.state()
	return st
}

// Send implements pipeline.Sink. It returns when the records of e wait to be sent, or, for a long
// text, when e is done.
func (s *Sink) Send(ctx context.Context, e *pipeline.Entry) {
	b := e.Batch
	topic, drop := s.topics.of(b.Path)
	if drop != nil {
		refuse(e, drop)
		return
	}
	if !s.rendering.Acquire(ctx, ctx, s.room()) {
		e.Done(fmt.Errorf("kafka: %w", ctx.Err()))
		return
	}
	defer s.rendering.Release(s.room())
	d := &delivery{text: text.Get(), records: b.NumRecords, time: time.Now()}
	var err error
	*d.text, err = s.lines.Render(*d.text, b,
		func(piece []byte) ([]byte, error) { return piece[:0], errLong })
	drop, dropped := errors.AsType[*pipeline.DropError](err)
	switch {
	case dropped, b.NumRecords == 0:
		text.Put(d.text)
		refuse(e, drop)
		return
	case err != nil: // errLong: the batch has no fault
		text.Put(d.text)
		s.sendLong(ctx, topic, e)
		return
	}
	d.text = text.Fit(d.text)
	d.done = func(err error) {
		if err == nil { // else the whole entry comes again
			for _, r := range d.refused {
				e.Refuse(r.Records, r.Why)
			}
		}
		e.Done(err)
	}
	if err := s.enqueue(ctx, topic, e, d); err != nil {
		e.Done(err)
	}
}

// refuse ends an entry that has no records, or none that can be delivered.
func refuse(e *pipeline.Entry, why *pipeline.DropError) {
	if why != nil {
		e.Refuse(uint64(e.Batch.NumRecords), why)
	}
	e.Done(nil)
}

// Close implements pipeline.Sink.
func (s *Sink) Close(ctx context.Context) error {
	idle := make(chan struct{})
	go func() {
		s.flowers.Wait()
		close(idle)
	}()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		if left := s.entries.Load(); left > 0 {
			err = fmt.Errorf("kafka: %d batches are not delivered: %w", left, ctx.Err())
		}
	}
	s.cancel()
	s.current().Close() // fails all records that it has
	<-idle
	s.greeting.Wait()
	s.rendering.Close()
	s.quota.Close()
	s.memory.Close()
	return err
}

// current returns the client.
func (s *Sink) current() *kgo.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// replace replaces a client that cannot recover by a new one. The records of other flows fail in
// the old one, and go to the new one.
func (s *Sink) replace(old *kgo.Client) {
	s.mu.Lock()
	if s.client != old || s.giveUp.Err() != nil {
		s.mu.Unlock()
		return
	}
	client, err := s.newClient()
	if err == nil { // impossible to fail: New has made one with the same configuration
		s.client = client
	}
	s.mu.Unlock()
	if err == nil {
		old.Close()
	}
}

const (
	// recordCost is the memory of a record beside its text, in bytes: a record of this package, and
	// the client's data.
	recordCost = 256
	// leastBuffered is the part of Config.MaxBuffered that does not depend on the memory budget.
	leastBuffered = 8 << 20
	// maxRendering is the largest number of texts that are rendered, or wait for their share of
	// Config.MaxBuffered, at a time. minRendering of them do not depend on the memory budget.
	maxRendering, minRendering = 16, 2
)

// room returns the memory for rendering one text, in bytes: a piece, and a line that began in
// earlier pieces.
func (s *Sink) room() int64 { return int64(text.PieceBytes + s.cfg.MaxBatchBytes) }

// delivery is the text of an entry, or a part of it, on its way to Kafka.
type delivery struct {
	text    *[]byte // lines
	records int     // number of lines
	time    time.Time
	cost    int64           // share of the quota, in bytes
	done    func(err error) // called at the end

	refused []pipeline.Refusal // one for each reason
	bytes   uint64             // size of the values that were not refused
}

// appendRecords appends a record for each line.
func (s *Sink) appendRecords(dst []record, f *flow, d *delivery) []record {
	for line := range bytes.Lines(*d.text) {
		value := line[:len(line)-1]
		dst = append(dst, record{of: d, Record: kgo.Record{
			Topic: f.topic, Key: s.keys.of(f, value), Value: value, Timestamp: d.time}})
		d.bytes += uint64(len(value))
	}
	return dst
}

// done ends a delivery, and releases its memory.
func (s *Sink) done(d *delivery, err error) {
	text.Put(d.text)
	s.quota.Release(d.cost)
	s.entries.Add(-1)
	if err == nil {
		records := uint64(d.records)
		for _, r := range d.refused {
			records -= r.Records
		}
		s.records.Add(records)
		s.bytes.Add(d.bytes)
		if records > 0 && s.cfg.Acks != AcksNone {
			s.troubles.hear()
		}
	}
	d.done(err)
}

// refuse records that a record can never be delivered.
func (d *delivery) refuse(r *record, reason pipeline.Reason, err error) {
	d.bytes -= uint64(len(r.Value))
	d.refused = addRefusal(d.refused,
		pipeline.Refusal{Records: 1, Why: &pipeline.DropError{Reason: reason,
			Err: fmt.Errorf("record of %d bytes for topic %s: %w", len(r.Key)+len(r.Value), r.Topic,
				err)}})
}

// addRefusal adds r to all, which has one Refusal for each reason.
func addRefusal(all []pipeline.Refusal, r pipeline.Refusal) []pipeline.Refusal {
	for i := range all {
		if all[i].Why.Reason == r.Why.Reason {
			all[i].Records += r.Records
			return all
		}
	}
	return append(all, r)
}
