package zeek

import (
	"fmt"
	"strconv"
)

// Batch is a parsed log batch: views of its header, and its values unparsed. All
// slices alias the bytes given to ParseBatch and are valid as long as those are.
type Batch struct {
	// Header holds the raw bytes from the stream name through the last field. Two
	// batches with equal headers have equal schemas; map[string]T with
	// m[string(b.Header)] is a cache that does not allocate on a hit.
	Header []byte

	Stream, Writer, Filter, Path []byte

	NumFields  int // at least 1
	NumRecords int

	// Values holds the raw values, row by row, and whatever follows them.
	Values []byte

	valuesOffset int // of Values in the batch, for errors
}

// ParseBatch reads and checks the header of the batch b: names, field types and counts. Of the
// values it checks only that there are enough bytes for so many of the smallest size. Whoever reads
// the values checks them. It does not allocate unless it fails. The error is an *Error.
func ParseBatch(b []byte) (batch Batch, err error) {
	h := headerReader{reader: reader{b}, size: len(b)}
	if err := h.parseHeader(&batch, nil); err != nil {
		return Batch{}, err
	}
	at := h.offset()
	batch.Header = b[:at:at]
	records, reason := h.uint32()
	if reason != 0 {
		return Batch{}, h.fail(reason, at, nil, "number of records")
	}
	// Both are below 2³², the product does not overflow.
	if room := uint64(len(h.b)) / minValueSize; uint64(records)*uint64(batch.NumFields) > room {
		return Batch{}, h.fail(ReasonBadCount, at, nil,
			fmt.Sprintf("%d records of %d fields in %d bytes", records, batch.NumFields, len(h.b)))
	}
	batch.NumRecords = int(records)
	batch.Values = h.b
	batch.valuesOffset = h.offset()
	return batch, nil
}

// ParseSchema reads a batch's Header. The Schema does not refer to the bytes. It fails
// with an *Error exactly where ParseBatch would.
func ParseSchema(header []byte) (*Schema, error) {
	var s Schema
	h := headerReader{reader: reader{header}, size: len(header)}
	if err := h.parseHeader(new(Batch), &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// headerReader parses the part of a batch before the values.
type headerReader struct {
	reader
	size int // of the whole input
}

func (h *headerReader) offset() int { return h.size - len(h.b) }

func (h *headerReader) fail(reason Reason, offset int, field []byte, detail string) *Error {
	return &Error{Reason: reason, Offset: offset, Record: -1, Field: string(field), Detail: detail}
}

// parseHeader fills b's views and, if s is not nil, s.
func (h *headerReader) parseHeader(b *Batch, s *Schema) error {
	var err error
	if b.Stream, err = h.name("stream name", true); err != nil {
		return err
	}
	if b.Writer, err = h.name("writer name", true); err != nil {
		return err
	}
	if b.Filter, err = h.name("filter name", false); err != nil {
		return err
	}
	if b.Path, err = h.name("path", false); err != nil {
		return err
	}

	at := h.offset()
	fields, reason := h.uint32()
	if reason == 0 && (fields == 0 || uint64(fields) > uint64(len(h.b))/minFieldSize) {
		// A batch without fields is refused because its records would have no bytes, and
		// there could be any number of them.
		return h.fail(ReasonBadCount, at, nil,
			fmt.Sprintf("%d fields in %d bytes", fields, len(h.b)))
	}
	if reason != 0 {
		return h.fail(reason, at, nil, "number of fields")
	}
	b.NumFields = int(fields)
	if s != nil {
		*s = Schema{
			Stream: string(b.Stream),
			Writer: string(b.Writer),
			Filter: string(b.Filter),
			Path:   string(b.Path),
			Fields: make([]Field, 0, fields),
		}
	}
	for i := range b.NumFields {
		if err := h.parseField(i, s); err != nil {
			return err
		}
	}
	return nil
}

// name reads one of the strings that a batch begins with.
func (h *headerReader) name(what string, must bool) ([]byte, error) {
	at := h.offset()
	v, reason := h.string()
	switch {
	case reason != 0:
		return nil, h.fail(reason, at, nil, what)
	case must && len(v) == 0:
		return nil, h.fail(ReasonBadName, at, nil, what+" is empty")
	case len(v) > MaxName:
		return nil, h.fail(ReasonBadName, at, nil, nameTooLong(what, len(v)))
	}
	return v, nil
}

// parseField reads field number i and appends it to s, unless s is nil.
func (h *headerReader) parseField(i int, s *Schema) error {
	at := h.offset()
	failed := func(reason Reason, name []byte, detail string) error {
		return h.fail(reason, at, name, "field "+strconv.Itoa(i)+": "+detail)
	}
	second, reason := h.bool()
	if reason == 0 && second {
		_, reason = h.string() // of use to Zeek's input framework only
	}
	if reason != 0 {
		return failed(reason, nil, "secondary name")
	}
	name, reason := h.string()
	if reason != 0 {
		return failed(reason, nil, "name")
	}
	if len(name) > MaxName {
		return failed(ReasonBadName, name[:MaxName], nameTooLong("name", len(name)))
	}
	if !validFieldName(name) {
		return failed(ReasonBadName, name, "name")
	}
	typ, reason := h.uint32()
	if reason != 0 {
		return failed(reason, name, "type")
	}
	subtype, reason := h.uint32()
	if reason != 0 {
		return failed(reason, name, "subtype")
	}
	optional, reason := h.bool()
	if reason != 0 {
		return failed(reason, name, "optional")
	}
	f := Field{Type: Type(typ), Subtype: Type(subtype), Optional: optional}
	if !f.loggable() {
		return failed(ReasonBadType, name, f.TypeName())
	}
	if s != nil {
		f.Name = string(name)
		s.Fields = append(s.Fields, f)
	}
	return nil
}

// MaxName is the longest name in a batch, in bytes: that of a stream, writer, filter, path or
// field. Zeek's own names are identifiers of scripts, or several of them joined by dots. A log
// repeats the names of its fields in every JSON record, so this also bounds how much larger the
// text of a batch can be than the batch.
const MaxName = 256

func nameTooLong(what string, size int) string {
	return fmt.Sprintf("%s of %d bytes, at most %d are allowed", what, size, MaxName)
}

// validFieldName refuses names that would break the lines of a log's header, where
// they stand unescaped.
func validFieldName[S []byte | string](name S) bool {
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == 0x7f {
			return false
		}
	}
	return len(name) > 0
}
