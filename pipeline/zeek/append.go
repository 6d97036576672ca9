package zeek

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
)

// The functions below append a batch value by value, for callers without a [Value]. A batch is the
// header (AppendSchema), the number of records as a big-endian u32, and the values of the records
// row by row. The caller must give each value the type of its field, and each element the subtype
// of its field. ParseBatch does not check that, and a Renderer refuses a value of another type.

// AppendSchema appends the header of a batch, in the form that ParseSchema reads. It fails where
// Schema.Validate fails, and then returns dst unchanged.
func AppendSchema(dst []byte, s *Schema) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return dst, err
	}
	for _, name := range [...]string{s.Stream, s.Writer, s.Filter, s.Path} {
		dst = appendText(dst, name)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.Fields)))
	for _, f := range s.Fields {
		dst = append(dst, 0) // no secondary name
		dst = appendText(dst, f.Name)
		dst = binary.BigEndian.AppendUint32(dst, uint32(f.Type))
		dst = binary.BigEndian.AppendUint32(dst, uint32(f.Subtype))
		dst = appendBool(dst, f.Optional)
	}
	return dst, nil
}

// AppendUnsetValue appends an unset value of any type. As an element of a vector it is a hole.
func AppendUnsetValue(dst []byte, t Type) []byte { return appendValueHead(dst, t, false) }

// AppendNumberValue appends a bool, int, count, double, time or interval; see Value.Num.
func AppendNumberValue(dst []byte, t Type, num uint64) []byte {
	return binary.BigEndian.AppendUint64(appendValueHead(dst, t, true), num)
}

// AppendTextValue appends a string, enum, file or func of any bytes. It refuses a text of more than
// 2³¹-1 bytes, and then returns dst unchanged.
func AppendTextValue[S ~string | ~[]byte](dst []byte, t Type, text S) ([]byte, error) {
	if len(text) > math.MaxInt32 {
		return dst, fmt.Errorf("a text of %d bytes cannot be sent, the limit is %d", len(text),
			math.MaxInt32)
	}
	return appendText(appendValueHead(dst, t, true), text), nil
}

// AppendPortValue appends a port. It refuses a protocol that does not exist, and then returns dst
// unchanged.
func AppendPortValue(dst []byte, number uint16, p Proto) ([]byte, error) {
	return appendPort(dst, uint64(number), p)
}

// AppendAddrValue appends an address. It refuses an invalid one and, since Zeek's addresses have no
// zone, one with a zone. Then it returns dst unchanged.
func AppendAddrValue(dst []byte, a netip.Addr) ([]byte, error) {
	if err := checkAddress(a); err != nil {
		return dst, err
	}
	return appendAddress(appendValueHead(dst, TypeAddr, true), a), nil
}

// AppendSubnetValue appends a subnet, including the bits behind the prefix. It refuses an invalid
// one, and then returns dst unchanged.
func AppendSubnetValue(dst []byte, p netip.Prefix) ([]byte, error) {
	if !p.IsValid() {
		return dst,
			fmt.Errorf("%v cannot be sent: give a subnet whose prefix is no longer than its address", p)
	}
	v := Subnet(p)
	return appendSubnetNumber(dst, v.Num, v.Addr)
}

// AppendContainerValue appends the beginning of a set or vector. The caller appends the given
// number of elements next, none of them a container.
func AppendContainerValue(dst []byte, t Type, elements int) []byte {
	return AppendNumberValue(dst, t, uint64(elements))
}

func appendValueHead(dst []byte, t Type, present bool) []byte {
	// the type, and the subtype, for which Zeek sends 0 even in containers
	dst = binary.BigEndian.AppendUint64(dst, uint64(uint32(t))<<32)
	return appendBool(dst, present)
}

func appendPort(dst []byte, number uint64, p Proto) ([]byte, error) {
	if !p.valid() {
		return dst, fmt.Errorf("a port cannot have protocol %d", p)
	}
	dst = AppendNumberValue(dst, TypePort, number)
	return binary.BigEndian.AppendUint32(dst, uint32(p)), nil
}

// appendSubnetNumber appends a subnet. The length is the number on the wire: for IPv4, the prefix
// length plus 96.
func appendSubnetNumber(dst []byte, length uint64, a netip.Addr) ([]byte, error) {
	if err := checkAddress(a); err != nil {
		return dst, err
	}
	if length > math.MaxUint8 {
		return dst, fmt.Errorf("a subnet cannot have a prefix of %d bits", length)
	}
	return appendAddress(append(appendValueHead(dst, TypeSubnet, true), byte(length)), a), nil
}

func checkAddress(a netip.Addr) error {
	if !a.IsValid() || a.Zone() != "" {
		return fmt.Errorf("%v cannot be sent: give an IPv4 or IPv6 address without zone", a)
	}
	return nil
}

func appendAddress(dst []byte, a netip.Addr) []byte {
	if a.Is4() {
		b := a.As4()
		return append(append(dst, familyV4), b[:]...)
	}
	b := a.As16()
	return append(append(dst, familyV6), b[:]...)
}

func appendText[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}
