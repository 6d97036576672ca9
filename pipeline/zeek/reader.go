package zeek

import "encoding/binary"

// The smallest sizes on the wire. They bound counts before anything is allocated or iterated.
const (
	minFieldSize = 1 + 4 + 4 + 4 + 1 // no secondary name, empty name, type, subtype, optional
	minValueSize = 4 + 4 + 1         // type, subtype, unset
)

// reader takes the primitives of the batch encoding off the front of b. It copies nothing. A method
// that fails leaves the faulty part at the front of b.
type reader struct{ b []byte }

func (r *reader) bool() (bool, Reason) {
	if len(r.b) < 1 {
		return false, ReasonTruncated
	}
	v := r.b[0] == 1
	r.b = r.b[1:]
	return v, 0
}

func (r *reader) uint32() (uint32, Reason) {
	if len(r.b) < 4 {
		return 0, ReasonTruncated
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v, 0
}

func (r *reader) string() ([]byte, Reason) {
	if len(r.b) < 4 {
		return nil, ReasonTruncated
	}
	n := int(int32(binary.BigEndian.Uint32(r.b)))
	if n < 0 {
		return nil, ReasonBadLength
	}
	if n > len(r.b)-4 {
		return nil, ReasonTruncated
	}
	s := r.b[4 : 4+n : 4+n]
	r.b = r.b[4+n:]
	return s, 0
}

// rawValue is one value as it lies in the batch.
type rawValue struct {
	typ     Type
	present bool
	num     uint64 // number, float bits, port, prefix length on the wire, or element count
	proto   Proto  // of a port
	data    []byte // string, or the 4 or 16 bytes of an address; aliases the batch
}

// head reads the fields with which every value begins.
func (r *reader) head(v *rawValue) Reason {
	if len(r.b) < minValueSize {
		return ReasonTruncated
	}
	v.typ = Type(binary.BigEndian.Uint32(r.b))
	v.present = r.b[8] == 1
	r.b = r.b[9:]
	return 0
}

// payload reads the rest of a value that is present. Of a container it reads only the number of
// elements, which follow.
func (r *reader) payload(v *rawValue) Reason {
	b := r.b
	switch v.typ {
	case TypeBool, TypeInt, TypeCount, TypeDouble, TypeTime, TypeInterval:
		if len(b) < 8 {
			return ReasonTruncated
		}
		v.num = binary.BigEndian.Uint64(b)
		r.b = b[8:]
	case TypeString, TypeEnum, TypeFile, TypeFunc:
		var reason Reason
		v.data, reason = r.string()
		return reason
	case TypePort:
		if len(b) < 12 {
			return ReasonTruncated
		}
		v.num = binary.BigEndian.Uint64(b)
		v.proto = Proto(binary.BigEndian.Uint32(b[8:]))
		if !v.proto.valid() {
			return ReasonBadValue
		}
		r.b = b[12:]
	case TypeAddr:
		return r.address(v)
	case TypeSubnet:
		if len(b) < 1 {
			return ReasonTruncated
		}
		v.num = uint64(b[0])
		r.b = b[1:]
		return r.address(v)
	case TypeSet, TypeVector:
		if len(b) < 8 {
			return ReasonTruncated
		}
		v.num = binary.BigEndian.Uint64(b)
		if v.num > uint64(len(b)-8)/minValueSize { // a negative count is a huge one
			return ReasonBadCount
		}
		r.b = b[8:]
	default:
		return ReasonBadType
	}
	return 0
}

func (r *reader) address(v *rawValue) Reason {
	if len(r.b) < 1 {
		return ReasonTruncated
	}
	n := 1
	switch r.b[0] {
	case familyV4:
		n += 4
	case familyV6:
		n += 16
	default:
		return ReasonBadValue
	}
	if len(r.b) < n {
		return ReasonTruncated
	}
	v.data = r.b[1:n:n]
	r.b = r.b[n:]
	return 0
}

// column reads a value of a record, of a container only the beginning. The type must be that of the
// column, also for an unset value.
func (r *reader) column(v *rawValue, want Type) Reason {
	if reason := r.head(v); reason != 0 {
		return reason
	}
	if v.typ != want {
		return ReasonTypeMismatch
	}
	if !v.present {
		return 0
	}
	return r.payload(v)
}

// commonAddress returns the address at the front of b, and the bytes behind it. It returns nil for
// a faulty one. b has at least 8 bytes.
func commonAddress(b []byte) (a, rest []byte) {
	switch {
	case b[0] == familyV4:
		return b[1:5], b[5:]
	case b[0] == familyV6 && len(b) >= 17:
		return b[1:17], b[17:]
	}
	return nil, nil
}

// commonPort returns the port at the front of b, and the bytes behind it. It returns no rest for a
// faulty one. b has at least 8 bytes.
func commonPort(b []byte) (number uint64, rest []byte) {
	if len(b) < 12 || !Proto(binary.BigEndian.Uint32(b[8:])).valid() {
		return 0, nil
	}
	return binary.BigEndian.Uint64(b), b[12:]
}

// element reads a value inside a container. It may have any atomic type. The type of an unset
// element does not matter.
func (r *reader) element(v *rawValue) Reason {
	if reason := r.head(v); reason != 0 || !v.present {
		return reason
	}
	if v.typ.isContainer() {
		return ReasonNesting
	}
	return r.payload(v)
}

// skip reads a value of a record, elements included, and reports the fault in it.
func (r *reader) skip(column int, want Type) *fault {
	var v rawValue
	at := r.b
	if reason := r.column(&v, want); reason != 0 {
		return &fault{reason: reason, column: column, at: at, typ: v.typ}
	}
	if !v.present || !v.typ.isContainer() {
		return nil
	}
	for n := v.num; n > 0; n-- {
		at := r.b
		if reason := r.element(&v); reason != 0 {
			return &fault{reason: reason, column: column, at: at, typ: v.typ}
		}
	}
	return nil
}

// fault describes a faulty value of a record. nil stands for none: returning a nil pointer costs
// less than returning an empty struct.
type fault struct {
	reason Reason
	column int
	at     []byte // the rest of the batch, from the faulty value
	typ    Type   // the type in the batch
	// err is the error of the function that takes the text, or an error of the whole batch. If it
	// is set, the other fields do not count.
	err error
}
