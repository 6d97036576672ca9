package store

import (
	"bytes"
	"iter"
	"slices"
	"time"

	"zmtpd/forwarder/event"
)

// Tx reads and changes a store within [Store.Update]. It must not be used afterwards. Values that
// are given to it must not be written to afterwards, keys may be. Both may be in any form that
// event.Parse takes. An expiry is a time; the zero time stands for none. Its methods return an
// [Error].
type Tx struct {
	s       *Store
	who     string
	now     time.Time
	changes []Change
	cleared []*entries // what each Clear has removed, in order
}

// Now returns the time of the Update. Expired entries at this time are absent.
func (tx *Tx) Now() time.Time { return tx.now }

// In returns the expiry after a time to live; none for 0 and less.
func (tx *Tx) In(ttl time.Duration) time.Time {
	if ttl <= 0 {
		return time.Time{}
	}
	return tx.now.Add(ttl)
}

// Get returns the entry of a key, nil if there is none.
func (tx *Tx) Get(key event.Raw) *Entry {
	tx.s.reads.Add(1)
	key, err := canonical(key)
	if err != nil {
		return nil
	}
	return tx.get(key)
}

func (tx *Tx) get(key event.Raw) *Entry {
	e := tx.s.entries.get(key)
	if e == nil || e.expired(tx.now) {
		return nil
	}
	return e
}

// From returns the entries from a key on in the order of keys, which is that of [event.Compare];
// all of them for nil. The store must not be changed meanwhile.
func (tx *Tx) From(key event.Raw) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for e := range tx.s.entries.order.from(key) {
			if !e.expired(tx.now) && !yield(e) {
				return
			}
		}
	}
}

// Len returns the number of entries, expired ones included that have not been removed yet.
func (tx *Tx) Len() int { return len(tx.s.entries.byKey) }

// Put sets the value and the expiry of a key.
func (tx *Tx) Put(key, value event.Raw, expires time.Time) error {
	key, err := tx.key(key)
	if err != nil {
		return err
	}
	if value, err = canonical(value); err != nil {
		return err
	}
	tx.s.ops[OpPut].Add(1)
	return tx.put(key, Value{raw: value}, expires)
}

// PutValue is Put with a value of this or another store, or one that was made from it.
func (tx *Tx) PutValue(key event.Raw, value Value, expires time.Time) error {
	key, err := tx.key(key)
	if err != nil {
		return err
	}
	tx.s.ops[OpPut].Add(1)
	return tx.put(key, value, expires)
}

// PutUnique is Put if there is no entry. It returns whether there was none.
func (tx *Tx) PutUnique(key, value event.Raw, expires time.Time) (bool, error) {
	if tx.Get(key) != nil {
		return false, nil
	}
	return true, tx.Put(key, value, expires)
}

// CompareAndSet is Put if the entry has the value old; nil stands for no entry. It returns whether
// it had it.
func (tx *Tx) CompareAndSet(key, old, value event.Raw, expires time.Time) (bool, error) {
	if old == nil {
		return tx.PutUnique(key, value, expires)
	}
	old, err := canonical(old)
	if err != nil {
		return false, err
	}
	if e := tx.Get(key); e == nil || !bytes.Equal(e.Value.Raw(), old) {
		return false, nil
	}
	return true, tx.Put(key, value, expires)
}

// Expire changes the expiry of an entry, and nothing else. A time that has passed removes it. It
// returns whether there is an entry.
func (tx *Tx) Expire(key event.Raw, at time.Time) (bool, error) {
	key, err := tx.key(key)
	if err != nil {
		return false, err
	}
	e := tx.get(key)
	if e == nil {
		return false, nil
	}
	tx.s.ops[OpExpire].Add(1)
	if !at.IsZero() && !tx.now.Before(at) {
		return true, tx.remove(Expire, e.Key)
	}
	return true, tx.put(key, e.Value, at)
}

// Add adds to the value of an entry, and sets its expiry: a number or an interval to one of the
// same type, an interval to a time, a string behind a string, an element to a set or behind a
// vector, a vector of key and value as an entry of a table. Without an entry it begins with an
// empty value of the kind init. It returns the new value.
func (tx *Tx) Add(key, x event.Raw, init event.Kind, expires time.Time) (Value, error) {
	return tx.modify(OpAdd, key, x, init, expires, add)
}

// Subtract undoes Add for numbers, intervals and times. It removes an element from a set, the entry
// with a key from a table, and the last element from a vector. The error is [NoSuchKey] without an
// entry. It returns the new value.
func (tx *Tx) Subtract(key, x event.Raw, expires time.Time) (Value, error) {
	return tx.modify(OpSubtract, key, x, event.None, expires, subtract)
}

func (tx *Tx) modify(op Op, key, x event.Raw, init event.Kind, expires time.Time,
	f func(old Value, x event.Raw) (Value, error)) (v Value, err error) {
	if key, err = tx.key(key); err != nil {
		return v, err
	}
	if x, err = canonical(x); err != nil {
		return v, err
	}
	var old Value
	if e := tx.get(key); e != nil {
		old = e.Value
	} else if init == event.None {
		return v, Errorf(NoSuchKey, "there is no entry %s", event.AppendText(nil, key))
	} else if old.raw, err = Empty(init); err != nil {
		return v, err
	}
	if v, err = f(old, x); err != nil {
		return v, err
	}
	tx.s.ops[op].Add(1)
	return v, tx.put(key, v, expires)
}

// Erase removes the entry of a key. It returns whether there was one.
func (tx *Tx) Erase(key event.Raw) (bool, error) {
	key, err := tx.key(key)
	if err != nil {
		return false, err
	}
	if tx.get(key) == nil {
		return false, nil
	}
	tx.s.ops[OpErase].Add(1)
	return true, tx.remove(Erase, key)
}

// Clear removes all entries.
func (tx *Tx) Clear() error {
	tx.s.ops[OpClear].Add(1)
	return tx.remove(Clear, nil)
}

// key returns a key as the store has it.
func (tx *Tx) key(key event.Raw) (event.Raw, error) {
	key, err := canonical(key)
	if err == nil && len(key) > tx.s.cfg.MaxKey {
		err = Errorf(InvalidData, "the key has %d bytes, %d are allowed", len(key), tx.s.cfg.MaxKey)
	}
	return key, err
}

func (tx *Tx) put(key event.Raw, value Value, expires time.Time) error {
	t := tx.s.entries
	if value.Size() > tx.s.cfg.MaxValue {
		return Errorf(InvalidData, "the value of %s has %d bytes, %d are allowed",
			event.AppendText(nil, key), value.Size(), tx.s.cfg.MaxValue)
	}
	n := t.byKey[string(key)]
	if !expires.IsZero() && !tx.now.Before(expires) {
		if n == nil {
			return nil
		}
		return tx.remove(Expire, key)
	}
	grows, _ := value.memory()
	if n != nil {
		key = n.Key // the entries of a key share its memory
		before, _ := n.Value.memory()
		grows -= before
	} else {
		key = bytes.Clone(key)
		grows += int64(len(key)) + entryOverhead
	}
	if grows > 0 && t.bytes+grows > tx.s.cfg.MaxBytes {
		return Errorf(BackendFailure, "the store %s is full: it may have %d bytes", tx.s.cfg.Name,
			tx.s.cfg.MaxBytes)
	}
	if grows > 0 && !tx.s.account.reserve(tx.s.memory()+grows) {
		return Errorf(BackendFailure, "the process has no memory left for more entries of the store %s",
			tx.s.cfg.Name)
	}
	e := tx.next(key)
	e.Value, e.Expires = value, expires
	tx.changes = append(tx.changes, Change{Kind: Put, Entry: e, Old: t.setNode(n, key, e)})
	return nil
}

// remove removes the entry of a key, or all entries, and notes it as a change.
func (tx *Tx) remove(kind ChangeKind, key event.Raw) error {
	c := Change{Kind: kind}
	if kind == Clear {
		tx.cleared = append(tx.cleared, tx.s.entries)
		tx.s.entries = newEntries()
		c.Entry = tx.next(nil)
	} else {
		c.Old = tx.s.entries.set(key, nil)
		c.Entry = tx.next(c.Old.Key)
	}
	tx.changes = append(tx.changes, c)
	return nil
}

// next returns an entry with the number of the next change.
func (tx *Tx) next(key event.Raw) *Entry {
	tx.s.seq++
	return &Entry{Key: key, Seq: tx.s.seq, Modified: tx.now, Who: tx.who}
}

// undo undoes all changes. Nobody may have made others since.
func (tx *Tx) undo() {
	for _, c := range slices.Backward(tx.changes) {
		if c.Kind == Clear {
			last := len(tx.cleared) - 1
			tx.s.entries, tx.cleared = tx.cleared[last], tx.cleared[:last]
		} else {
			tx.s.entries.set(c.Key, c.Old)
		}
	}
	tx.s.seq -= uint64(len(tx.changes))
	tx.changes = nil
}
