package event

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
		return value(r.Bool())
	case Count:
		return value(r.Count())
	case Int:
		return value(r.Int())
	case Real:
		return value(r.Real())
	case String:
		text, _ := r.Text()
		return string(text)
	case EnumValue:
		text, _ := r.Text()
		return Enum(text)
	case Address:
		return value(r.Addr())
	case Subnet:
		return value(r.Prefix())
	case PortNumber:
		return value(r.Port())
	case Timestamp:
		return value(r.Time())
	case Timespan:
		return value(r.Duration())
	case VectorOf:
		return Vector(r.list())
	case SetOf:
		return Set(r.list())
	case TableOf:
		table := make(Table, 0, r.Len())
		for key, value := range r.Entries() {
			table = append(table, Entry{key.Value(), value.Value()})
		}
		return table
	}
	return nil
}

// value leaves out that a value has the kind that was asked for.
func value[T any](v T, _ bool) any { return v }

// list returns the elements of a set or vector.
func (r Raw) list() []any {
	list := make([]any, 0, r.Len())
	for e := range r.Elements() {
		list = append(list, e.Value())
	}
	return list
}
