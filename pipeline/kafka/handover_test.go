package kafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// recordBatch is a record batch of the client.
type recordBatch struct {
	sealed  bool // in flight or full
	records []*kgo.Record
}

// client does what franz-go does with records: it asks the partitioner, puts a record into the last
// record batch of the partition, and asks once more if the record needs a new one.
type client struct {
	partitioner *topicPartitioner
	partitions  [][]*recordBatch
}

// produce reports whether the record was taken.
func (c *client) produce(r *kgo.Record) bool {
	pick := c.partitioner.Partition(r, len(c.partitions))
	if pick < 0 {
		return false
	}
	b := c.partitions[pick]
	if len(b) == 0 || b[len(b)-1].sealed {
		c.partitioner.OnNewBatch()
		if pick = c.partitioner.Partition(r, len(c.partitions)); pick < 0 {
			return false
		}
		c.partitions[pick] = append(c.partitions[pick], &recordBatch{})
		b = c.partitions[pick]
	}
	last := b[len(b)-1]
	last.records = append(last.records, r)
	return true
}

// Whatever the client does in between, and whatever other records it gets: the unanswered records
// of a handover in a partition are in one record batch, none follows a failed one, and every record
// that fits is taken.
func TestHandoverInOneBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &client{partitioner: partitioner{}.ForTopic("t").(*topicPartitioner)}
		c.partitions = make([][]*recordBatch, rapid.IntRange(1, 3).Draw(t, "partitions"))
		keyed := rapid.Bool().Draw(t, "keyed")
		handovers := make([]*handover, 3)
		in := make([]map[int]*recordBatch, 3) // by handover and partition
		for i := range handovers {
			handovers[i], in[i] = newHandover(1<<20, uint32(i)), map[int]*recordBatch{}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			p := rapid.IntRange(0, len(c.partitions)-1).Draw(t, "partition")
			b := c.partitions[p]
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			default:
				i := rapid.IntRange(0, 2).Draw(t, "handover")
				h := handovers[i]
				r := &kgo.Record{Context: h}
				if keyed {
					r.Key = []byte{rapid.Byte().Draw(t, "key")}
				}
				stopped := h.stop.Load()
				taken := c.produce(r)
				where, at := -1, (*recordBatch)(nil)
				for q, batches := range c.partitions {
					for _, b := range batches {
						if len(b.records) > 0 && b.records[len(b.records)-1] == r {
							where, at = q, b
						}
					}
				}
				switch {
				case !taken && (where >= 0 || r.Partition != notTried || !h.stop.Load()):
					t.Fatal("a record that was not taken is in a record batch, or not marked")
				case taken && stopped:
					t.Fatal("a record was taken behind one that was not taken")
				case taken && in[i][where] != nil && in[i][where] != at:
					t.Fatal("a handover has records in two record batches")
				case !taken && !stopped && !keyed:
					// This is the handover's only partition. So a record batch with its records
					// must be closed.
					q := i % len(c.partitions)
					if b := in[i][q]; b == nil || len(c.partitions[q]) > 0 &&
						c.partitions[q][len(c.partitions[q])-1] == b && !b.sealed {
						t.Fatal("a record was not taken although there was room")
					}
				}
				if taken {
					in[i][where] = at
				}
			case 3: // it is full, or in flight
				if len(b) > 0 {
					b[len(b)-1].sealed = true
				}
			case 4: // the first one is acknowledged
				if len(b) > 0 && b[0].sealed {
					c.partitions[p] = b[1:]
				}
			case 5: // all fail
				c.partitions[p] = nil
			}
			if i := rapid.IntRange(0, 8).Draw(t, "next"); i < 3 {
				handovers[i], in[i] = newHandover(1<<20, uint32(i)), map[int]*recordBatch{}
			}
		}
	})
}

// Records that were not tried come back without an error, others with their error.
func TestRecordsComeBackWithTheirErrors(t *testing.T) {
	h := newHandover(4, 0)
	failed, fine := &kgo.Record{}, &kgo.Record{}
	turnedAway := &kgo.Record{Partition: notTried}
	why := errors.New("why")
	h.fulfil(fine, nil)
	if h.stop.Load() {
		t.Error("the handover stops without a reason")
	}
	h.fulfil(failed, why)
	h.fulfil(turnedAway, errors.New("there is no such partition"))
	select {
	case <-h.all:
		t.Error("the handover is complete although an answer is missing")
	default:
	}
	h.answered(1)
	<-h.all
	if err, ok := h.errs[turnedAway]; !ok || err != nil || h.errs[failed] != why ||
		len(h.errs) != 2 || !h.stop.Load() {
		t.Errorf("%v", h.errs)
	}
}
