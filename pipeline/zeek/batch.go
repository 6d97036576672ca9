package zeek

import (
	"fmt"
	"strconv"
)

// Batch is a parsed log batch: the fields of its header, and its values unparsed. All slices alias
// the bytes given to ParseBatch and are valid as long as those bytes are.
type Batch struct {
	// Header holds the raw bytes from the stream name through the last field. Batches with equal
	// headers have equal schemas. A lookup m[string(b.Header)] in a map[string]T does not allocate.
	Header []byte

	Stream, Writer, Filter, Path []byte

	NumFields  int // at least 1
	NumRecords int

	// Values holds the raw values, row by row, and any bytes that follow them.
	Values []byte

	valuesOffset int // offset of Values in the batch, for errors
}

// ParseBatch reads and checks the header of the batch b: names, field types and counts. It does not
// check the values, except that b is long enough to hold as many of the smallest size. The reader
// of the values checks them. It allocates only if it fails. The error is an *Error.
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
	// Both factors are below 2³², so the product does not overflow.
	if room := uint64(len(h.b)) / minValueSize; uint64(records)*uint64(batch.NumFields) > room {
		return Batch{}, h.fail(ReasonBadCount, at, nil,
			fmt.Sprintf("%d records of %d fields in %d bytes", records, batch.NumFields, len(h.b)))
	}
	batch.NumRecords = int(records)
	batch.Values = h.b
	batch.valuesOffset = h.offset()
	return batch, nil
}

// ParseSchema reads a batch's Header. The Schema keeps no reference to the bytes. It fails with an
// *Error where ParseBatch fails.
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

// parseHeader fills b and, unless it is nil, s.
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
		// The records of a batch without fields would have no bytes, so their number would have no
		// bound.
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

// name reads one of the names at the beginning of a batch. If must is set, it refuses an empty one.
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
		_, reason = h.string() // only Zeek's input framework uses it
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

// MaxName is the largest size of a name in a batch, in bytes: of a stream, writer, filter, path or
// field. Zeek's own names are identifiers of scripts, or several of them joined by dots. The limit
// also bounds how many times larger the text of a batch can be than the batch, since each JSON
// record repeats the names of its fields.
const MaxName = 256

func nameTooLong(what string, size int) string {
	return fmt.Sprintf("%s has %d bytes, at most %d are allowed", what, size, MaxName)
}

// validFieldName refuses names that would break the lines of a log's header, where names are not
// escaped.
func validFieldName[S []byte | string](name S) bool {
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == 0x7f {
			return false
		}
	}
	return len(name) > 0
}
