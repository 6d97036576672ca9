package event

import (
	"fmt"
)

// Kind is the type of a value: the tag of broker-bin-v1 (broker/variant_tag.hh).
type Kind uint8

// The kinds in the order of their tags, which is the order of values of different kinds in a set.
const (
	None Kind = iota
	Bool
	Count
	Int
	Real
	String
	Address
	Subnet
	PortNumber
	Timestamp
	Timespan
	EnumValue
	SetOf
	TableOf
	VectorOf
	numKinds
)

// kindNames are the names in broker-json-v1.
var kindNames = [numKinds]string{
	"none", "boolean", "count", "integer", "real", "string", "address", "subnet", "port",
	"timestamp", "timespan", "enum-value", "set", "table", "vector",
}

// String returns the name that broker-json-v1 has for the kind.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Enum is a value of an enum: its full name in Zeek, such as Notice::ACTION_LOG.
type Enum string

// Proto is the transport protocol of a port.
type Proto uint8

// The protocols of ports.
const (
	ProtoUnknown Proto = iota
	ProtoTCP
	ProtoUDP
	ProtoICMP
)

var protoNames = [...]string{"?", "tcp", "udp", "icmp"}

// String returns "tcp", "udp", "icmp" or "?".
func (p Proto) String() string {
	if int(p) < len(protoNames) {
		return protoNames[p]
	}
	return protoNames[ProtoUnknown]
}

// Port is a value of type port.
type Port struct {
	Number uint16
	Proto  Proto
}

// String returns the port as in 80/tcp.
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Proto) }

// Values of which the Go type is not known beforehand. Each element is one of nil, bool, uint64,
// int64, float64, string, netip.Addr, netip.Prefix, Port, time.Time, time.Duration, Enum, Set,
// Table and Vector.
type (
	// Vector is a vector, a record or an index of several values.
	Vector []any
	// Set is a set, in any order.
	Set []any
	// Table is a table, in any order.
	Table []Entry
	// Entry is an entry of a Table.
	Entry struct{ Key, Value any }
)

// Value returns the value as Go values, see [Vector]. It copies everything.
func (r Raw) Value() any {
	switch r.Kind() {
	case Bool:
		v, _ := r.Bool()
		return v
	case Count:
		v, _ := r.Count()
		return v
	case Int:
		v, _ := r.Int()
		return v
	case Real:
		v, _ := r.Real()
		return v
	case String:
		v, _ := r.Text()
		return string(v)
	case EnumValue:
		v, _ := r.Text()
		return Enum(v)
	case Address:
		v, _ := r.Addr()
		return v
	case Subnet:
		v, _ := r.Prefix()
		return v
	case PortNumber:
		v, _ := r.Port()
		return v
	case Timestamp:
		v, _ := r.Time()
		return v
	case Timespan:
		v, _ := r.Duration()
		return v
	case SetOf, VectorOf:
		list := make([]any, 0, r.Len())
		for e := range r.Elements() {
			list = append(list, e.Value())
		}
		if r.Kind() == SetOf {
			return Set(list)
		}
		return Vector(list)
	case TableOf:
		table := make(Table, 0, r.Len())
		for key, value := range r.Entries() {
			table = append(table, Entry{key.Value(), value.Value()})
		}
		return table
	}
	return nil
}
