// Package event reads and writes the events of a Zeek cluster: the last part of a message on the
// event bus, in either of Zeek's two formats.
//
// broker-bin-v1 is Zeek's default: a tag byte and a payload for each value, integers in network
// byte order. [Raw] is a value in this form. Its methods read it in place, without memory of their
// own. [Parse] checks a value from the network; everything that reads a Raw relies on that check.
//
// broker-json-v1 is what Zeek's WebSocket API speaks, and what a cluster may use instead.
// [AppendJSON] and [ParseJSON] convert between the two.
//
// Go values become Zeek values by their types ([Append]), and back ([Raw.Decode], [Raw.Value]):
//
//	bool                      bool
//	uint, uint8 to uint64     count
//	int, int8 to int64        int
//	float32, float64          double
//	string, []byte            string
//	Enum                      enum
//	netip.Addr, netip.Prefix  addr, subnet
//	Port                      port
//	time.Time, time.Duration  time, interval
//	slice, array, Vector      vector
//	map[K]struct{}, Set       set
//	map[K]V, Table            table; a struct as K is an index of several values
//	struct                    record: all exported fields, in order
//	pointer, nil              an &optional field, or none
//	any                       any
//
// Zeek tells count and int apart, and so does this package: a uint64 cannot be read from an int.
// Tags change how a field is treated:
//
//	`zeek:"-"`          the field is not part of the record
//	`zeek:",optional"`  the zero value stands for a field that is not set
//	`zeek:",enum"`      a string is an enum
//	`zeek:",set"`       a slice is a set
//
// An event is a value of a fixed shape: [ParseEvent] and [AppendEvent].
//
// For people there is a text form of values, [AppendText], JSON without types, [AppendPlainJSON],
// and a way to write a value on a command line, [ParseArgument].
package event
