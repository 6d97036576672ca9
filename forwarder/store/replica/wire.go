package replica

import (
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// The changes and entries on the wire have keys and values as strings with their bytes: they may be
// nested as deep as values can be.

func encodeEntry(e *store.Entry) event.Vector {
	return event.Vector{string(e.Key), string(e.Value.Raw()), optional(e.Expires), e.Seq,
		e.Modified, e.Who}
}

// encodeChange encodes a change, and returns about how many bytes that takes. A change that edits a
// large container has the edits instead of the value.
func encodeChange(c *store.Change) (v event.Vector, size int) {
	value, edits := "", any(nil)
	size = len(c.Key) + 64
	if list, ok := editsOf(c); ok {
		edits = list
		for _, e := range list {
			size += len(e.(event.Vector)[2].(string)) + len(e.(event.Vector)[3].(string)) + 16
		}
	} else {
		value = string(c.Value.Raw())
		size += len(value)
	}
	return event.Vector{uint64(c.Kind), c.Last, string(c.Key), value, optional(c.Expires), c.Seq,
		c.Modified, c.Who, edits}, size
}

func editsOf(c *store.Change) (list event.Vector, ok bool) {
	if c.Kind != store.Put || c.Old == nil {
		return nil, false
	}
	edits, ok := c.Value.Diff(c.Old.Value)
	list = event.Vector{}
	for _, e := range edits {
		list = append(list, event.Vector{e.Remove, e.Front, string(e.Key), string(e.Value)})
	}
	return list, ok
}

func optional(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

func decodeEntry(r event.Raw) (*store.Entry, error) {
	var w struct {
		Key, Value []byte
		Expires    *time.Time
		Seq        uint64
		Modified   time.Time
		Who        string
	}
	if err := r.Decode(&w); err != nil {
		return nil, err
	}
	e := &store.Entry{Seq: w.Seq, Modified: w.Modified, Who: w.Who}
	if w.Expires != nil {
		e.Expires = *w.Expires
	}
	var err error
	if e.Key, err = event.Parse(w.Key); err != nil {
		return nil, err
	}
	value, err := event.Parse(w.Value)
	e.Value = store.Whole(value)
	return e, err
}

// decodeChange decodes a change. If edited is true, the change has edits instead of a value.
func decodeChange(r event.Raw) (c store.Change, edits []store.Edit, edited bool, err error) {
	var w struct {
		Kind       uint64
		Last       bool
		Key, Value []byte
		Expires    *time.Time
		Seq        uint64
		Time       time.Time
		Who        string
		Edits      *[]struct {
			Remove, Front bool
			Key, Value    []byte
		}
	}
	if err := r.Decode(&w); err != nil {
		return c, nil, false, err
	}
	if w.Kind > uint64(store.Clear) {
		return c, nil, false, store.Errorf(store.InvalidData, "there is no change of kind %d",
			w.Kind)
	}
	c = store.Change{Kind: store.ChangeKind(w.Kind), Last: w.Last,
		Entry: &store.Entry{Seq: w.Seq, Modified: w.Time, Who: w.Who}}
	if w.Expires != nil {
		c.Expires = *w.Expires
	}
	if c.Kind != store.Clear {
		if c.Key, err = event.Parse(w.Key); err != nil {
			return c, nil, false, err
		}
	}
	if c.Kind != store.Put {
		return c, nil, false, nil
	}
	if w.Edits == nil {
		value, err := event.Parse(w.Value)
		c.Value = store.Whole(value)
		return c, nil, false, err
	}
	for _, e := range *w.Edits {
		edit := store.Edit{Remove: e.Remove, Front: e.Front}
		if edit.Key, err = parseOptional(e.Key); err == nil {
			edit.Value, err = parseOptional(e.Value)
		}
		if err != nil {
			return c, nil, false, err
		}
		edits = append(edits, edit)
	}
	return c, edits, true, nil
}

// parseOptional returns a value, nil for no bytes.
func parseOptional(b []byte) (event.Raw, error) {
	if len(b) == 0 {
		return nil, nil
	}
	return event.Parse(b)
}

func encodeWrites(writes []store.Write) (out event.Vector) {
	for _, w := range writes {
		index := w.Index
		if w.Op == "compare_and_set" {
			index = w.Old
		}
		out = append(out, event.Vector{w.Op, string(w.Key), string(w.Value), string(index), w.TTL,
			w.IfSeq})
	}
	return out
}

func decodeWrites(r event.Raw) (writes []store.Write, err error) {
	for part := range r.Elements() {
		var x struct {
			Op                string
			Key, Value, Index []byte
			TTL               time.Duration
			IfSeq             uint64
		}
		if err := part.Decode(&x); err != nil {
			return nil, err
		}
		w := store.Write{Op: x.Op, TTL: x.TTL, IfSeq: x.IfSeq}
		for dst, b := range map[*event.Raw][]byte{&w.Key: x.Key, &w.Value: x.Value,
			&w.Index: x.Index} {
			if len(b) > 0 {
				if *dst, err = event.Parse(b); err != nil {
					return nil, err
				}
			}
		}
		if w.Op == "compare_and_set" {
			w.Old, w.Index = w.Index, nil
		}
		writes = append(writes, w)
	}
	if len(writes) == 0 {
		return nil, store.Errorf(store.InvalidData, "a batch without writes")
	}
	return writes, nil
}
