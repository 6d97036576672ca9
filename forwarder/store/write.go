package store

import (
	"context"
	"errors"
	"time"

	"zmtpd/forwarder/event"
)

// Write is a change as data. The operations have the names of Broker's (broker/store.hh):
//
//	put              Value
//	put_unique       Value, if there is no entry
//	compare_and_set  Value, if the entry has the value Old; no entry if Old is nil
//	increment        by Value; an absent entry counts as zero
//	decrement        by Value
//	append           the string Value behind a string
//	insert_into      Value into a set; with Index, an entry of a table
//	remove_from      Index from a set or table
//	push             Value behind a vector
//	pop              the last element of a vector
//	expire           the expiry only; TTL 0 for never
//	erase            the entry
//	clear            all entries
//
// All but erase and clear set the expiry: without TTL the entry never expires, also if it had an
// expiry before.
type Write struct {
	Op         string
	Key, Value event.Raw
	Old        event.Raw
	Index      event.Raw
	TTL        time.Duration
	// IfSeq makes the write depend on the entry: 0 for no condition, [NoEntry] for no entry,
	// otherwise the Seq of the entry.
	IfSeq uint64
}

// NoEntry is the IfSeq of a Write that needs an absent entry.
const NoEntry = ^uint64(0)

// Applied is the result of writes.
type Applied struct {
	// Done says that all conditions were met. Otherwise nothing has changed, and Failed is the
	// index of the first write whose condition was not met.
	Done   bool
	Failed int
	// Values are the values after each write, of the kind [event.None] where there is none.
	Values []Value
	Seq    uint64 // of the last change
}

var errCondition = errors.New("store: a condition is not met")

// Apply makes several writes in one [Store.Update], all of them or none.
func (s *Store) Apply(ctx context.Context, who string, writes ...Write) (Applied, error) {
	var a Applied
	p, err := s.Start(who, func(tx *Tx) error {
		a.Values = make([]Value, len(writes))
		for i, w := range writes {
			done, value, err := tx.Write(w)
			if err != nil {
				return err
			}
			if !done {
				a.Failed = i
				return errCondition
			}
			a.Values[i] = value
		}
		return nil
	})
	if err == errCondition {
		return Applied{Failed: a.Failed}, nil
	}
	if err == nil {
		err = p.Wait(ctx)
	}
	if err != nil {
		return Applied{}, err
	}
	a.Done, a.Seq = true, p.seq
	return a, nil
}

// Write makes a [Write]. It returns whether its condition was met, and the new value.
func (tx *Tx) Write(w Write) (done bool, value Value, err error) {
	if w.Op != "clear" && len(w.Key) == 0 {
		return false, value, Errorf(InvalidData, "%s needs a key", w.Op)
	}
	if w.IfSeq != 0 {
		e := tx.Get(w.Key)
		if (e == nil) != (w.IfSeq == NoEntry) || e != nil && e.Seq != w.IfSeq {
			return false, value, nil
		}
	}
	expires, done := tx.In(w.TTL), true
	switch w.Op {
	case "put":
		value, err = Whole(w.Value), tx.Put(w.Key, w.Value, expires)
	case "put_unique":
		value = Whole(w.Value)
		done, err = tx.PutUnique(w.Key, w.Value, expires)
	case "compare_and_set":
		value = Whole(w.Value)
		done, err = tx.CompareAndSet(w.Key, w.Old, w.Value, expires)
	case "increment":
		value, err = tx.Add(w.Key, w.Value, w.Value.Kind(), expires)
	case "append":
		value, err = tx.Add(w.Key, w.Value, event.String, expires)
	case "insert_into":
		if w.Index != nil {
			var pair event.Raw
			if pair, err = Make(event.Vector{w.Index, w.Value}); err == nil {
				value, err = tx.Add(w.Key, pair, event.TableOf, expires)
			}
		} else {
			value, err = tx.Add(w.Key, w.Value, event.SetOf, expires)
		}
	case "push":
		value, err = tx.Add(w.Key, w.Value, event.VectorOf, expires)
	case "decrement":
		value, err = tx.Subtract(w.Key, w.Value, expires)
	case "remove_from":
		value, err = tx.Subtract(w.Key, w.Index, expires)
	case "pop":
		value, err = tx.Subtract(w.Key, nil, expires)
	case "expire":
		done, err = tx.Expire(w.Key, expires)
	case "erase":
		_, err = tx.Erase(w.Key)
	case "clear":
		err = tx.Clear()
	default:
		err = Errorf(InvalidData, "there is no operation %q", w.Op)
	}
	return done, value, err
}
