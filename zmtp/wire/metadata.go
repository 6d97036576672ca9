package wire

import (
	"encoding/binary"
	"slices"
	"strings"
)

// Names of the properties that ZMTP itself defines (RFC 37), and that ZAP does (RFC 27).
const (
	PropSocketType = "Socket-Type"
	PropIdentity   = "Identity"
	PropUserID     = "User-Id"
)

// Property is one name and value of a peer's metadata.
type Property struct {
	Name  string
	Value []byte
}

// Metadata are the properties of one side, in their order in READY or INITIATE.
type Metadata []Property

// Get returns the value of the first property with that name, in upper or lower case (RFC 37).
// "Routing-Id" is libzmq's name for Identity.
func (m Metadata) Get(name string) ([]byte, bool) {
	if strings.EqualFold(name, "Routing-Id") {
		name = PropIdentity
	}
	for _, p := range m {
		if strings.EqualFold(p.Name, name) {
			return p.Value, true
		}
	}
	return nil, false
}

// AppendProperty appends one property. The name must have 1 to 255 bytes.
func AppendProperty(dst []byte, name string, value []byte) []byte {
	dst = append(dst, byte(len(name)))
	dst = append(dst, name...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	return append(dst, value...)
}

// AppendMetadata appends all properties of m.
func AppendMetadata(dst []byte, m Metadata) []byte {
	for _, p := range m {
		dst = AppendProperty(dst, p.Name, p.Value)
	}
	return dst
}

// ParseMetadata parses metadata up to the end of b. A byte that is left over is an error. Names and
// values are copies. Duplicates are kept, in order.
func ParseMetadata(b []byte) (Metadata, error) {
	var m Metadata
	for len(b) > 0 {
		n := int(b[0])
		if len(b) < 1+n+4 {
			return nil, Errorf(MalformedReady, "property name of %d bytes overruns the metadata", n)
		}
		name := b[1 : 1+n]
		size := binary.BigEndian.Uint32(b[1+n:])
		b = b[1+n+4:]
		if uint64(size) > uint64(len(b)) {
			return nil, Errorf(MalformedReady, "property value of %d bytes overruns the metadata",
				size)
		}
		m = append(m, Property{Name: string(name), Value: append([]byte{}, b[:size]...)})
		b = b[size:]
	}
	return m, nil
}

// ParsePeerMetadata parses the metadata that a peer has sent. It leaves out User-Id, which only an
// authenticator may set.
func ParsePeerMetadata(b []byte) (Metadata, error) {
	m, err := ParseMetadata(b)
	return slices.DeleteFunc(m, func(p Property) bool {
		return strings.EqualFold(p.Name, PropUserID)
	}), err
}
