package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/spool"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/memory"
)

// How an Outlet uses its spool.
//
// As long as the window has room, batches go to it alone. When it is full, spill copies all of the
// window to the spool, and new batches are appended behind it: from then on the spool has, in
// order, everything that the sink has not delivered. The spool's reader stands behind the last
// record that is in the window. One goroutine (runSpool) moves records to the window when that has
// room, and acknowledges those that the sink is done with. When it reaches the end of the spool,
// new batches go to the window alone again.
//
// A record consists of source, node id and batch. The first two are preceded by their sizes (32
// bits, big-endian).

func (o *Outlet) openSpool(cfg spool.Config) error {
	if cfg.Logger == nil {
		cfg.Logger = o.log
	}
	if o.spoolBytes = cfg.MaxBytes; o.spoolBytes == 0 {
		o.spoolBytes = spool.DefaultMaxBytes
	}
	var err error
	o.spool, err = spool.Open(cfg, func(record []byte) {
		if it, err := o.parseRecord(record); err == nil {
			o.acct.admit(it.Node, it.key, it.counts())
			o.recovered.Add(it.counts())
		}
	})
	if err != nil {
		return err
	}
	unread := o.spool.Stats().Unread > 0
	o.spilling = o.spoolFirst || unread
	if unread {
		o.spills.begin(time.Now())
		o.log.Info("the sink gets first what is in its spool", "messages", o.recovered.Messages,
			"records", o.recovered.Records)
	}
	o.spooler.Go(o.runSpool)
	return nil
}

// appendHead appends the beginning of the spool record of an item; Node and raw follow.
func appendHead(dst []byte, it *item) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(it.source)))
	dst = append(dst, it.source...)
	return binary.BigEndian.AppendUint32(dst, uint32(len(it.Node)))
}

// parseRecord returns the item of a spool record, which it refers to.
func (o *Outlet) parseRecord(record []byte) (*item, error) {
	source, rest, err := cutSized(record)
	if err != nil {
		return nil, err
	}
	node, raw, err := cutSized(rest)
	if err != nil {
		return nil, err
	}
	b, err := zeek.ParseBatch(raw)
	if err != nil {
		return nil, err
	}
	return o.newItem(string(source), KeyOf(b), node, raw, b, newShared(func() {})), nil
}

// cutSized cuts off what has its size before it.
func cutSized(b []byte) (cut, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errTorn
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)) {
		return nil, nil, errTorn
	}
	return b[:n:n], b[n:], nil
}

var errTorn = errors.New("the record ends too early")

// putSpool puts an item into the spool. The caller holds putMu and mu. It unlocks mu meanwhile, so
// the sink may finish the item.
func (o *Outlet) putSpool(it *item) error {
	o.head = appendHead(o.head[:0], it)
	node, raw := it.Node, it.raw
	if it.memory != nil {
		it.memory.retain() // the sink may be done with it
		defer it.memory.release()
	}
	o.putting = true
	o.mu.Unlock()
	seq, err := o.spool.Append(o.head, node, raw)
	for o.dropOldest && errors.Is(err, spool.ErrFull) && o.makeRoom() {
		seq, err = o.spool.Append(o.head, node, raw)
	}
	o.mu.Lock()
	o.putting = false
	o.changed.Broadcast()
	if err != nil {
		return fmt.Errorf("its spool takes no more: %w", err)
	}
	it.seq, it.spooled = seq, true
	return nil
}

// makeRoom drops the oldest records in the spool, and reports whether it has.
func (o *Outlet) makeRoom() bool {
	largest := 0 // of the records, one of which is in memory at a time
	err := o.spool.DropOldest(func(record []byte) {
		if n := cap(record); n > largest {
			o.memory.Add(int64(n - largest))
			largest = n
		}
		o.dropRecord(record)
	})
	o.memory.Release(int64(largest))
	return err == nil
}

// dropRecord counts a record that has made room in the spool.
func (o *Outlet) dropRecord(record []byte) {
	it, err := o.parseRecord(record)
	if err != nil {
		return // it was never counted
	}
	it.from, it.log = o.acct.find(it.Node, it.key)
	o.dropItem(it, Drop(ReasonSpoolFull, "the oldest in the spool made room"))
}

// spill copies the window to the spool, so that new batches can follow it there. The caller holds
// putMu and mu; it unlocks mu meanwhile.
func (o *Outlet) spill() error {
	for _, it := range o.unspooled() {
		if it.place == nil {
			continue // done meanwhile
		}
		if err := o.putSpool(it); errors.Is(err, spool.ErrTooLarge) {
			continue // it stays in memory alone
		} else if err != nil {
			return err
		}
		switch {
		case it.place == nil: // the sink is done with it
			o.acks = append(o.acks, it.seq)
		case it.taken:
			o.forget(it)
		}
		if err := o.passOver(it.seq); err != nil {
			return err
		}
	}
	o.spilling = true
	if o.spills.begin(time.Now()) {
		o.log.Warn("the sink does not keep up, its log batches go through the spool",
			"waiting_bytes", o.bytes)
	}
	return nil
}

// passOver moves the spool's reader behind a record that is in the window.
func (o *Outlet) passOver(seq spool.Seq) error {
	for {
		read, _, err := o.spool.NextIn(func(int) ([]byte, bool) { return nil, true })
		if err == spool.ErrEmpty {
			return nil
		}
		if err != nil {
			return err
		}
		if read == seq {
			return nil
		}
	}
}

// runSpool acknowledges records and moves them to the window until the spool is closed.
func (o *Outlet) runSpool() {
	o.mu.Lock()
	defer o.mu.Unlock()
	var acks []spool.Seq
	var backoff await.Backoff
	for {
		feeds := o.spilling && !o.closing && o.gone == nil &&
			(o.window.Len() == 0 || o.bytes < o.maxBytes)
		switch {
		case len(o.acks) > 0:
			acks, o.acks = o.acks, acks[:0]
			o.mu.Unlock()
			o.spool.Ack(acks...)
			o.mu.Lock()
			o.changed.Broadcast() // there may be room
		case feeds:
			if err := o.feed(); err == nil {
				backoff.Reset()
			} else {
				if backoff.First() {
					o.log.Error("the spool cannot be read; trying again", "err", err)
				}
				o.waitFor(backoff.Next())
			}
		case o.closed:
			return
		default:
			if o.spilling && o.window.Len() > 0 {
				o.flush()
			}
			o.changed.Wait()
		}
	}
}

// feed moves the next record from the spool to the window, or ends the spilling if there is none.
// The caller holds mu; feed unlocks it meanwhile.
func (o *Outlet) feed() error {
	// Without memory the window is filled again when it is empty: then it needs no more than the
	// largest batch, and never waits for memory that only it can free.
	room := &recordRoom{holder: o.memory, must: o.window.Len() == 0}
	o.mu.Unlock()
	seq, record, err := o.spool.NextIn(room.take)
	o.mu.Lock()
	if err == spool.ErrEmpty && !o.putting {
		seq, record, err = o.spool.NextIn(room.take) // while we hold mu nothing is put there
	}
	defer func() { room.release() }()
	if err == spool.ErrNoRoom {
		if o.window.Len() > 0 {
			o.flush()
			o.changed.Wait()
		}
		return nil
	}
	for err == nil && o.putting {
		o.changed.Wait() // until the record is counted as received
	}
	switch {
	case err == spool.ErrEmpty && (o.putting || o.spoolFirst):
		o.changed.Wait()
		return nil
	case err == spool.ErrEmpty:
		o.spilling = false
		o.changed.Broadcast()
		if took := o.spills.end(time.Now()); took >= newsAfter {
			o.log.Info("the sink has caught up, its spool is read", "took", took)
		}
		return nil
	case err != nil:
		return err
	case o.closing:
		return nil // it is not acknowledged, so it stays there
	}
	it, err := o.parseRecord(record)
	if err != nil {
		o.setAsideUnusable(seq, record, err)
		return nil
	}
	it.memory = newShared(room.release)
	room = &recordRoom{}
	it.from, it.log = o.acct.find(it.Node, it.key)
	it.seq, it.spooled, it.fed = seq, true, true
	o.add(it)
	return nil
}

// recordRoom is the memory of one record from the spool.
type recordRoom struct {
	holder *memory.Holder
	must   bool // whatever the budget says
	n      int64
}

// take is a spool.Room.
func (r *recordRoom) take(size int) ([]byte, bool) {
	r.release() // that of a record which is damaged
	if n := int64(size); r.must {
		r.holder.Add(n)
	} else if !r.holder.TryReserve(n) {
		return nil, false
	}
	r.n = int64(size)
	return make([]byte, size), true
}

func (r *recordRoom) release() {
	r.holder.Release(r.n)
	r.n = 0
}

// closeSpool closes the spool after it has acknowledged what the sink has delivered.
func (o *Outlet) closeSpool() error {
	o.mu.Lock()
	o.closed = true
	o.changed.Broadcast()
	o.mu.Unlock()
	o.spooler.Wait()
	if st := o.spool.Stats(); st.Records > 0 {
		o.log.Info("what the sink has not delivered is in its spool for the next start", "messages",
			st.Records)
	}
	if err := o.spool.Close(); err != nil {
		return fmt.Errorf("sink %s: %w", o.name, err)
	}
	return nil
}
