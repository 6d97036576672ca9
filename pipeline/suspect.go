package pipeline

import (
	"slices"
	"time"

	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/recording"
	"zmtpd/pipeline/spool"
	"zmtpd/pipeline/zeek"
)

// A record that kills the process would be delivered again, and kill again, after each start. The
// spool therefore notes which records are being delivered. A record that was being delivered when a
// process died is a suspect, and the outlet delivers suspects one at a time. A record at which two
// processes died is set aside.

const (
	// fatalDeaths is the number of deaths after which a record is set aside.
	fatalDeaths = 2
	// suspicion is how long a record is noted as being delivered. A delivery that takes longer
	// waits for its destination and has no part in the end of the process.
	suspicion = 10 * time.Second
)

// send gives an item to the sink.
func (o *Outlet) send(it *item) {
	o.mu.Lock()
	gone := o.gone
	if gone != nil {
		it.givenUp = gone
	}
	o.mu.Unlock()
	switch {
	case gone != nil:
	case it.fed:
		o.sendFed(it)
	default:
		o.sink.Send(o.ctx, &it.Entry)
	}
}

// sendFed is send for an item that came from the spool.
func (o *Outlet) sendFed(it *item) {
	seq := it.seq
	if deaths := o.spool.Deaths(seq); deaths >= fatalDeaths {
		o.setAside(it, deaths)
		return
	} else if deaths > 0 {
		o.suspect.Lock()
		defer o.suspect.Unlock()
	}
	o.spool.Begin(seq)
	t := time.AfterFunc(suspicion, func() { o.spool.End(seq) })
	o.sink.Send(o.ctx, &it.Entry)
	t.Stop()
	o.spool.End(seq)
}

// setAside moves an item from the spool to a file. It waits while the file cannot be written.
func (o *Outlet) setAside(it *item, deaths int) {
	// As a recording it can be sent again.
	record, err := recording.AppendMessage(nil, []byte("log-write"), it.Node,
		[]byte(zeek.SerializerName), it.raw)
	if err != nil { // too large for a recording
		record = slices.Concat(appendHead(nil, it), it.Node, it.raw)
	}
	o.memory.Add(int64(cap(record)))
	defer o.memory.Release(int64(cap(record)))
	path, err := o.spool.SetAside(it.seq, record)
	var backoff await.Backoff
	for err != nil {
		if backoff.First() {
			o.log.Error("a batch in the spool at which the process died cannot be set aside; "+
				"trying again", "err", err)
		}
		if !backoff.Sleep(o.ctx, o.ctx) {
			return // it is in the spool for the next start
		}
		path, err = o.spool.SetAside(it.seq, record)
	}
	o.log.Error("the process died more than once while it delivered a batch, which is set aside",
		"deaths", deaths, "file", path,
		"node", string(it.Node[:min(len(it.Node), maxNodeID)]), "path", it.key.Path, "records",
		it.Batch.NumRecords, "bytes", len(it.raw))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remove(it)
	o.dropItem(it, Drop(ReasonSetAside,
		"the process died %d times while it delivered the batch, which is now in %s", deaths, path))
}

// setAsideUnusable moves a record that is no log batch, or none that this version can read, from
// the spool to a file. It was never counted as received. The caller holds mu, which
// setAsideUnusable unlocks meanwhile.
func (o *Outlet) setAsideUnusable(seq spool.Seq, record []byte, why error) {
	o.mu.Unlock()
	path, err := o.spool.SetAside(seq, record)
	o.mu.Lock()
	if err != nil {
		// It is not acknowledged, so the next start finds it.
		o.log.Error("a record of the spool is no log batch and cannot be set aside", "err", err,
			"why", why)
		return
	}
	o.log.Error("a record of the spool is no log batch, it is set aside", "file", path, "err", why)
}
