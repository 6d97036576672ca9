package zeek

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Type is the type tag of a field or value. The numbers are those of Zeek's TypeTag. Only the types
// that can occur in a log have a name here.
type Type int32

// The types of log columns. TypeSet and TypeVector are containers, the others atomic.
const (
	TypeVoid     Type = 0 // no type: the subtype of an atomic field
	TypeBool     Type = 1
	TypeInt      Type = 2
	TypeCount    Type = 3
	TypeDouble   Type = 4
	TypeTime     Type = 5
	TypeInterval Type = 6
	TypeString   Type = 7
	TypeEnum     Type = 9
	TypePort     Type = 10
	TypeAddr     Type = 11
	TypeSubnet   Type = 12
	TypeSet      Type = 14 // Zeek's TYPE_TABLE
	TypeFunc     Type = 17
	TypeFile     Type = 18
	TypeVector   Type = 19
)

// typeNames holds the names of the types as they stand in a log's #types line.
var typeNames = [...]string{
	TypeVoid:     "void",
	TypeBool:     "bool",
	TypeInt:      "int",
	TypeCount:    "count",
	TypeDouble:   "double",
	TypeTime:     "time",
	TypeInterval: "interval",
	TypeString:   "string",
	TypeEnum:     "enum",
	TypePort:     "port",
	TypeAddr:     "addr",
	TypeSubnet:   "subnet",
	TypeSet:      "set",
	TypeFunc:     "func",
	TypeFile:     "file",
	TypeVector:   "vector",
}

// String returns the type's name as in a log's #types line, or "type(N)" for a tag that cannot
// occur in a log.
func (t Type) String() string {
	if t >= 0 && int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return "type(" + strconv.Itoa(int(t)) + ")"
}

// isContainer reports whether t is a set or a vector.
func (t Type) isContainer() bool { return t == TypeSet || t == TypeVector }

// isAtomic reports whether values of t can be columns and elements.
func (t Type) isAtomic() bool {
	return t > TypeVoid && int(t) < len(typeNames) && typeNames[t] != "" && !t.isContainer()
}

// isText reports whether values of t are strings on the wire.
func (t Type) isText() bool {
	return t == TypeString || t == TypeEnum || t == TypeFile || t == TypeFunc
}

// Proto is the transport protocol of a port value. Logs do not show it.
type Proto int32

// The protocols of ports; any other number is refused.
const (
	ProtoUnknown Proto = 0
	ProtoTCP     Proto = 1
	ProtoUDP     Proto = 2
	ProtoICMP    Proto = 3
)

func (p Proto) valid() bool { return ProtoUnknown <= p && p <= ProtoICMP }

// Address families, and the prefix length of IPv4, on the wire.
const (
	familyV4 = 4
	familyV6 = 6
	// v4PrefixOffset is added to the prefix length of an IPv4 subnet, since Zeek counts it within
	// the IPv4-mapped part of IPv6.
	v4PrefixOffset = 96
)

// Field describes one column of a log.
type Field struct {
	// Name is the name of the column. The names of nested records' fields are joined by dots. It is
	// not empty, has no control characters and at most MaxName bytes.
	Name string
	// Type is the type of the column's values.
	Type Type
	// Subtype is the type of the elements of a set or vector. For other types it has no meaning,
	// and is TypeVoid in real traffic.
	Subtype Type
	// Optional says that the field has Zeek's &optional attribute. Values of other fields may be
	// unset too.
	Optional bool
}

// TypeName returns the type as in a log's #types line: "count", "set[addr]".
func (f Field) TypeName() string {
	if f.Type.isContainer() {
		return f.Type.String() + "[" + f.Subtype.String() + "]"
	}
	return f.Type.String()
}

// loggable reports whether a log can have the column f.
func (f Field) loggable() bool {
	return f.Type.isAtomic() || f.Type.isContainer() && f.Subtype.isAtomic()
}

// Schema is all that a batch says about its records: their origin, their destination and their
// columns. Treat a Schema in use as immutable; then goroutines may share it.
type Schema struct {
	// All names have at most MaxName bytes.
	Stream string // full name of the stream's enum value, "Conn::LOG"; not empty
	Writer string // full name of the writer's enum value, "Log::WRITER_ASCII"; not empty
	Filter string // name of the filter on the sender, "default"
	// Path of the log, "conn". The sender chooses it freely: confine a file name made from it.
	Path   string
	Fields []Field // at least one
}

// Validate refuses a schema that cannot be sent or rendered. ParseSchema returns valid ones only.
func (s *Schema) Validate() error {
	if s.Stream == "" || s.Writer == "" {
		return errors.New("zeek: a schema needs the full names of its stream and writer, such as " +
			"Conn::LOG and Log::WRITER_ASCII")
	}
	if len(s.Fields) == 0 {
		return errors.New("zeek: a schema needs at least one field")
	}
	for _, name := range [...]string{s.Stream, s.Writer, s.Filter, s.Path} {
		if len(name) > MaxName {
			return fmt.Errorf("zeek: %s",
				nameTooLong(fmt.Sprintf("the name %.40q", name), len(name)))
		}
	}
	for i, f := range s.Fields {
		if len(f.Name) > MaxName {
			return fmt.Errorf("zeek: field %d: %s", i,
				nameTooLong(fmt.Sprintf("the name %.40q", f.Name), len(f.Name)))
		}
		if !validFieldName(f.Name) {
			return fmt.Errorf("zeek: field %d: the name %q is empty or has control characters", i,
				f.Name)
		}
		if !f.loggable() {
			return fmt.Errorf("zeek: field %q: %s cannot be logged", f.Name, f.TypeName())
		}
	}
	return nil
}

// hasPathField reports whether the path is an additional column before those of s.
func (s *Schema) hasPathField(o *Options) bool {
	return o.PathField != "" && !slices.ContainsFunc(s.Fields,
		func(f Field) bool { return f.Name == o.PathField })
}

// SameColumns reports whether s and o have the same columns: names, types and subtypes, in the same
// order. Then one file can hold the records of both.
func (s *Schema) SameColumns(o *Schema) bool {
	if len(s.Fields) != len(o.Fields) {
		return false
	}
	for i, f := range s.Fields {
		g := o.Fields[i]
		if f.Name != g.Name || f.Type != g.Type || f.Subtype != g.Subtype {
			return false
		}
	}
	return true
}
