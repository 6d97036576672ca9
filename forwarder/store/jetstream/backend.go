package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"zmtpd/forwarder/store"
)

// Backend is a bucket of NATS as the [store.Backend] of a store. MaxValue and Stats may be called
// at any time, the other methods as the store does.
type Backend struct {
	cfg    Config
	bucket string
	owner  string // tells this process from others
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	inbox  string
	acks   *nats.Subscription // of the batches, at inbox.NUMBER
	// questions come from processes that want the store.
	questions *nats.Subscription

	// Only the method that the store calls uses these.
	current  record        // as the store has it in memory
	rev      uint64        // the revision of the record in the bucket
	unsure   bool          // a batch may have been written: rev may be old
	last     uint64        // the highest number of a generation or journal
	batches  uint64        // given to publish
	attempts uint64        // given to send
	timeout  time.Duration // of a batch
	// repair has the entries of commits that have failed, as they are in memory. The bucket may
	// have them as the commits would have made them.
	repair map[string]write // by name of the entry, without a generation

	owned     atomic.Bool           // this process has written the record
	verified  time.Time             // only asked uses it
	lost      atomic.Pointer[error] // why nothing can be written any more
	complaint atomic.Pointer[error] // the last one of the server
	down      atomic.Int64          // when the connection was lost, in Unix ns; 0 if there is one
}

// Stats are the counters of a Backend.
type Stats struct {
	Connected  bool
	Server     string // without password; the last one
	Reconnects uint64
	Replicas   int // of the bucket when it was opened
}

// Stats returns a snapshot of the counters.
func (b *Backend) Stats() Stats {
	return Stats{b.nc.IsConnected(), b.nc.ConnectedUrlRedacted(), b.nc.Stats().Reconnects,
		b.stream.CachedInfo().Config.Replicas}
}

// maxData returns how many bytes the data of a message may have.
func (b *Backend) maxData() int { return int(b.nc.MaxPayload()) - messageRoom }

// MaxValue returns how many bytes a value may have: what a message of the server can hold
// (max_payload, 1 MiB by default), less room for a key and what is noted about the entry. It is
// meant for [store.Config], so that a larger value is refused before it is in memory.
func (b *Backend) MaxValue() int {
	const maxKey, noted = 64 << 10, 4 << 10
	return b.maxData() - maxKey - noted
}

// Load implements store.Backend.
func (b *Backend) Load(add func(*store.Entry) error) (seq uint64, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	bucket, err := b.js.KeyValue(ctx, b.bucket)
	if err != nil {
		return 0, b.fault("the bucket", err)
	}
	watch, err := bucket.Watch(ctx, ">")
	if err != nil {
		return 0, b.fault("the bucket", err)
	}
	defer watch.Stop()
	mine := generation(b.current.Generation) + "."
	// The record is the newest message of the bucket. A replica that has it has all before it.
	for {
		var m jetstream.KeyValueEntry
		select {
		case m = <-watch.Updates():
		case <-time.After(b.cfg.Timeout):
			return 0, b.fault("the bucket", errors.New("NATS sends no more entries"))
		}
		if m == nil { // the end of what this replica had at first
			continue
		}
		if m.Revision() >= b.rev {
			return b.current.Seq, nil
		}
		name, ok := strings.CutPrefix(m.Key(), mine)
		switch {
		case !ok && strings.Trim(m.Key()[:1], "ej") == "" && strings.Contains(m.Key(), "."):
			continue // an old generation, or a journal
		case !ok:
			return 0, b.fault(fmt.Sprintf("key %.80q", m.Key()),
				errors.New("zmtpd has not written it"))
		case m.Operation() != jetstream.KeyValuePut:
			continue
		}
		e, err := decodeEntry(name, m.Value())
		if err != nil {
			return 0, b.fault(fmt.Sprintf("key %.80q", m.Key()), err)
		}
		if err := add(e); err != nil {
			return 0, err
		}
	}
}

func (b *Backend) fault(where string, err error) error {
	return store.Errorf(store.CannotOpenFile, "bucket %s of NATS: %s: %v; it stays as it is",
		b.bucket, where, err)
}

// Commit implements store.Backend. It blocks for up to Config.Timeout for each batch that it needs.
func (b *Backend) Commit(changes []store.Change) error {
	before := b.current
	r := before
	if len(changes) > 0 {
		r.Seq = changes[len(changes)-1].Seq
	}
	cleared, final := store.Final(changes)
	if cleared {
		b.last++
		r.Generation = b.last
		r.Garbage = append(slices.Clip(r.Garbage), generation(before.Generation))
	}
	prefix := generation(r.Generation) + "."
	writes := make([]write, 0, len(final)+len(b.repair))
	names := make(map[string]bool, len(b.repair))
	for _, c := range final {
		w := write{Key: entryName(c.Key)}
		if c.Kind == store.Put {
			w = encodeEntry(c.Entry)
		}
		if len(w.Data) > b.maxData()-messageRoom {
			return fmt.Errorf("the entry %s has %d bytes, a message of NATS can have %d "+
				"(max_payload of the server)", w.Key, len(w.Data), b.maxData()-messageRoom)
		}
		if len(b.repair) > 0 {
			names[w.Key] = true
		}
		w.Key = prefix + w.Key
		writes = append(writes, w)
	}
	if !cleared {
		for name, w := range b.repair {
			if !names[name] {
				writes = append(writes, write{prefix + name, w.Data})
			}
		}
	}
	if err := b.write(writes, r); err != nil {
		b.current = before
		b.undone(changes, r)
		return err
	}
	clear(b.repair)
	b.collect()
	return nil
}

// undone notes what the bucket may have now, and the store has not.
func (b *Backend) undone(changes []store.Change, r record) {
	if r.Generation != b.current.Generation {
		b.current.Garbage = append(slices.Clip(b.current.Garbage), generation(r.Generation))
	}
	for i := range changes {
		c := &changes[i]
		if c.Kind == store.Clear { // what follows is in the other generation
			return
		}
		name := entryName(c.Key)
		if _, ok := b.repair[name]; ok {
			continue
		}
		w := write{Key: name}
		if c.Old != nil {
			w = encodeEntry(c.Old)
		}
		b.repair[name] = w
	}
}

// write writes a commit of any size.
func (b *Backend) write(writes []write, r record) error {
	if list := split(writes); len(list) == 1 {
		return b.publish(writes, r)
	}
	b.last++
	number := b.last
	var parts []write
	for i, data := range pack(writes, b.maxData()) {
		parts = append(parts, write{fmt.Sprint(journal(number), ".", i), data})
	}
	noted := b.current // all as before, but that a journal is being written
	noted.Garbage = append(slices.Clip(noted.Garbage), journal(number))
	r.Garbage = append(slices.Clip(r.Garbage), journal(number))
	r.Journal, r.Parts = number, uint64(len(parts))
	list := split(parts)
	for i, batch := range list {
		now := noted
		if i == len(list)-1 {
			now = r
		}
		if err := b.publish(batch, now); err != nil {
			return err
		}
	}
	return b.writeOut(writes, r)
}

// writeOut writes the entries of a journal, and ends it.
func (b *Backend) writeOut(writes []write, r record) error {
	list := split(writes)
	for i, batch := range list {
		if i == len(list)-1 {
			r.Journal, r.Parts = 0, 0
		}
		if err := b.publish(batch, r); err != nil {
			return err
		}
	}
	return nil
}

// split cuts writes into what batches can hold; none makes one without writes.
func split(writes []write) (list [][]write) {
	begin, size := 0, 0
	for i, w := range writes {
		n := len(w.Key) + len(w.Data) + messageRoom
		if i-begin == maxBatch || i > begin && size+n > maxBatchBytes {
			list = append(list, writes[begin:i])
			begin, size = i, 0
		}
		size += n
	}
	return append(list, writes[begin:])
}

// collect purges what is no longer needed, as far as that is possible now.
func (b *Backend) collect() {
	if len(b.current.Garbage) == 0 {
		return
	}
	ctx, cancel := b.context()
	defer cancel()
	var left []string
	for _, prefix := range b.current.Garbage {
		err := b.stream.Purge(ctx, jetstream.WithPurgeSubject(b.subject(prefix+".>")))
		if err != nil {
			left = append(left, prefix)
		}
	}
	b.current.Garbage = left // the bucket learns it with the next commit
}

// Sync implements store.Backend. What is acknowledged is as safe as it can be.
func (b *Backend) Sync() error { return nil }

// Close implements store.Backend. It brings the bucket to what the store has in memory, if a
// commit has failed and there is a connection.
func (b *Backend) Close() (err error) {
	if len(b.repair) > 0 && b.lost.Load() == nil {
		writes := make([]write, 0, len(b.repair))
		for name, w := range b.repair {
			writes = append(writes, write{generation(b.current.Generation) + "." + name, w.Data})
		}
		if err = b.write(writes, b.current); err != nil {
			err = fmt.Errorf("the bucket %s may have writes that were refused: %w", b.bucket, err)
		}
	}
	b.nc.Close()
	return err
}
