package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// Entry is an entry or a change as JSON. Key and Value are for people: Value is plain JSON, which
// does not tell all types apart. KeyRaw and Raw are the same in broker-bin-v1, and win.
type Entry struct {
	Kind     string          `json:"change,omitempty"` // put, erase, expire or clear, for a change
	Key      string          `json:"key,omitempty"`    // see KeyText
	KeyRaw   []byte          `json:"key_raw,omitempty"`
	Type     string          `json:"type,omitempty"` // of the value, as in broker-json-v1
	Value    json.RawMessage `json:"value,omitempty"`
	Raw      []byte          `json:"raw,omitempty"`
	Seq      uint64          `json:"seq,omitempty"`
	Modified *time.Time      `json:"modified,omitempty"`
	Who      string          `json:"who,omitempty"`
	Expires  *time.Time      `json:"expires,omitempty"`
}

// Put returns the write that makes the entry, at this store or another one.
func (e *Entry) Put() Write {
	return Write{Op: "put", Key: e.Key, KeyRaw: e.KeyRaw, Value: e.Value, Raw: e.Raw,
		Expires: e.Expires}
}

func newEntry(e *store.Entry) Entry {
	value := e.Value.Raw()
	out := Entry{Key: KeyText(e.Key), KeyRaw: e.Key, Type: value.Kind().String(),
		Value: event.AppendPlainJSON(nil, value), Raw: value, Seq: e.Seq, Who: e.Who}
	out.Modified, out.Expires = optional(e.Modified), optional(e.Expires)
	return out
}

func newChange(c store.Change) Entry {
	out := Entry{Seq: c.Seq, Who: c.Who, Modified: optional(c.Modified)}
	switch c.Kind {
	case store.Put:
		out = newEntry(c.Entry)
	case store.Erase, store.Expire:
		out.Key, out.KeyRaw = KeyText(c.Key), c.Key
	}
	out.Kind = c.Kind.String()
	return out
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// KeyText returns a key as text: a string as it is, unless it begins with a brace or is no UTF-8.
// Others are values in broker-json-v1, or, if that would lose something, {"@raw":"..."} with the
// bytes of broker-bin-v1 in base64.
func KeyText(key event.Raw) string {
	if text, ok := key.Text(); ok && key.Kind() == event.String && utf8.Valid(text) &&
		!bytes.HasPrefix(text, []byte("{")) {
		return string(text)
	}
	text := event.AppendJSON(nil, key)
	if back, err := event.ParseJSON(nil, text); err == nil && bytes.Equal(back, key) && json.Valid(text) &&
		utf8.Valid(text) {
		return string(text)
	}
	return `{"@raw":"` + base64.StdEncoding.EncodeToString(key) + `"}`
}

// ParseKey is the inverse of [KeyText].
func ParseKey(text string) (event.Raw, error) {
	if !strings.HasPrefix(text, "{") {
		return store.Text(text), nil
	}
	return parseTyped([]byte(text))
}

// parseTyped parses an object: broker-json-v1, or one with the bytes of broker-bin-v1.
func parseTyped(text []byte) (event.Raw, error) {
	var raw struct {
		Raw []byte `json:"@raw"`
	}
	if json.Unmarshal(text, &raw) == nil && raw.Raw != nil {
		return parseRaw(raw.Raw)
	}
	r, err := event.ParseJSON(nil, text)
	if err != nil {
		return nil, store.Errorf(store.InvalidData, "%v", err)
	}
	return r, nil
}

func parseRaw(b []byte) (event.Raw, error) {
	r, err := event.Parse(b)
	if err != nil {
		return nil, store.Errorf(store.InvalidData, "%v", err)
	}
	return r, nil
}

// ParseValue reads a value in JSON. A string, a boolean and an array stand for a string, a bool and
// a vector; a number for a count, for an int below 0, and for a double with a point or an exponent;
// an object is a value in broker-json-v1.
func ParseValue(text []byte) (event.Raw, error) {
	if len(text) == 0 {
		return nil, nil
	}
	v, err := plain(text, 0)
	if err != nil {
		return nil, store.Errorf(store.InvalidData, "%v", err)
	}
	return store.Make(v)
}

func plain(text []byte, depth int) (any, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || depth > event.MaxDepth {
		return nil, errors.New("a value is missing, or nested too deep")
	}
	switch text[0] {
	case '{':
		return parseTyped(text)
	case '[':
		var list []json.RawMessage
		if err := json.Unmarshal(text, &list); err != nil {
			return nil, err
		}
		out := make(event.Vector, len(list))
		for i, e := range list {
			var err error
			if out[i], err = plain(e, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	number, ok := v.(json.Number)
	if !ok {
		return v, nil
	}
	if n, err := strconv.ParseUint(number.String(), 10, 64); err == nil {
		return n, nil
	}
	if n, err := strconv.ParseInt(number.String(), 10, 64); err == nil {
		return n, nil
	}
	if !strings.ContainsAny(number.String(), ".eE") {
		return nil, fmt.Errorf("%s does not fit a count or an int", number)
	}
	return number.Float64()
}

// Write is a store.Write as JSON. KeyRaw and Raw are Key and Value in broker-bin-v1, and win.
type Write struct {
	Op      string          `json:"op,omitempty"`
	Key     string          `json:"key,omitempty"` // see KeyText
	KeyRaw  []byte          `json:"key_raw,omitempty"`
	Value   json.RawMessage `json:"value,omitempty"`
	Raw     []byte          `json:"raw,omitempty"`
	Old     json.RawMessage `json:"old,omitempty"`
	Index   json.RawMessage `json:"index,omitempty"`
	TTL     string          `json:"ttl,omitempty"`     // as in 90s
	Expires *time.Time      `json:"expires,omitempty"` // another form of TTL
}

// parse returns the write. key is that of the request, nil for the one in the write.
func (w *Write) parse(key event.Raw) (out store.Write, err error) {
	out = store.Write{Op: w.Op, Key: key}
	if key == nil && w.Op != "clear" {
		if w.KeyRaw != nil {
			out.Key, err = parseRaw(w.KeyRaw)
		} else {
			out.Key, err = ParseKey(w.Key)
		}
		if err != nil {
			return out, err
		}
	}
	if w.Raw != nil {
		out.Value, err = parseRaw(w.Raw)
	} else {
		out.Value, err = ParseValue(w.Value)
	}
	if err != nil {
		return out, err
	}
	if out.Old, err = ParseValue(w.Old); err != nil {
		return out, err
	}
	if out.Index, err = ParseValue(w.Index); err != nil {
		return out, err
	}
	if w.TTL != "" {
		if out.TTL, err = time.ParseDuration(w.TTL); err != nil || out.TTL <= 0 {
			return out, store.Errorf(store.InvalidData, "ttl is a time above 0 as in 90s or 1h, not %q",
				w.TTL)
		}
	}
	if w.Expires != nil {
		out.TTL = max(time.Until(*w.Expires), 1)
	}
	if out.Value == nil {
		switch w.Op {
		case "put", "put_unique", "compare_and_set", "increment", "decrement", "append", "push",
			"insert_into":
			return out, store.Errorf(store.InvalidData, "%s needs a value", w.Op)
		}
	}
	return out, nil
}
