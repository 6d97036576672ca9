package store

import (
	"encoding/binary"
	"math"
	"math/bits"

	"zmtpd/forwarder/event"
)

// Make returns a Go value as a key or a value of a store. See package event for the types.
func Make(v any) (event.Raw, error) {
	r, err := event.Append(nil, v)
	if err != nil {
		return nil, Errorf(InvalidData, "%v", err)
	}
	return canonical(r)
}

// Text returns a string as a key or a value of a store.
func Text[T string | []byte](text T) event.Raw {
	r := make(event.Raw, 0, 1+binary.MaxVarintLen32+len(text))
	return append(binary.AppendUvarint(append(r, byte(event.String)), uint64(len(text))), text...)
}

// canonical returns a value in the one form in which equal values have equal bytes. It is a copy if
// the value had another form.
func canonical(r event.Raw) (event.Raw, error) {
	switch r.Kind() {
	case event.Count, event.Int, event.Address, event.PortNumber, event.Timestamp, event.Timespan:
		return r, nil
	case event.String, event.EnumValue:
		text, _ := r.Text()
		if len(r)-len(text) == 1+uvarintSize(len(text)) {
			return r, nil
		}
	}
	out, err := event.Append(nil, r.Value())
	if err != nil {
		return nil, Errorf(InvalidData, "%v", err)
	}
	return out, nil
}

func uvarintSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// add returns the sum of old and x as Broker defines it (broker/detail/appliers.hh): for numbers,
// intervals and strings their sum; a time later by an interval; a vector, set or table with one
// more element. The element of a table is a vector of key and value.
func add(old, x event.Raw) (event.Raw, error) {
	switch old.Kind() {
	case event.Timestamp:
		return shift(old, x, 1)
	case event.String:
		more, ok := x.Text()
		if x.Kind() != event.String || !ok {
			break
		}
		text, _ := old.Text()
		if len(text)+len(more) > math.MaxInt32 {
			return nil, Errorf(InvalidData, "the string would have %d bytes", len(text)+len(more))
		}
		return Text(append(text[:len(text):len(text)], more...)), nil
	case event.VectorOf:
		return container(old, len(old), len(old), 1, x)
	case event.SetOf:
		at, end := find(old, x)
		if end > at {
			return old, nil
		}
		return container(old, at, end, 1, x)
	case event.TableOf:
		if x.Kind() != event.VectorOf {
			break
		}
		if x.Len() != 2 {
			return nil, Errorf(InvalidData, "an element of a table is a vector of key and value")
		}
		at, end := find(old, element(x, 0))
		n := 1
		if end > at {
			n = 0
		}
		return container(old, at, end, n, element(x, 0), element(x, 1))
	default:
		return sum(old, x, false)
	}
	return nil, clash("add", x, old)
}

// subtract undoes add: an element is taken out of a set or table, the last one out of a vector.
func subtract(old, x event.Raw) (event.Raw, error) {
	switch old.Kind() {
	case event.Timestamp:
		return shift(old, x, -1)
	case event.VectorOf:
		n := old.Len()
		if n == 0 {
			return old, nil
		}
		last := element(old, n-1)
		return container(old, len(old)-len(last), len(old), -1)
	case event.SetOf, event.TableOf:
		at, end := find(old, x)
		if end == at {
			return old, nil
		}
		return container(old, at, end, -1)
	}
	return sum(old, x, true)
}

func clash(verb string, x, old event.Raw) error {
	return Errorf(TypeClash, "cannot %s a value of type %v, the entry has the type %v", verb,
		x.Kind(), old.Kind())
}

// sum adds or subtracts numbers and intervals of the same type.
func sum(old, x event.Raw, minus bool) (event.Raw, error) {
	k := old.Kind()
	verb := "add"
	if minus {
		verb = "subtract"
	}
	if x.Kind() != k {
		return nil, clash(verb, x, old)
	}
	switch k {
	case event.Count:
		a, _ := old.Count()
		b, _ := x.Count()
		total, carry := bits.Add64(a, b, 0)
		if minus {
			total, carry = bits.Sub64(a, b, 0)
		}
		if carry != 0 {
			return nil, outOfRange(verb, old, x)
		}
		return fixed(k, total), nil
	case event.Int, event.Timespan:
		a, b := signed(old), signed(x)
		total, ok := sumSigned(a, b, minus)
		if !ok {
			return nil, outOfRange(verb, old, x)
		}
		return fixed(k, uint64(total)), nil
	case event.Real:
		a, _ := old.Real()
		b, _ := x.Real()
		if minus {
			b = -b
		}
		return event.Append(nil, a+b)
	}
	return nil, clash(verb, x, old)
}

// shift adds an interval to a time, or subtracts it.
func shift(old, x event.Raw, sign int) (event.Raw, error) {
	verb := "add"
	if sign < 0 {
		verb = "subtract"
	}
	if x.Kind() != event.Timespan {
		return nil, clash(verb, x, old)
	}
	total, ok := sumSigned(signed(old), signed(x), sign < 0)
	if !ok {
		return nil, outOfRange(verb, old, x)
	}
	return fixed(event.Timestamp, uint64(total)), nil
}

func outOfRange(verb string, old, x event.Raw) error {
	return Errorf(InvalidData, "cannot %s %s: the entry is %s, and the result does not fit a %v", verb,
		event.AppendText(nil, x), event.AppendText(nil, old), old.Kind())
}

func sumSigned(a, b int64, minus bool) (int64, bool) {
	if minus {
		total := a - b
		return total, (total < a) == (b > 0)
	}
	total := a + b
	return total, (total > a) == (b > 0)
}

// signed returns the payload of a value of 64 bits with a sign.
func signed(r event.Raw) int64 { return int64(binary.BigEndian.Uint64(r[1:])) }

func fixed(k event.Kind, v uint64) event.Raw {
	return binary.BigEndian.AppendUint64(event.Raw{byte(k)}, v)
}

// Empty returns the value from which an Add to an absent entry begins: an empty container or
// string, or zero.
func Empty(k event.Kind) (event.Raw, error) {
	switch k {
	case event.Count, event.Int, event.Real, event.Timestamp, event.Timespan:
		return fixed(k, 0), nil
	case event.String, event.SetOf, event.TableOf, event.VectorOf:
		return event.Raw{byte(k), 0}, nil
	}
	return nil, Errorf(TypeClash, "nothing can be added to a value of type %v", k)
}

// find returns where the element of a set, or the entry with a key of a table, begins and ends. If
// there is none, both are the place where it belongs.
func find(r, x event.Raw) (at, end int) {
	at = 1 + uvarintSize(r.Len())
	visit := func(key event.Raw, size int) (more bool) {
		c := event.Compare(key, x)
		switch {
		case c < 0:
			at += size
			end = at
			return true
		case c == 0:
			end = at + size
		}
		return false
	}
	end = at
	if r.Kind() == event.TableOf {
		for key, value := range r.Entries() {
			if !visit(key, len(key)+len(value)) {
				break
			}
		}
		return at, end
	}
	for e := range r.Elements() {
		if !visit(e, len(e)) {
			break
		}
	}
	return at, end
}

// container returns a container of n more elements in which parts stand in place of r[at:end].
func container(r event.Raw, at, end, n int, parts ...event.Raw) (event.Raw, error) {
	head, size, nested := 1+uvarintSize(r.Len()), len(r)+2, false
	for _, p := range parts {
		size += len(p)
		nested = nested || p.Kind() >= event.SetOf
	}
	out := make(event.Raw, 0, size)
	out = binary.AppendUvarint(append(out, r[0]), uint64(r.Len()+n))
	out = append(out, r[head:at]...)
	for _, p := range parts {
		out = append(out, p...)
	}
	out = append(out, r[end:]...)
	if nested {
		if _, err := event.Parse(out); err != nil { // too deep
			return nil, Errorf(InvalidData, "%v", err)
		}
	}
	return out, nil
}

func element(r event.Raw, i int) event.Raw {
	for e := range r.Elements() {
		if i == 0 {
			return e
		}
		i--
	}
	return nil
}

// Index returns a part of a value as Broker does (broker/detail/appliers.hh): of a table the value
// of a key, of a vector an element, of a set whether it has an element, of all others themselves.
func Index(value, index event.Raw) (event.Raw, error) {
	index, err := canonical(index)
	if err != nil {
		return nil, err
	}
	switch value.Kind() {
	case event.VectorOf:
		i, ok := index.Count()
		if n, isInt := index.Int(); isInt && n >= 0 {
			i, ok = uint64(n), true
		}
		if !ok {
			return nil, Errorf(TypeClash, "the index of a vector is a count, not a value of type %v",
				index.Kind())
		}
		if i >= uint64(value.Len()) {
			return nil, Errorf(NoSuchKey, "the vector has %d elements", value.Len())
		}
		return element(value, int(i)), nil
	case event.SetOf:
		at, end := find(value, index)
		return event.Append(nil, end > at)
	case event.TableOf:
		at, end := find(value, index)
		if end == at {
			return nil, Errorf(NoSuchKey, "the table has no such key")
		}
		return value[at+len(index) : end : end], nil
	}
	return value, nil
}
