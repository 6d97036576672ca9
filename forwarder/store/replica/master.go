package replica

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"zmtpd/forwarder/cluster"
	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// MasterConfig configures a [Master].
type MasterConfig struct {
	Store *store.Store
	Bus   Bus
	Who   string // names this process to people, as in host:pid
	// Refused is called once, by a goroutine of its own, if another process is the master of the
	// name. The Master serves nothing any more.
	Refused func(error)
	Logger  *slog.Logger // default: nothing is logged
}

// Master publishes the changes of a store and answers requests.
type Master struct {
	cfg     MasterConfig
	name    string
	started time.Time
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	refused   bool
	answers   map[string]*reply   // of the last requests, by topic and id
	order     []string            // of answers, the oldest first
	snapshots map[string]bool     // topics to which one is being sent
	clones    map[string]follower // by topic; also some that have ended
	underWay  int                 // requests
	asked     uint64
	synced    uint64
}

const (
	maxAnswers   = 4096
	maxSnapshots = 8
	maxWho       = 256  // bytes of an author that a clone names
	maxRequests  = 256  // under way; more are left out, and are asked again
	maxKept      = 4096 // bytes of a value in answers; a larger one is not sent again
)

type reply struct {
	done  chan struct{}
	code  store.Code
	met   bool
	value event.Raw
	text  string
}

// MasterStats are the counters of a Master.
type MasterStats struct {
	Requests  uint64 // of clones and scripts
	Syncs     uint64 // answers to clones that lack something
	Snapshots int    // under way
	Clones    int    // that were heard of within 5 s
	Behind    uint64 // the most changes that one of them lacks
}

// NewMaster publishes a store. The caller must call Close, before it ends the bus and the store.
func NewMaster(cfg MasterConfig) (*Master, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Master{cfg: cfg, name: cfg.Store.Name(), started: time.Now().Round(0),
		answers: map[string]*reply{}, snapshots: map[string]bool{},
		clones: map[string]follower{}}
	m.ctx, m.stop = context.WithCancel(context.Background())
	cfg.Bus.HandleAll(m.handle)
	for _, topic := range []string{MasterTopic(m.name), ClonesTopic(m.name)} {
		if err := cfg.Bus.Subscribe(topic); err != nil {
			return nil, err
		}
	}
	m.running.Go(m.signs)
	m.running.Go(m.changes)
	return m, nil
}

// Close ends the Master.
func (m *Master) Close() {
	m.stop()
	m.running.Wait()
}

// Stats returns a snapshot of the counters.
func (m *Master) Stats() MasterStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := MasterStats{Requests: m.asked, Syncs: m.synced, Snapshots: len(m.snapshots)}
	st.Clones, st.Behind = m.count()
	return st
}

func (m *Master) publish(topic, name string, args ...any) {
	ctx, cancel := context.WithTimeout(m.ctx, publishWait)
	defer cancel()
	if err := m.cfg.Bus.Publish(ctx, topic, name, args...); err != nil && m.ctx.Err() == nil {
		m.cfg.Logger.Warn("an event of a store was not published", "store", m.name, "event", name,
			"topic", topic, "err", err)
	}
}

// signs publishes a sign of life each second, and claims with the first ones.
func (m *Master) signs() {
	ticker := time.NewTicker(aliveInterval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if m.isRefused() {
			return
		}
		if time.Duration(n)*aliveInterval < claimWait {
			m.publish(MasterTopic(m.name), "zmtpd_store_claim", m.cfg.Store.Epoch(), m.started,
				m.cfg.Who)
		}
		m.alive()
		select {
		case <-ticker.C:
		case <-m.ctx.Done():
			return
		}
	}
}

func (m *Master) alive() {
	m.publish(ClonesTopic(m.name), "zmtpd_store_alive", m.cfg.Store.Epoch(), m.started,
		m.cfg.Store.Stats().Committed, m.cfg.Who)
}

func (m *Master) isRefused() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused
}

// changes publishes what changes.
func (m *Master) changes() {
	w := m.cfg.Store.Watch(m.cfg.Store.Stats().Committed)
	for !m.isRefused() {
		changes, err := w.Next(m.ctx)
		if errors.Is(err, store.StaleData) { // clones see the gap
			w = m.cfg.Store.Watch(m.cfg.Store.Stats().Committed)
			continue
		}
		if err != nil {
			return
		}
		m.sendChanges(ClonesTopic(m.name), changes)
	}
}

// sendChanges publishes changes; those of one Update are in one event.
func (m *Master) sendChanges(topic string, changes []store.Change) {
	var list event.Vector
	size := 0
	for i := range changes {
		change, n := encodeChange(&changes[i])
		list = append(list, change)
		size += n
		if changes[i].Last && (size > partSize || i == len(changes)-1) {
			m.publish(topic, "zmtpd_store_changes", m.cfg.Store.Epoch(), list)
			list, size = nil, 0
		}
	}
}

// handle takes an event of the bus.
func (m *Master) handle(_ context.Context, e cluster.Event) {
	if m.ctx.Err() != nil || m.isRefused() {
		return
	}
	var err error
	switch {
	case e.Topic == MasterTopic(m.name):
		err = m.handleRequest(e)
	case e.Topic == ClonesTopic(m.name) && string(e.Name) == "zmtpd_store_alive":
		var a struct {
			Epoch   uint64
			Started time.Time
			Seq     uint64
			Who     string
		}
		if err = e.DecodeArgs(&a); err == nil {
			m.meet(a.Epoch, a.Started, a.Who)
		}
	}
	if err != nil {
		m.cfg.Logger.Debug("an event for the store is not as it should be", "store", m.name,
			"event", string(e.Name), "node", e.Node, "err", err)
	}
}

// meet takes the sign of life of another master.
func (m *Master) meet(epoch uint64, started time.Time, who string) {
	if epoch == m.cfg.Store.Epoch() {
		return
	}
	if m.started.Before(started) || m.started.Equal(started) && m.cfg.Store.Epoch() < epoch {
		m.spawn(m.alive) // the other one has to go
		return
	}
	m.mu.Lock()
	again := m.refused
	m.refused = true
	m.mu.Unlock()
	if !again {
		err := store.Errorf(store.MasterExists, "%.200s is the master of the store %s since %s; end "+
			"one of the two, or name the stores differently", who, m.name,
			started.UTC().Format(time.RFC3339))
		m.cfg.Logger.Error("this process is not the master of its store", "store", m.name,
			"err", err)
		if m.cfg.Refused != nil {
			go m.cfg.Refused(err)
		}
	}
}

// spawn runs f unless the Master has ended.
func (m *Master) spawn(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() == nil {
		m.running.Go(f)
	}
}

func (m *Master) handleRequest(e cluster.Event) error {
	switch string(e.Name) {
	case "zmtpd_store_claim":
		var a struct {
			Epoch   uint64
			Started time.Time
			Who     string
		}
		if err := e.DecodeArgs(&a); err != nil {
			return err
		}
		m.meet(a.Epoch, a.Started, a.Who)
	case "zmtpd_store_sync":
		var a struct {
			Reply        string
			Epoch, After uint64
		}
		if err := e.DecodeArgs(&a); err != nil {
			return err
		}
		m.sync(a.Reply, a.Epoch, a.After)
	case "zmtpd_store_request":
		var a struct {
			Reply string
			ID    uint64
			Op    string
			Key   event.Raw
			Value event.Raw
			Index event.Raw
			TTL   time.Duration
		}
		parts, err := arguments(e, 7)
		if err != nil {
			return err
		}
		a.Key, a.Value, a.Index = parts[3], parts[4], parts[5]
		for i, dst := range map[int]any{0: &a.Reply, 1: &a.ID, 2: &a.Op, 6: &a.TTL} {
			if err := parts[i].Decode(dst); err != nil {
				return err
			}
		}
		m.request(a.Reply, a.ID, reads(a.Op), func() *reply {
			return m.one(e.Node, a.Op, a.Key, a.Value, a.Index, a.TTL)
		})
	case "zmtpd_store_following":
		return m.following(e)
	case "zmtpd_store_batch":
		var a struct {
			Reply string
			ID    uint64
			Who   string
		}
		parts, err := arguments(e, 4)
		if err != nil {
			return err
		}
		for i, dst := range map[int]any{0: &a.Reply, 1: &a.ID, 2: &a.Who} {
			if err := parts[i].Decode(dst); err != nil {
				return err
			}
		}
		writes, err := decodeWrites(parts[3])
		if err != nil {
			return err
		}
		if len(a.Who) > maxWho {
			return store.Errorf(store.InvalidData, "the author of a write has %d bytes", len(a.Who))
		}
		m.request(a.Reply, a.ID, false, func() *reply { return m.apply(a.Who, e.Node, writes...) })
	}
	return nil
}

// arguments returns the arguments of an event, which must be n.
func arguments(e cluster.Event, n int) (parts []event.Raw, err error) {
	for p := range e.Args.Elements() {
		parts = append(parts, p)
	}
	if len(parts) != n {
		return nil, store.Errorf(store.InvalidData, "%d arguments instead of %d", len(parts), n)
	}
	return parts, nil
}

// request carries out a request that has not come before, and sends its reply.
func (m *Master) request(topic string, id uint64, reads bool, f func() *reply) {
	key := topic + "\x00" + strconv.FormatUint(id, 10)
	m.mu.Lock()
	m.asked++
	r, again := m.answers[key]
	if !again && m.underWay >= maxRequests {
		m.mu.Unlock()
		return
	}
	if !again {
		m.underWay++
		r = &reply{done: make(chan struct{})}
		if !reads {
			if len(m.order) == maxAnswers {
				delete(m.answers, m.order[0])
				m.order = m.order[1:]
			}
			m.answers[key] = r
			m.order = append(m.order, key)
		}
	}
	m.mu.Unlock()
	if again {
		select {
		case <-r.done:
			m.spawn(func() { m.reply(topic, id, r) })
		default: // it will be answered
		}
		return
	}
	m.spawn(func() {
		got := f()
		m.reply(topic, id, got)
		if len(got.value) > maxKept {
			got.value = nil
		}
		r.code, r.met, r.value, r.text = got.code, got.met, got.value, got.text
		close(r.done)
		m.mu.Lock()
		m.underWay--
		m.mu.Unlock()
	})
}

func (m *Master) reply(topic string, id uint64, r *reply) {
	m.publish(topic, "zmtpd_store_reply", id, uint64(r.code), r.met, r.value, r.text)
}

func failed(err error) *reply {
	code := store.BackendFailure
	errors.As(err, &code)
	return &reply{code: code, text: err.Error()}
}

// reads returns whether an operation changes nothing, so that it may be carried out again.
func reads(op string) bool {
	return op == "get" || op == "get_index" || op == "exists" || op == "keys"
}

// one carries out an operation of a script.
func (m *Master) one(who, op string, key, value, index event.Raw, ttl time.Duration) *reply {
	e := m.cfg.Store.Get(key)
	switch op {
	case "get", "get_index":
		if e == nil {
			return failed(store.Errorf(store.NoSuchKey, "there is no entry %s",
				event.AppendText(nil, key)))
		}
		if op == "get" {
			return &reply{met: true, value: e.Value.Raw()}
		}
		part, err := store.Index(e.Value, index)
		if err != nil {
			return failed(err)
		}
		return &reply{met: true, value: part}
	case "exists":
		return &reply{met: e != nil}
	case "keys":
		var keys event.Vector
		size := 0
		for _, e := range m.cfg.Store.List(nil, 1<<20) {
			keys = append(keys, e.Key)
			if size += len(e.Key); size > 16*partSize {
				return failed(store.Errorf(store.InvalidData, "the keys have more than %d bytes",
					size))
			}
		}
		list, err := event.Append(nil, keys)
		if err != nil {
			return failed(err)
		}
		return &reply{met: true, value: list}
	}
	w := store.Write{Op: op, Key: key, Value: value, TTL: ttl}
	switch op {
	case "compare_and_set":
		w.Old = index
	case "insert_into":
		if e != nil && e.Value.Kind() == event.TableOf || e == nil && index.Kind() != event.None {
			w.Index = index
		}
	case "remove_from":
		w.Index = index
	}
	return m.apply("", who, w)
}

// apply makes writes. Their author is the node, and if it has named one, who@node: anybody who may
// publish can say who, so the node stays visible.
func (m *Master) apply(who, node string, writes ...store.Write) *reply {
	if name := cluster.NameInID(node); name != "" {
		node = name
	}
	if who != "" {
		node = who + "@" + node
	}
	a, err := m.cfg.Store.Apply(m.ctx, node, writes...)
	if err != nil {
		return failed(err)
	}
	r := &reply{met: a.Done}
	if a.Done {
		r.value, err = event.Append(nil, a.Values[len(a.Values)-1].Raw())
		if len(writes) > 1 || err != nil {
			r.value = nil
		}
	}
	return r
}

// sync sends a clone what it lacks.
func (m *Master) sync(topic string, epoch, after uint64) {
	m.mu.Lock()
	busy := m.snapshots[topic] || len(m.snapshots) >= maxSnapshots
	if !busy {
		m.snapshots[topic] = true
		m.synced++
	}
	m.mu.Unlock()
	if busy {
		return // the clone asks again
	}
	m.spawn(func() {
		defer func() {
			m.mu.Lock()
			delete(m.snapshots, topic)
			m.mu.Unlock()
		}()
		s := m.cfg.Store
		if epoch == s.Epoch() {
			if after == s.Stats().Committed {
				return
			}
			if changes, err := s.Watch(after).Next(m.ctx); err == nil {
				m.sendChanges(topic, changes)
				return
			}
		}
		entries, seq, err := s.Snapshot(m.ctx)
		if err != nil {
			return
		}
		var list event.Vector
		part, size := uint64(0), 0
		for _, e := range entries {
			if size > partSize {
				m.publish(topic, "zmtpd_store_snapshot", s.Epoch(), seq, part, false, list)
				list, size, part = nil, 0, part+1
			}
			list = append(list, encodeEntry(e))
			size += len(e.Key) + e.Value.Size() + 64
		}
		m.publish(topic, "zmtpd_store_snapshot", s.Epoch(), seq, part, true, list)
	})
}
