package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// A server takes 1000 messages in a batch (max_batch_size), the record included.
	maxBatch = 999
	// A batch of more bytes is written as a journal, in several.
	maxBatchBytes = 8 << 20
	// ackWait is after which time an acknowledgement is looked for in the bucket.
	ackWait = 2 * time.Second
	// retryWait is the pause between attempts.
	retryWait = 100 * time.Millisecond
	// messageRoom is what a message needs beside its data: headers, which count for max_payload.
	messageRoom = 1024
	// deletedTTL is how long other programs see that a key was deleted.
	deletedTTL = "1m"
)

var (
	errNoAnswer = errors.New("no acknowledgement")
	errNoStream = errors.New("no stream answers")
	errDown     = errors.New("there is no connection")
)

// publish writes a batch: all of it or nothing. It tries again until Config.Timeout is over. After
// an error the bucket may have the batch all the same; the error says so if that is possible.
func (b *Backend) publish(writes []write, r record) error {
	r = b.next(r)
	deadline := time.Now().Add(b.timeout)
	first := b.attempts
	for {
		landed, err := b.attempt(writes, r, deadline)
		if err == nil && landed {
			b.current = r
			return nil
		}
		b.unsure = true
		if lost := b.lost.Load(); lost != nil {
			return *lost
		}
		if !temporary(err) {
			return err
		}
		if !time.Now().Add(retryWait).Before(deadline) || errors.Is(err, errDown) {
			fate := "it may have been made or not"
			if b.attempts == first {
				fate = "it was not made"
			}
			return fmt.Errorf("NATS has not acknowledged the write within %v, and %s: %w",
				b.timeout, fate, b.explain(err))
		}
		time.Sleep(retryWait)
	}
}

// next returns the record for the next batch of this process.
func (b *Backend) next(r record) record {
	b.batches++
	r.Format, r.Owner, r.Who, r.Commit, r.Last = format, b.owner, b.cfg.Who, b.batches, b.last
	return r
}

// attempt writes a batch once, after looking whether an attempt before has done so.
func (b *Backend) attempt(writes []write, r record, deadline time.Time) (landed bool, err error) {
	if lost := b.lost.Load(); lost != nil {
		return false, *lost
	}
	if err := b.waitConnected(deadline); err != nil {
		return false, err
	}
	if b.unsure {
		if landed, err := b.look(r.Commit, deadline); landed || err != nil {
			return landed, err
		}
	}
	rev, err := b.send(writes, r)
	if err != nil {
		return false, err
	}
	b.rev = rev
	return true, nil
}

// look reads the record of the bucket, and returns whether it is that of a batch.
func (b *Backend) look(batch uint64, deadline time.Time) (landed bool, err error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	m, err := b.stream.GetLastMsgForSubject(ctx, b.subject(recordKey))
	if errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		err = fmt.Errorf("another program has removed the bucket %s, or its record", b.bucket)
		b.lose(err)
	}
	if err != nil {
		return false, err
	}
	r, err := b.checkOwner(m)
	if err != nil {
		return false, err
	}
	b.rev, b.unsure = m.Sequence, false
	return r.Commit == batch, nil
}

// waitConnected waits for a connection. An outage that is longer than Config.Timeout is not waited
// for again.
func (b *Backend) waitConnected(deadline time.Time) error {
	for !b.nc.IsConnected() {
		now := time.Now()
		since := b.down.Load()
		if now.After(deadline) || since != 0 && now.Sub(time.Unix(0, since)) > b.timeout {
			if err := b.nc.LastError(); err != nil {
				return fmt.Errorf("%w: %v", errDown, err)
			}
			return errDown
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// send publishes a batch (ADR-50 of NATS) and waits for its acknowledgement. It returns the
// revision of the record.
func (b *Backend) send(writes []write, r record) (rev uint64, err error) {
	b.attempts++
	reply := b.inbox + "." + strconv.FormatUint(b.attempts, 10)
	id := b.owner + "-" + strconv.FormatUint(b.attempts, 10)
	reconnects := b.nc.Stats().Reconnects
	n := 0
	publish := func(key string, data []byte, header nats.Header) error {
		n++
		header.Set("Nats-Batch-Id", id)
		header.Set("Nats-Batch-Sequence", strconv.Itoa(n))
		if data == nil {
			header.Set("KV-Operation", "DEL")
			header.Set("Nats-TTL", deletedTTL)
		}
		return b.nc.PublishMsg(&nats.Msg{Subject: b.subject(key), Reply: reply, Header: header,
			Data: data})
	}
	for _, w := range writes {
		if err := publish(w.Key, w.Data, nats.Header{}); err != nil {
			return 0, err
		}
	}
	err = publish(recordKey, r.encode(), nats.Header{
		"Nats-Expected-Last-Subject-Sequence": {strconv.FormatUint(b.rev, 10)},
		"Nats-Batch-Commit":                   {"1"}})
	if err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(min(ackWait, b.timeout)); ; {
		m, err := b.acks.NextMsg(retryWait)
		switch {
		case errors.Is(err, nats.ErrTimeout):
			if time.Now().After(deadline) || !b.nc.IsConnected() ||
				b.nc.Stats().Reconnects != reconnects {
				return 0, errNoAnswer
			}
			continue
		case err != nil:
			return 0, err
		case m.Subject != reply: // of an attempt before
			continue
		case m.Header.Get("Status") != "": // 503
			return 0, errNoStream
		case len(m.Data) == 0: // the server has stored a message of the batch, for now
			continue
		}
		var ack struct {
			jetstream.PubAck
			Error *jetstream.APIError `json:"error"`
			Batch string              `json:"batch"`
			Count int                 `json:"count"`
		}
		if err := json.Unmarshal(m.Data, &ack); err != nil {
			return 0, fmt.Errorf("the acknowledgement of NATS cannot be read: %w", err)
		}
		if ack.Error != nil {
			return 0, ack.Error
		}
		if ack.Batch != id || ack.Count != n {
			return 0, fmt.Errorf("NATS has acknowledged %d of %d messages: the server has no "+
				"atomic batches", ack.Count, n)
		}
		return ack.Sequence, nil
	}
}

// isConflict returns whether the record did not have the revision that was expected.
func isConflict(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// incompleteBatch is the error of a batch of which a message was lost (errors.json of nats-server).
const incompleteBatch jetstream.ErrorCode = 10176

// temporary returns whether a batch may pass when it is tried again.
func temporary(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return isConflict(err) || api.Code == 503 || api.Code == 429 ||
			api.ErrorCode == incompleteBatch
	}
	return !errors.Is(err, nats.ErrMaxPayload) && !errors.Is(err, nats.ErrConnectionClosed)
}

// explain adds what the server has complained about, such as a permission that lacks.
func (b *Backend) explain(err error) error {
	if complaint := b.complaint.Swap(nil); complaint != nil {
		return fmt.Errorf("%w (%w)", err, *complaint)
	}
	return err
}
