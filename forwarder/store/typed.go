package store

import (
	"context"
	"iter"
	"time"

	"zmtpd/forwarder/event"
)

// Typed is a store whose keys and values are Go values. Package event has the types. Entries whose
// key or value has another type are an error.
type Typed[K, V any] struct {
	Store *Store
	Who   string // the author of changes
}

// Get returns the value of a key, and whether there is an entry.
func (t Typed[K, V]) Get(key K) (value V, ok bool, err error) {
	k, err := Make(key)
	if err != nil {
		return value, false, err
	}
	e := t.Store.Get(k)
	if e == nil {
		return value, false, nil
	}
	if err := e.Value.Raw().Decode(&value); err != nil {
		return value, true, Errorf(TypeClash, "%v", err)
	}
	return value, true, nil
}

// Put sets the value of a key. The entry expires after ttl, never if that is 0.
func (t Typed[K, V]) Put(ctx context.Context, key K, value V, ttl time.Duration) error {
	_, err := t.apply(ctx, "put", key, value, ttl)
	return err
}

// PutUnique is Put if there is no entry. It returns whether there was none.
func (t Typed[K, V]) PutUnique(ctx context.Context, key K, value V, ttl time.Duration) (bool, error) {
	return t.apply(ctx, "put_unique", key, value, ttl)
}

func (t Typed[K, V]) apply(ctx context.Context, op string, key K, value V, ttl time.Duration) (bool,
	error) {
	k, err := Make(key)
	if err != nil {
		return false, err
	}
	v, err := Make(value)
	if err != nil {
		return false, err
	}
	a, err := t.Store.Apply(ctx, t.Who, Write{Op: op, Key: k, Value: v, TTL: ttl})
	return a.Done, err
}

// Change calls f with the value of a key, nil if there is no entry, and sets what f returns; nil
// removes the entry. Nobody else changes the store meanwhile, see [Store.Update]. The entry keeps
// its expiry.
func (t Typed[K, V]) Change(ctx context.Context, key K, f func(old *V) (*V, error)) error {
	k, err := Make(key)
	if err != nil {
		return err
	}
	return t.Store.Update(ctx, t.Who, func(tx *Tx) error {
		var old *V
		var expires time.Time
		if e := tx.Get(k); e != nil {
			old, expires = new(V), e.Expires
			if err := e.Value.Raw().Decode(old); err != nil {
				return Errorf(TypeClash, "%v", err)
			}
		}
		value, err := f(old)
		if err != nil {
			return err
		}
		if value == nil {
			_, err := tx.Erase(k)
			return err
		}
		v, err := Make(*value)
		if err != nil {
			return err
		}
		return tx.Put(k, v, expires)
	})
}

// Erase removes the entry of a key, if there is one.
func (t Typed[K, V]) Erase(ctx context.Context, key K) error {
	k, err := Make(key)
	if err != nil {
		return err
	}
	_, err = t.Store.Apply(ctx, t.Who, Write{Op: "erase", Key: k})
	return err
}

// All returns keys and values in the order of keys. It ends at the first entry of another type.
func (t Typed[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		var from event.Raw
		for {
			list := t.Store.List(from, 1000)
			for i, e := range list {
				var key K
				var value V
				if from != nil && i == 0 && string(e.Key) == string(from) {
					continue
				}
				if e.Key.Decode(&key) != nil || e.Value.Raw().Decode(&value) != nil || !yield(key, value) {
					return
				}
			}
			if len(list) < 1000 {
				return
			}
			from = list[len(list)-1].Key
		}
	}
}
