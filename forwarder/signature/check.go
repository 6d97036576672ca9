package signature

import (
	"fmt"

	"zmtpd/forwarder/event"
)

// kind is what a type of Zeek is.
type kind uint8

const (
	anyType kind = iota
	boolType
	countType
	intType
	doubleType
	timeType
	intervalType
	stringType
	portType
	addrType
	subnetType
	patternType
	fileType
	enumType
	setType
	tableType
	vectorType
	recordType
	functionType
	opaqueType
	namedType
)

// simple are the types that are one word.
var simple = map[string]kind{
	"any": anyType, "bool": boolType, "count": countType, "int": intType, "double": doubleType,
	"time": timeType, "interval": intervalType, "string": stringType, "port": portType,
	"addr": addrType, "subnet": subnetType, "pattern": patternType, "file": fileType,
}

// kinds are how the values of types travel (broker/Data.cc in Zeek).
var kinds = map[kind]event.Kind{
	boolType: event.Bool, countType: event.Count, intType: event.Int, doubleType: event.Real,
	timeType: event.Timestamp, intervalType: event.Timespan, stringType: event.String,
	portType: event.PortNumber, addrType: event.Address, subnetType: event.Subnet,
	enumType: event.EnumValue, setType: event.SetOf, tableType: event.TableOf,
	vectorType: event.VectorOf, recordType: event.VectorOf, patternType: event.VectorOf,
	functionType: event.VectorOf, opaqueType: event.VectorOf,
}

// zeekType is a type of Zeek.
type zeekType struct {
	kind   kind
	index  []*zeekType     // of a set or table
	yield  *zeekType       // of a table or vector
	fields []field         // of a record
	labels map[string]bool // of an enum
	name   string          // of a namedType
	module string          // in which it stands
	target *zeekType       // of a namedType, nil if it is not declared
}

// Check returns why no Zeek node could take e, or nil.
func (s *Set) Check(e event.Event) error {
	if s == nil {
		return nil
	}
	args, ok := s.events[string(e.Name)]
	if !ok {
		return fmt.Errorf("event %.80q is not declared", e.Name)
	}
	if n := e.Args.Len(); n != len(args) {
		return fmt.Errorf("event %s has %d arguments, and is declared with %d", e.Name, n,
			len(args))
	}
	i := 0
	for arg := range e.Args.Elements() {
		if err := args[i].check(arg, 0); err != nil {
			return fmt.Errorf("event %s, argument %d: %w", e.Name, i+1, err)
		}
		i++
	}
	return nil
}

// check returns why a value is not of the type. depth is how often a name was followed without a
// step into the value.
func (t *zeekType) check(r event.Raw, depth int) error {
	switch t.kind {
	case anyType:
		return nil
	case namedType:
		if t.target == nil || depth > maxNesting {
			return nil
		}
		return t.target.check(r, depth+1)
	case fileType:
		return fmt.Errorf("a file: the receiver would open it for writing")
	}
	if want := kinds[t.kind]; r.Kind() != want {
		return fmt.Errorf("a %v instead of a %v", r.Kind(), want)
	}
	switch t.kind {
	case enumType:
		if label, _ := r.Text(); !t.labels[string(label)] {
			return fmt.Errorf("%.80q is no label of the enum", label)
		}
	case setType:
		for e := range r.Elements() {
			if err := t.checkIndex(e); err != nil {
				return err
			}
		}
	case tableType:
		for key, value := range r.Entries() {
			if err := t.checkIndex(key); err != nil {
				return err
			}
			if err := t.yield.check(value, 0); err != nil {
				return err
			}
		}
	case vectorType:
		for e := range r.Elements() {
			if err := t.yield.check(e, 0); err != nil {
				return err
			}
		}
	case recordType:
		return t.checkRecord(r)
	case patternType:
		for e := range r.Elements() {
			if r.Len() != 2 || e.Kind() != event.String {
				return fmt.Errorf("a pattern is not two strings")
			}
		}
	}
	return nil
}

// checkIndex checks an element of a set or a key of a table. Several values are a vector.
func (t *zeekType) checkIndex(r event.Raw) error {
	if len(t.index) == 1 {
		return t.index[0].check(r, 0)
	}
	if r.Kind() != event.VectorOf || r.Len() != len(t.index) {
		return fmt.Errorf("a %v of %d instead of an index of %d values", r.Kind(), r.Len(),
			len(t.index))
	}
	i := 0
	for e := range r.Elements() {
		if err := t.index[i].check(e, 0); err != nil {
			return err
		}
		i++
	}
	return nil
}

// checkRecord checks a record, which has all fields in order, none for one that is not set.
func (t *zeekType) checkRecord(r event.Raw) error {
	if r.Len() != len(t.fields) {
		return fmt.Errorf("a record of %d fields instead of %d", r.Len(), len(t.fields))
	}
	i := 0
	for e := range r.Elements() {
		f := t.fields[i]
		i++
		if e.Kind() == event.None && f.optional {
			continue
		}
		if err := f.typ.check(e, 0); err != nil {
			return fmt.Errorf("field %s: %w", f.name, err)
		}
	}
	return nil
}
