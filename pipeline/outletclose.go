package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/spool"
)

// UndeliveredError reports batches that a sink could not deliver before its end and that are in no
// spool.
type UndeliveredError struct {
	Sink string
	Lost Counts
	Err  error // why, of one of them
}

// Error returns one line.
func (e *UndeliveredError) Error() string {
	return fmt.Sprintf("sink %s: %d records lost: %v", e.Sink, e.Lost.Records, e.Err)
}

// Unwrap returns the cause.
func (e *UndeliveredError) Unwrap() error { return e.Err }

// Close ends the outlet after the last message. The sink delivers what is in memory until ctx ends,
// or for three quarters of that time if there is a spool, which then takes the rest. Close returns
// the errors of the sink, and an *UndeliveredError if batches are lost.
func (o *Outlet) Close(ctx context.Context) error {
	defer o.memory.Close()
	o.mu.Lock()
	o.closing = true // so that no flow begins
	o.mu.Unlock()
	deliver, cancel := context.WithCancel(ctx)
	defer cancel()
	if deadline, ok := ctx.Deadline(); ok && o.spool != nil {
		deliver, cancel = context.WithTimeout(ctx, time.Until(deadline)*3/4)
		defer cancel()
	}
	stop := context.AfterFunc(deliver, o.giveUp)
	// From then on something hangs, and is left alone.
	hung, cancelHung := await.WithGrace(deliver)
	defer cancelHung()
	err := fmt.Errorf("sink %s does not answer", o.name)
	if await.Until(hung, await.Done(o.writers.Wait)) {
		err = o.sink.Close(deliver)
	}
	stop()
	o.giveUp()
	if o.spool == nil {
		return errors.Join(err, o.keepRest())
	}
	if err != nil {
		o.log.Warn("the sink did not end well, what it has not delivered is in its spool", "err",
			err)
	}
	return errors.Join(o.keepRest(), o.closeSpool())
}

// keepRest puts what the sink has not delivered into the spool, and drops and counts what finds no
// room there.
func (o *Outlet) keepRest() error {
	o.putMu.Lock()
	defer o.putMu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	var lost *UndeliveredError
	var full error // of the spool: what comes after must not overtake
	for _, it := range o.unspooled() {
		err := full
		if o.spool != nil && err == nil {
			if err = o.putSpool(it); err == nil {
				continue
			}
			if !errors.Is(err, spool.ErrTooLarge) {
				full = err
			}
		}
		why := it.givenUp
		if why == nil {
			why = errors.New("the sink does not answer")
		}
		it.place = nil // if the sink is done with it after all, that is too late
		o.dropItem(it, Drop(ReasonGivenUp, "the logger ended before the sink took it: %w",
			errors.Join(why, err)))
		if lost == nil {
			lost = &UndeliveredError{Sink: o.name, Err: errors.Join(why, err)}
		}
		lost.Lost.Add(it.counts())
	}
	for e := o.window.Front(); e != nil; e = e.Next() {
		// What the sink has not given up it may still read.
		if it := e.Value.(*item); it.givenUp != nil && it.memory != nil {
			it.memory.release()
			it.memory = nil
		}
	}
	o.kept.end()
	if lost != nil {
		return lost
	}
	return nil
}

// unspooled returns the items of the window that are not in the spool, in their order. The caller
// holds mu.
func (o *Outlet) unspooled() (items []*item) {
	for e := o.window.Front(); e != nil; e = e.Next() {
		if it := e.Value.(*item); !it.spooled {
			items = append(items, it)
		}
	}
	return items
}
