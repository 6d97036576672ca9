package kafka

import (
	"context"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// handover is one call of group.produce. It gives records of a flow to a client, and is the Context
// of each of them.
//
// It goes on as long as the records for a partition join one record batch of the client, so that
// they succeed or fail together. If the next records were in flight in another record batch, that
// one could succeed after the first has failed, and the retry would change the order. The client
// shows that it begins a record batch by asking the partitioner once more.
type handover struct {
	context.Context // never ends

	place uint32 // partition of records without key
	left  atomic.Int64
	all   chan struct{} // closed when left is zero
	stop  atomic.Bool   // hand over no more records

	batches map[int]joined // used by the client's partitioner; the key is the partition
	// used by the client's promise goroutine until all is closed: the records that came back, with
	// nil for those that were not tried
	errs map[*kgo.Record]error
}

// joined is the record batch that contains records of a handover.
type joined struct {
	batch uint64
	first *kgo.Record // first of these records
}

// notTried is the partition of a record for which the record batch had no room.
const notTried = -1

func newHandover(records int, place uint32) *handover {
	h := &handover{Context: context.Background(), place: place, all: make(chan struct{}),
		batches: make(map[int]joined)}
	h.left.Store(int64(records))
	return h
}

// fulfil is the client's callback for each record. One goroutine calls it at a time.
func (h *handover) fulfil(r *kgo.Record, err error) {
	if err != nil {
		if h.errs == nil {
			h.errs = make(map[*kgo.Record]error)
		}
		if r.Partition == notTried {
			err = nil
		}
		h.errs[r] = err
		h.stop.Store(true)
	}
	h.answered(1)
}

func (h *handover) answered(n int) {
	if h.left.Add(-int64(n)) == 0 {
		close(h.all)
	}
}

// partitioner puts records with a key where Kafka's own producers put them, and records without a
// key into the partition of their flow. Both are fixed: records wait for a partition without a
// leader.
type partitioner struct{}

func (partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return &topicPartitioner{byKey: kgo.StickyKeyPartitioner(nil).ForTopic(topic)}
}

// The client calls topicPartitioner with a lock that it holds until the record is in its record
// batch.
type topicPartitioner struct {
	byKey   kgo.TopicPartitioner
	batches []uint64 // by partition, the record batch that was begun last
	fresh   bool     // the record for which Partition is called again begins a new one
}

var _ kgo.TopicPartitionerOnNewBatch = (*topicPartitioner)(nil)

// lastBatch numbers the record batches of all clients.
var lastBatch atomic.Uint64

// RequiresConsistency returns true: all partitions count, writable or not.
func (p *topicPartitioner) RequiresConsistency(*kgo.Record) bool { return true }

// OnNewBatch is called before Partition is called again for a record that needs a new record batch.
func (p *topicPartitioner) OnNewBatch() { p.fresh = true }

// Partition returns the partition of a record, or an invalid one for a record that must not be
// handed over.
func (p *topicPartitioner) Partition(r *kgo.Record, n int) int {
	h := r.Context.(*handover)
	pick := int(h.place % uint32(n))
	if r.Key != nil {
		pick = p.byKey.Partition(r, n)
	}
	if len(p.batches) < n {
		p.batches = append(p.batches, make([]uint64, n-len(p.batches))...)
	}
	fresh := p.fresh
	p.fresh = false
	j, ok := h.batches[pick]
	if before := ok && j.first != r; h.stop.Load() || before &&
		(fresh || j.batch != p.batches[pick]) {
		h.stop.Store(true)
		r.Partition = notTried
		return notTried
	}
	if fresh {
		p.batches[pick] = lastBatch.Add(1)
	}
	if !ok || fresh {
		h.batches[pick] = joined{p.batches[pick], r}
	}
	return pick
}
