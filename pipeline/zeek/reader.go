package zeek

import "encoding/binary"

// Least sizes on the wire; they bound counts before anything is allocated or looped over.
const (
	minFieldSize = 1 + 4 + 4 + 4 + 1 // no secondary name, empty name, type, subtype, optional
	minValueSize = 4 + 4 + 1         // type, subtype, unset
)

// reader takes the primitives of the batch encoding off the front of b. Nothing is
// copied. A method that fails leaves b where the part that is wrong begins.
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
	num     uint64 // number, bits of a float, port number, prefix length as sent, element count
	proto   Proto  // of a port
	data    []byte // string, or the 4 or 16 bytes of an address; aliases the batch
}

// head reads what every value begins with.
func (r *reader) head(v *rawValue) Reason {
	if len(r.b) < minValueSize {
		return ReasonTruncated
	}
	v.typ = Type(binary.BigEndian.Uint32(r.b))
	v.present = r.b[8] == 1
	r.b = r.b[9:]
	return 0
}

// payload reads the rest of a value that is present. Of a container it reads only the
// count; that many values follow.
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

// column reads a value of a record up to its payload, or all of it unless it is a
// container. Its type must be that of the column, set or not.
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

// commonAddress returns the address that b, of at least 8 bytes, begins with, and what follows; nil
// if it is not one.
func commonAddress(b []byte) (a, rest []byte) {
	switch {
	case b[0] == familyV4:
		return b[1:5], b[5:]
	case b[0] == familyV6 && len(b) >= 17:
		return b[1:17], b[17:]
	}
	return nil, nil
}

// commonPort returns the port that b, of at least 8 bytes, begins with, and what follows; no rest
// if it is not one.
func commonPort(b []byte) (number uint64, rest []byte) {
	if len(b) < 12 || !Proto(binary.BigEndian.Uint32(b[8:])).valid() {
		return 0, nil
	}
	return binary.BigEndian.Uint64(b), b[12:]
}

// element reads a value inside a container. It may have any atomic type; the type that
// an unset one claims does not matter.
func (r *reader) element(v *rawValue) Reason {
	if reason := r.head(v); reason != 0 || !v.present {
		return reason
	}
	if v.typ.isContainer() {
		return ReasonNesting
	}
	return r.payload(v)
}

// skip reads a value of a record, elements included, and reports what is wrong with it.
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

// fault is what a loop over the values of a record found wrong. Where nothing is, it is nil, which
// costs less to return than an empty one.
type fault struct {
	reason Reason
	column int
	at     []byte // the rest of the batch from the value that is wrong
	typ    Type   // that the value claims
	// from the function that takes the text, or of the batch as a whole; it outweighs the rest
	err error
}
