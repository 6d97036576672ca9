package event

import "fmt"

// Reason says what is wrong with a value. It is meant for counters.
type Reason uint8

const (
	Truncated  Reason = 1 + iota // the value goes on behind the end of the input
	Trailing                     // something follows the value
	UnknownTag                   // there is no such type
	TooDeep                      // containers are nested deeper than MaxDepth
	Duplicate                    // a set has an element twice, or a table a key
	BadValue                     // the bytes or the text do not stand for a value of the type
	BadShape                     // the value is no event
	BadJSON                      // the text is no JSON, or has no member that it needs
)

var reasonNames = [...]string{
	Truncated: "truncated", Trailing: "trailing", UnknownTag: "unknown_tag", TooDeep: "too_deep",
	Duplicate: "duplicate", BadValue: "bad_value", BadShape: "bad_shape", BadJSON: "bad_json",
}

// String returns the name of the reason: lower case, with underscores.
func (r Reason) String() string {
	if int(r) < len(reasonNames) && reasonNames[r] != "" {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Error is an error in a value that comes from elsewhere.
type Error struct {
	Reason Reason
	Offset int    // of the fault in the input, in bytes
	Detail string // what was found there
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("event: %s at byte %d: %s", e.Reason, e.Offset, e.Detail)
}

func fault(r Reason, offset int, format string, args ...any) *Error {
	return &Error{Reason: r, Offset: offset, Detail: fmt.Sprintf(format, args...)}
}
