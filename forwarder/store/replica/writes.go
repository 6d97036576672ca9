package replica

import (
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

func encodeWrites(writes []store.Write) (out event.Vector) {
	for _, w := range writes {
		index := w.Index
		if w.Op == "compare_and_set" {
			index = w.Old
		}
		out = append(out, event.Vector{w.Op, string(w.Key), string(w.Value), string(index), w.TTL, w.IfSeq})
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
		for dst, b := range map[*event.Raw][]byte{&w.Key: x.Key, &w.Value: x.Value, &w.Index: x.Index} {
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
