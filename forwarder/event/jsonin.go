package event

import (
	"encoding/binary"
	"slices"
	"strconv"
)

// ParseJSON reads one value in broker-json-v1 and appends it to dst in broker-bin-v1. Sets and
// tables are put in order. It takes what Zeek's reader takes (broker/internal/json.cc): members in
// any order, others beside them, control characters and any bytes in strings. It also takes what
// only Zeek's writer knows, \v in strings and infinite doubles, and an escaped slash. After an
// error dst is unchanged. Errors are of type *[Error].
func ParseJSON(dst, text []byte) ([]byte, error) {
	r := jsonReader{text: text, out: dst}
	if err := r.whole(); err != nil {
		return dst, err
	}
	return r.out, nil
}

// whole reads a value and nothing behind it.
func (r *jsonReader) whole() *Error {
	if err := r.value(0); err != nil {
		return err
	}
	if r.space(); r.at < len(r.text) {
		return r.bad("%d bytes follow the value", len(r.text)-r.at)
	}
	return nil
}

// value reads {"@data-type":...,"data":...}.
func (r *jsonReader) value(depth int) *Error {
	kind, data, done := numKinds, -1, false
	begin := r.at
	err := r.members(func(name []byte) *Error {
		switch {
		case string(name) == "@data-type" && kind == numKinds:
			at := r.at
			text, err := r.string()
			if err != nil {
				return err
			}
			i := slices.Index(kindNames[:], string(text))
			if i < 0 {
				return fault(UnknownTag, at, "%.40q", text)
			}
			kind = Kind(i)
			return nil
		case string(name) == "data" && data < 0:
			r.space()
			if data = r.at; kind == numKinds || kind == None {
				return r.skip()
			}
			done = true
			return r.data(kind, depth)
		case r.message && depth == 0 && string(name) == "topic":
			return r.readTopic()
		}
		return r.skip()
	})
	switch {
	case err != nil:
		return err
	case kind == numKinds:
		return fault(BadJSON, begin, "the value has no @data-type")
	case kind == None:
		r.out = append(r.out, byte(None))
		return nil
	case data < 0:
		return fault(BadJSON, begin, "the %v has no data", kind)
	case done:
		return nil
	}
	// The data came before their type.
	end := r.at
	r.at = data
	if err := r.data(kind, depth); err != nil {
		return err
	}
	r.at = end
	return nil
}

// data reads the data of a value of the given kind.
func (r *jsonReader) data(kind Kind, depth int) *Error {
	begin := r.at
	wrong := func(text []byte) *Error {
		return fault(BadValue, begin, "%.40q is no %v", text, kind)
	}
	switch kind {
	case Bool, Count, Int, Real:
		text := r.literal()
		if !r.number(kind, text) {
			return wrong(text)
		}
		return nil
	case SetOf, VectorOf, TableOf:
		return r.container(kind, depth)
	}
	text, err := r.string()
	if err != nil {
		return err
	}
	if kind == String || kind == EnumValue {
		r.out = appendText(r.out, kind, text)
		return nil
	}
	if len(text) > 100 {
		return wrong(text)
	}
	if out, ok := parseText(r.out, kind, string(text)); ok {
		r.out = out
		return nil
	}
	return wrong(text)
}

// number appends a value that stands without quotes.
func (r *jsonReader) number(kind Kind, text []byte) bool {
	s := string(text)
	switch kind {
	case Bool:
		if s != "true" && s != "false" {
			return false
		}
		r.out = appendBool(r.out, s == "true")
	case Count:
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil || s[0] == '+' {
			return false
		}
		r.out = appendUint64(r.out, Count, v)
	case Int:
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || s[0] == '+' {
			return false
		}
		r.out = appendUint64(r.out, Int, uint64(v))
	case Real:
		v, ok := parseReal(s)
		if !ok {
			return false
		}
		r.out = appendUint64(r.out, Real, packReal(v))
	}
	return true
}

// container reads an array of values, or of entries.
func (r *jsonReader) container(kind Kind, depth int) *Error {
	if depth >= MaxDepth {
		return fault(TooDeep, r.at, "more than %d containers in one another", MaxDepth)
	}
	start := r.at
	if err := r.expect('['); err != nil {
		return err
	}
	// The number of elements stands in front of them and is known behind them. It mostly takes one
	// byte.
	head := len(r.out)
	r.out = append(r.out, byte(kind), 0)
	begin := len(r.out)
	n := 0
	if r.peek() == ']' {
		r.at++
	} else {
		for more := true; more; n++ {
			var err *Error
			if kind == TableOf {
				err = r.entry(depth + 1)
			} else {
				err = r.value(depth + 1)
			}
			if err != nil {
				return err
			}
			if more, err = r.next(']'); err != nil {
				return err
			}
		}
	}
	if kind != VectorOf {
		out, err := order(r.out, begin, kind, n)
		if err != nil {
			return fault(Duplicate, start, "an element or key is twice in a %v", kind)
		}
		r.out = out
	}
	var length [binary.MaxVarintLen64]byte
	used := binary.PutUvarint(length[:], uint64(n))
	r.out = slices.Replace(r.out, head+1, begin, length[:used]...)
	return nil
}

// entry reads {"key":...,"value":...}.
func (r *jsonReader) entry(depth int) *Error {
	begin, out := r.at, len(r.out)
	key, value := -1, -1 // the end of what was appended
	err := r.members(func(name []byte) *Error {
		switch {
		case string(name) == "key" && key < 0:
			err := r.value(depth)
			key = len(r.out)
			return err
		case string(name) == "value" && value < 0:
			err := r.value(depth)
			value = len(r.out)
			return err
		}
		return r.skip()
	})
	if err != nil {
		return err
	}
	if key < 0 || value < 0 {
		return fault(BadJSON, begin, "an entry of a table needs key and value")
	}
	if value < key { // the value came first
		first := slices.Clone(r.out[out:value])
		r.out = append(append(r.out[:out], r.out[value:key]...), first...)
	}
	return nil
}
