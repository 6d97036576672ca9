package zeek

import (
	"fmt"
	"strings"
)

// Reason says in one word why a batch was refused. String returns a metric label.
type Reason uint8

// The reasons for which a batch is refused.
const (
	_               Reason = iota
	ReasonTruncated        // the bytes end before the batch does
	ReasonBadLength        // a string has a negative length
	// more fields, records or elements than the remaining bytes can hold, or no field
	ReasonBadCount
	ReasonBadName        // a name that is empty, too long or has control characters
	ReasonBadType        // a type that cannot be logged
	ReasonTypeMismatch   // a value's type is not that of its field
	ReasonBadValue       // an address family or port protocol that does not exist
	ReasonNesting        // a container inside a container
	ReasonSchemaMismatch // the columns are not those of the Renderer
	reasonEnd
)

var reasonTexts = [...]struct{ label, text string }{
	0:                    {"none", ""},
	ReasonTruncated:      {"truncated", "the bytes end before the batch does"},
	ReasonBadLength:      {"bad_length", "a string has a negative length"},
	ReasonBadCount:       {"bad_count", "the count cannot be true for the bytes that follow"},
	ReasonBadName:        {"bad_name", "the name is empty, too long or has control characters"},
	ReasonBadType:        {"bad_type", "the type cannot be logged"},
	ReasonTypeMismatch:   {"type_mismatch", "the value does not have the type of its field"},
	ReasonBadValue:       {"bad_value", "no such address family or port protocol"},
	ReasonNesting:        {"nesting", "a set or vector cannot hold another one"},
	ReasonSchemaMismatch: {"schema_mismatch", "the columns are not those of this log"},
}

// Reasons returns all reasons, so that a metric can show all labels from the start.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonEnd-1)
	for r := Reason(1); r < reasonEnd; r++ {
		all = append(all, r)
	}
	return all
}

// String returns the reason as a lower-case word with underscores.
func (r Reason) String() string {
	if r >= reasonEnd {
		return fmt.Sprintf("reason_%d", uint8(r))
	}
	return reasonTexts[r].label
}

// Error says why a batch was refused, and where the fault is. All errors about the bytes of a batch
// have this type.
type Error struct {
	Reason Reason
	Offset int    // of the first byte of the faulty part, from the start of the batch
	Record int    // number of the record, from 0; -1 in the header
	Field  string // name of the field, empty if the error is not about a field
	Detail string // what was found and what was expected, may be empty
}

// Error returns all of it on one line.
func (e *Error) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "zeek: log batch refused, %s: %s", e.Reason,
		reasonTexts[min(e.Reason, reasonEnd-1)].text)
	if e.Detail != "" {
		fmt.Fprintf(&s, " (%s)", e.Detail)
	}
	fmt.Fprintf(&s, ", at byte %d", e.Offset)
	if e.Record >= 0 {
		fmt.Fprintf(&s, ", record %d", e.Record)
	}
	if e.Field != "" {
		fmt.Fprintf(&s, ", field %q", e.Field)
	}
	return s.String()
}
