package kafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// recordBatch is one of the client's.
type recordBatch struct {
	sealed  bool // on its way or full
	records []*kgo.Record
}

// client is what franz-go does with records that it is given: it asks the partitioner, puts a
// record into the last record batch of the partition, and asks once more if it needs a new one.
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

// Whatever the client does in between, and whoever else gives it records: those of a handover that
// it has not answered for in a partition are in one record batch, none follows one that has failed,
// and none that could be taken is turned away.
func TestHandoverInOneBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &client{partitioner: partitioner{}.ForTopic("t").(*topicPartitioner)}
		c.partitions = make([][]*recordBatch, rapid.IntRange(1, 3).Draw(t, "partitions"))
		keyed := rapid.Bool().Draw(t, "keyed")
		handovers := make([]*handover, 3)
		in := make([]map[int]*recordBatch, 3) // by handover and partition, where its records are
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
					t.Fatal("a record that was not taken is somewhere, or is not marked")
				case taken && stopped:
					t.Fatal("a record was taken after one was not")
				case taken && in[i][where] != nil && in[i][where] != at:
					t.Fatal("two record batches for one handover")
				case !taken && !stopped && !keyed:
					// The only partition of the handover: there must be a record batch of it that
					// is no longer open.
					q := i % len(c.partitions)
					if b := in[i][q]; b == nil || len(c.partitions[q]) > 0 &&
						c.partitions[q][len(c.partitions[q])-1] == b && !b.sealed {
						t.Fatal("a record was turned away for which there was room")
					}
				}
				if taken {
					in[i][where] = at
				}
			case 3: // it is full, or a request takes it
				if len(b) > 0 {
					b[len(b)-1].sealed = true
				}
			case 4: // the first is acknowledged
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

// Records that were not tried come back without an error, others with theirs.
func TestFulfil(t *testing.T) {
	h := newHandover(4, 0)
	failed, fine := &kgo.Record{}, &kgo.Record{}
	turnedAway := &kgo.Record{Partition: notTried}
	why := errors.New("why")
	h.fulfil(fine, nil)
	if h.stop.Load() {
		t.Error("it stops without a reason")
	}
	h.fulfil(failed, why)
	h.fulfil(turnedAway, errors.New("no such partition"))
	select {
	case <-h.all:
		t.Error("an answer is to come")
	default:
	}
	h.answered(1)
	<-h.all
	if err, ok := h.errs[turnedAway]; !ok || err != nil || h.errs[failed] != why ||
		len(h.errs) != 2 || !h.stop.Load() {
		t.Errorf("%v", h.errs)
	}
}
