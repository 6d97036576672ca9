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
