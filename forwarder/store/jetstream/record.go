package jetstream

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// recordKey is the key of the bucket's record.
const recordKey = "zmtpd"

// format is the first element of the record. Another layout has another one.
const format = "zmtpd store 1"

// record says what the bucket has. It is part of each batch.
type record struct {
	Format string
	Owner  string // a random text of the process
	Who    string // the process, for people
	Commit uint64 // numbers the batches of an owner
	Seq    uint64 // of the last change
	// Generation is that of the entries that count. Last is the highest number that a generation
	// or a journal has had.
	Generation, Last uint64
	// Journal is the number of a journal whose entries are not all written, 0 for none, with so
	// many Parts.
	Journal, Parts uint64
	Garbage        []string // beginnings of keys that can be purged
}

func (r *record) encode() []byte {
	b, err := event.Append(nil, *r)
	if err != nil { // all fields are numbers and short texts
		panic(err)
	}
	return b
}

func decodeRecord(b []byte) (r record, err error) {
	raw, err := event.Parse(b)
	if err == nil {
		err = raw.Decode(&r)
	}
	if err == nil && r.Format != format {
		err = fmt.Errorf("its format is %.40q, this version of zmtpd knows %q", r.Format, format)
	}
	return r, err
}

func generation(n uint64) string { return fmt.Sprintf("e%d", n) }
func journal(n uint64) string    { return fmt.Sprintf("j%d", n) }

// longKey is the length of a key in bytes above which its hash names it. A subject of NATS has to
// fit a control line of 4 KiB, with all else.
const longKey = 256

// entryName returns the name of an entry within its generation.
func entryName(key event.Raw) string {
	if len(key) <= longKey {
		return "k" + base64.RawURLEncoding.EncodeToString(key)
	}
	hash := sha256.Sum256(key)
	return "h" + base64.RawURLEncoding.EncodeToString(hash[:])
}

// write is a message of the bucket to be.
type write struct {
	Key  string // in the bucket
	Data []byte // nil: the key is deleted
}

// savedEntry is an entry as the bucket has it. Key and Value are in broker-bin-v1, as strings:
// inside a vector they would be nested one level deeper than a value may be.
type savedEntry struct {
	Seq        uint64
	Modified   time.Time
	Expires    *time.Time // nil for never
	Who        string
	Key, Value []byte
}

// encodeEntry returns the message of an entry, without a generation in its key.
func encodeEntry(e *store.Entry) write {
	s := savedEntry{Seq: e.Seq, Modified: clamp(e.Modified), Who: e.Who, Key: e.Key,
		Value: e.Value.Raw()}
	if !e.Expires.IsZero() {
		expires := clamp(e.Expires)
		s.Expires = &expires
	}
	b, err := event.Append(make([]byte, 0, len(s.Key)+len(s.Value)+len(s.Who)+64), s)
	if err != nil { // numbers, texts, and times in range
		panic(err)
	}
	return write{entryName(e.Key), b}
}

// clamp returns the time that is nearest to t of those that a time of Zeek can hold.
func clamp(t time.Time) time.Time {
	if first := time.Unix(0, math.MinInt64); t.Before(first) {
		return first
	}
	if last := time.Unix(0, math.MaxInt64); t.After(last) {
		return last
	}
	return t
}

// decodeEntry reads an entry and checks that it has the name under which it was found.
func decodeEntry(name string, b []byte) (*store.Entry, error) {
	raw, err := event.Parse(b)
	if err != nil {
		return nil, err
	}
	var s savedEntry
	if err := raw.Decode(&s); err != nil {
		return nil, err
	}
	key, err := event.Parse(s.Key)
	if err != nil {
		return nil, fmt.Errorf("its key: %w", err)
	}
	value, err := event.Parse(s.Value)
	if err != nil {
		return nil, fmt.Errorf("its value: %w", err)
	}
	if entryName(key) != name {
		return nil, errors.New("it is the entry of another key")
	}
	e := &store.Entry{Key: key, Value: store.Whole(value), Seq: s.Seq, Modified: s.Modified,
		Who: s.Who}
	if s.Expires != nil {
		e.Expires = *s.Expires
	}
	return e, nil
}

// pack makes parts of a journal of at most so many bytes each. A write must fit a part.
func pack(writes []write, most int) (parts [][]byte) {
	const overhead = 32 // of a vector, and of the vector of a write in it
	begin, size := 0, overhead
	flush := func(end int) {
		b, err := event.Append(nil, writes[begin:end])
		if err != nil { // texts only
			panic(err)
		}
		parts = append(parts, b)
		begin, size = end, overhead
	}
	for i, w := range writes {
		n := len(w.Key) + len(w.Data) + overhead
		if size+n > most && i > begin {
			flush(i)
		}
		size += n
	}
	flush(len(writes))
	return parts
}

func unpack(b []byte) (writes []write, err error) {
	raw, err := event.Parse(b)
	if err == nil {
		err = raw.Decode(&writes)
	}
	for i := range writes {
		if !strings.HasPrefix(writes[i].Key, "e") {
			return nil, fmt.Errorf("the part of a journal writes to the key %.80q", writes[i].Key)
		}
		if len(writes[i].Data) == 0 {
			writes[i].Data = nil
		}
	}
	return writes, err
}
