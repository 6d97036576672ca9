package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"zmtpd/pipeline/internal/await"
)

// troubles are the obstacles to delivery: at most one for each topic, and one for the cluster. A
// trouble begins with the first group that meets it and ends when the last one has left it. Both
// are logged. It is safe for concurrent use.
type troubles struct {
	log *slog.Logger

	heard atomic.Bool   // a broker has answered
	first chan struct{} // closed when heard becomes true

	mu    sync.Mutex
	since time.Time           // guarded by mu; start of the time without trouble
	open  map[string]*trouble // guarded by mu; the key is the topic, or clusterTrouble
}

type trouble struct {
	groups int // number of groups in it
	since  time.Time
	err    error // the last error
}

// clusterTrouble stands for the cluster. No topic has this name.
const clusterTrouble = ""

// troubleKey returns the topic that err is about, or clusterTrouble.
func troubleKey(topic string, err error) string {
	if ofTopic(err) {
		return topic
	}
	return clusterTrouble
}

func (t *troubles) init(log *slog.Logger) {
	t.log, t.since, t.open, t.first = log, time.Now(), make(map[string]*trouble),
		make(chan struct{})
}

// troubleMark says which trouble a group is in. The zero troubleMark is none.
type troubleMark struct {
	in  bool
	key string
}

// enter records that the group has met a trouble.
func (m *troubleMark) enter(t *troubles, key string, err error) {
	if m.in && m.key != key {
		m.leave(t)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.open[key]
	if tr == nil {
		tr = &trouble{since: time.Now()}
		t.open[key] = tr
		t.log.Warn("Kafka does not take log records; trying again",
			attrs(key, "err", err)...)
	}
	tr.err = err
	if !m.in {
		tr.groups++
		m.in, m.key = true, key
	}
}

// leave records that the group has left its trouble: its records are delivered or refused.
func (m *troubleMark) leave(t *troubles) {
	if !m.in {
		return
	}
	m.in = false
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.open[m.key]
	if tr.groups--; tr.groups > 0 {
		return
	}
	delete(t.open, m.key)
	if len(t.open) == 0 {
		t.since = time.Now()
	}
	t.log.Info("log records no longer wait for Kafka",
		attrs(m.key, "after", time.Since(tr.since).Round(time.Millisecond))...)
}

func attrs(key string, more ...any) []any {
	if key == clusterTrouble {
		return more
	}
	return append([]any{"topic", key}, more...)
}

// state reports whether there is no trouble, since when, and the oldest trouble.
func (t *troubles) state() (up bool, since time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since = t.since
	if !t.heard.Load() {
		err = errUnheard
	}
	for key, tr := range t.open {
		if err != nil && err != errUnheard && !tr.since.Before(since) {
			continue
		}
		since, err = tr.since, tr.err
		if key != clusterTrouble {
			err = fmt.Errorf("topic %s: %w", key, err)
		}
	}
	return err == nil, since, err
}

// errUnheard is the trouble until a broker has answered.
var errUnheard = errors.New("no broker has answered yet")

// hear records that a broker has answered.
func (t *troubles) hear() {
	if t.heard.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.heard.CompareAndSwap(false, true) {
		t.since = time.Now()
		close(t.first)
	}
}

// greet pings the brokers until one answers, so that their state is known even without records to
// deliver.
func (s *Sink) greet() {
	var m troubleMark
	defer m.leave(&s.troubles)
	backoff := await.Backoff{Min: minBackoff, Max: s.cfg.maxBackoff}
	for !s.troubles.heard.Load() {
		err := s.current().Ping(s.giveUp)
		switch {
		case err == nil:
			s.troubles.hear()
			continue
		case s.giveUp.Err() != nil:
			return
		case !errors.Is(err, kgo.ErrClientClosed): // else it was replaced
			m.enter(&s.troubles, clusterTrouble, err)
		}
		select {
		case <-s.troubles.first:
		case <-s.giveUp.Done():
		case <-time.After(backoff.Next()):
		}
	}
}

// connError is a hook of clients that keeps the last errors of connections. It is safe for
// concurrent use.
type connError struct {
	mu sync.Mutex
	// guarded by mu; preferred to those of requests: a broker that refuses a client breaks requests
	// off
	connect noted
	request noted // guarded by mu
}

type noted struct {
	err error
	at  time.Time
}

var (
	_ kgo.HookBrokerConnect = (*connError)(nil)
	_ kgo.HookBrokerE2E     = (*connError)(nil)
)

// OnBrokerConnect implements a hook of the client.
func (c *connError) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	c.note(&c.connect, err)
}

// OnBrokerE2E implements a hook of the client.
func (c *connError) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e2e kgo.BrokerE2E) {
	c.note(&c.request, e2e.Err())
}

func (c *connError) note(n *noted, err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	*n = noted{err, time.Now()}
}

// stall returns the error for records that have waited since the given time.
func (c *connError) stall(since time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range []noted{c.connect, c.request} {
		if n.err != nil && !n.at.Before(since) {
			return fmt.Errorf("no acknowledgement: %w", n.err)
		}
	}
	return errors.New("no acknowledgement")
}
