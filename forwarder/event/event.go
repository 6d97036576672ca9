package event

import (
	"fmt"
	"reflect"
	"time"
)

// Names of the two formats on the wire (Zeek's src/cluster/serializer/broker/Plugin.cc).
const (
	BinaryName = "broker-bin-v1"
	JSONName   = "broker-json-v1"
)

// What every event has in front of its name (broker/zeek.hh).
const (
	version     = 1
	messageType = 1 // Event
)

// NetworkTimestamp is the id of the metadata that has the network time of an event
// (EventMetadata::NETWORK_TIMESTAMP). Zeek reserves ids below 200.
const NetworkTimestamp = 1

// Event is an event whose values are not decoded. It refers to the memory of the message.
type Event struct {
	Name []byte // as in Module::event
	Args Raw    // a vector
	// Metadata is a vector of vectors of two, an id and a value. It is of kind None if there is
	// none.
	Metadata Raw
}

// ParseEvent reads an event in broker-bin-v1. It refuses everything that has another shape than
// Zeek's own events, also what Zeek would take, or die of. It does not allocate. Errors are of type
// *[Error].
func ParseEvent(b []byte) (Event, error) {
	r, err := Parse(b)
	if err != nil {
		return Event{}, err
	}
	return AsEvent(r)
}

// AsEvent is [ParseEvent] for a value that is parsed already.
func AsEvent(r Raw) (Event, error) {
	var outer, inner [3]Raw
	if n := elements(r, outer[:]); n != 3 {
		return Event{}, fault(BadShape, 0, "a %v of %d instead of a vector of 3", r.Kind(), r.Len())
	}
	if v, ok := outer[0].Count(); !ok || v != version {
		return Event{}, fault(BadShape, 0, "the protocol version is %v", outer[0])
	}
	if v, ok := outer[1].Count(); !ok || v != messageType {
		return Event{}, fault(BadShape, 0, "the message type is %v", outer[1])
	}
	n := elements(outer[2], inner[:])
	if n < 2 || n > 3 {
		return Event{}, fault(BadShape, 0, "a %v of %d instead of name, arguments and metadata",
			outer[2].Kind(), outer[2].Len())
	}
	e := Event{Args: inner[1], Metadata: inner[2]}
	e.Name, _ = inner[0].Text()
	if inner[0].Kind() != String || len(e.Name) == 0 {
		return Event{}, fault(BadShape, 0, "the name is a %v of %d bytes", inner[0].Kind(),
			len(e.Name))
	}
	if e.Args.Kind() != VectorOf {
		return Event{}, fault(BadShape, 0, "the arguments are a %v", e.Args.Kind())
	}
	if n == 3 {
		if e.Metadata.Kind() != VectorOf {
			return Event{}, fault(BadShape, 0, "the metadata are a %v", e.Metadata.Kind())
		}
		for entry := range e.Metadata.Elements() {
			var two [2]Raw
			if elements(entry, two[:]) != 2 || two[0].Kind() != Count {
				return Event{}, fault(BadShape, 0, "an entry of the metadata is %v", entry)
			}
		}
	}
	return e, nil
}

// elements stores the elements of a vector in dst, as many as fit, and returns how many there are,
// 0 if r is no vector.
func elements(r Raw, dst []Raw) int {
	if r.Kind() != VectorOf {
		return 0
	}
	i := 0
	for e := range r.Elements() {
		if i < len(dst) {
			dst[i] = e
		} else {
			break
		}
		i++
	}
	return r.Len()
}

// Meta returns the metadata with an id, of kind None if there are none.
func (e Event) Meta(id uint64) Raw {
	for entry := range e.Metadata.Elements() {
		var two [2]Raw
		elements(entry, two[:])
		if n, _ := two[0].Count(); n == id {
			return two[1]
		}
	}
	return nil
}

// NetworkTime returns the network time that the event came with, and whether it came with one.
func (e Event) NetworkTime() (time.Time, bool) { return e.Meta(NetworkTimestamp).Time() }

// Decode stores the arguments in what dst point to, see [Raw.Decode]. There must be as many.
func (e Event) Decode(dst ...any) error {
	if n := e.Args.Len(); n != len(dst) {
		return fmt.Errorf("event: %s has %d arguments, not %d", e.Name, n, len(dst))
	}
	i := 0
	for arg := range e.Args.Elements() {
		if err := arg.Decode(dst[i]); err != nil {
			return fmt.Errorf("%w, in argument %d of %s", err, i+1, e.Name)
		}
		i++
	}
	return nil
}

// DecodeArgs stores the arguments in the fields of the struct that dst points to, in order. There
// must be as many of one as of the other.
func (e Event) DecodeArgs(dst any) error {
	t := reflect.TypeOf(dst)
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("event: DecodeArgs needs a pointer to a struct, not a %T", dst)
	}
	fields, err := fieldsOf(t.Elem())
	if err != nil {
		return err
	}
	if n := e.Args.Len(); n != len(fields) {
		return fmt.Errorf("event: %s has %d arguments, not %d", e.Name, n, len(fields))
	}
	return e.Args.Decode(dst)
}

// Metadata is one entry of an event's metadata.
type Metadata struct {
	ID    uint64
	Value any
}

// AppendEvent appends an event in broker-bin-v1, without metadata if meta is empty, as Zeek does.
// The arguments must have the types that the event is declared with in Zeek.
func AppendEvent(dst []byte, name string, args []any, meta ...Metadata) ([]byte, error) {
	if name == "" {
		return dst, fmt.Errorf("event: an event has no name")
	}
	inner := Vector{name, Vector(args)}
	if len(meta) > 0 {
		entries := make(Vector, len(meta))
		for i, m := range meta {
			entries[i] = Vector{m.ID, m.Value}
		}
		inner = append(inner, entries)
	}
	return Append(dst, Vector{uint64(version), uint64(messageType), inner})
}
