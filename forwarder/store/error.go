package store

import "fmt"

// Code is an error of Broker (broker/error.hh), with its number. It is an error itself:
//
//	errors.Is(err, store.NoSuchKey)
type Code uint8

// The codes that a store returns.
const (
	MasterExists   Code = 7  // another process is the master of the store
	NoSuchMaster   Code = 8  // nobody is
	NoSuchKey      Code = 9  // there is no entry, or a container has no such element
	RequestTimeout Code = 10 // the master has not answered
	TypeClash      Code = 11 // the operation is not for values of this type
	InvalidData    Code = 12 // a key or a value is not valid, too large, or out of range
	BackendFailure Code = 13 // the backend could not take the change, or the store is full
	StaleData      Code = 14 // the clone does not know the present state
	CannotOpenFile Code = 15 // the backend's file cannot be opened, or is damaged
	ShuttingDown   Code = 28 // the store is closed
)

var codeNames = map[Code]string{
	MasterExists: "master_exists", NoSuchMaster: "no_such_master", NoSuchKey: "no_such_key",
	RequestTimeout: "request_timeout", TypeClash: "type_clash", InvalidData: "invalid_data",
	BackendFailure: "backend_failure", StaleData: "stale_data", CannotOpenFile: "cannot_open_file",
	ShuttingDown: "shutting_down",
}

// String returns the name that Broker has for the error.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("error_%d", uint8(c))
}

// Error implements error.
func (c Code) Error() string { return c.String() }

// Error is a [Code] with what happened.
type Error struct {
	Code   Code
	Detail string
}

// Error implements error.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Detail }

// Unwrap returns the code, for errors.Is.
func (e *Error) Unwrap() error { return e.Code }

// Errorf returns an [Error].
func Errorf(c Code, format string, args ...any) error {
	return &Error{c, fmt.Sprintf(format, args...)}
}
