package zeek

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"time"
)

// tsv renders the lines of TSV logs. Outside of containers the escaping is column, inside it is
// element.
type tsv struct {
	opts            Options
	unset, empty    []byte // markers, not escaped
	separator       []byte
	setSeparator    []byte
	column, element *escapes

	// With equal separator and set separator, the end of the first container of a log removes the
	// separator from the escape sequences for good, as in Zeek. afterContainer are the sequences
	// without it, and leftContainer says that they apply.
	afterContainer *escapes
	leftContainer  bool

	prefix  []byte // start of each line: with Options.PathField, the path
	pager   *pager
	scratch []byte // a number or address before its escaping
}

func newTSV(o Options, s *Schema, p *pager) tsv {
	t := tsv{
		opts:   o,
		pager:  p,
		unset:  []byte(o.UnsetField),
		empty:  []byte(o.EmptyField),
		column: newEscapes(&o, o.Separator),

		separator:    []byte(o.Separator),
		setSeparator: []byte(o.SetSeparator),
	}
	if o.Separator == o.SetSeparator {
		t.element = t.column
		t.afterContainer = newEscapes(&o)
	} else {
		t.element = newEscapes(&o, o.Separator, o.SetSeparator)
	}
	if s.hasPathField(&o) {
		t.prefix = t.guardMeta(t.appendString(nil, []byte(s.Path), t.column), 0)
		t.prefix = append(t.prefix, o.Separator...)
	}
	return t
}

// appendRecord appends the line of the record at the front of b. It passes the rest of b on as
// values: a pointer that is kept in memory would cost more with each change.
func (t *tsv) appendRecord(dst, b []byte, columns []Field) (out, rest []byte, f *fault) {
	t.pager.line = len(dst)
	if len(t.prefix) > 0 {
		dst = append(dst, t.prefix...)
	}
	for i := range columns {
		if i > 0 {
			dst = appendShort(dst, t.separator)
		}
		esc := t.column
		if t.leftContainer {
			esc = t.afterContainer
		}
		if out, rest, ok := t.appendCommon(dst, b, columns[i].Type, esc); ok {
			dst, b = out, rest
			continue
		}
		if dst, b, f = t.appendColumn(dst, b, columns[i].Type, esc); f != nil {
			f.column = i
			return dst, b, f
		}
	}
	if !t.pager.begun {
		dst = t.guardMeta(dst, t.pager.line+len(t.prefix))
	}
	return append(dst, '\n'), b, nil
}

// guardMeta escapes the first byte of the line at the offset if a reader would take the line for a
// line of the header.
func (t *tsv) guardMeta(dst []byte, at int) []byte {
	if line := dst[at:]; len(line) == 0 || !bytes.HasPrefix(line, []byte(t.opts.MetaPrefix)) {
		return dst
	}
	dst = append(dst, "xHH"...)
	line := dst[at:]
	copy(line[4:], line[1:])
	appendHexEscape(line[:0], line[0])
	return dst
}

// turn hands over what is in dst, in the middle of a line.
func (t *tsv) turn(dst []byte) ([]byte, *fault) {
	dst, err := t.pager.turn(dst, func(dst []byte) []byte {
		return t.guardMeta(dst,
			len(t.prefix))
	})
	if err != nil {
		return dst, &fault{err: err}
	}
	return dst, nil
}

// appendColumn appends the value at the front of b, of any type.
func (t *tsv) appendColumn(dst, b []byte, want Type, esc *escapes) (out, rest []byte, f *fault) {
	rd := reader{b}
	var v rawValue
	if reason := rd.column(&v, want); reason != 0 {
		return dst, b, &fault{reason: reason, at: b, typ: v.typ}
	}
	if !v.present || !v.typ.isContainer() {
		dst, f = t.appendPaged(dst, &v, esc)
		return dst, rd.b, f
	}
	if v.num == 0 {
		return append(dst, esc.empty...), rd.b, nil
	}
	for n := v.num; n > 0; n-- {
		at := rd.b
		if reason := rd.element(&v); reason != 0 {
			return dst, b, &fault{reason: reason, at: at, typ: v.typ}
		}
		if dst, f = t.appendPaged(dst, &v, t.element); f != nil {
			return dst, b, f
		}
		if n > 1 {
			dst = appendShort(dst, t.setSeparator)
		}
	}
	t.leftContainer = t.afterContainer != nil
	return dst, rd.b, nil
}

// appendPaged appends a value, as appendValue does, and hands dst over when it is full.
func (t *tsv) appendPaged(dst []byte, v *rawValue, esc *escapes) ([]byte, *fault) {
	if v.present && v.typ.isText() && len(v.data) > longText {
		return t.appendLong(dst, v.data, esc)
	}
	dst = t.appendValue(dst, v, esc)
	if len(dst) < t.pager.limit {
		return dst, nil
	}
	return t.turn(dst)
}

// appendLong appends a string, as appendString does, and hands dst over whenever it is full.
func (t *tsv) appendLong(dst, s []byte, esc *escapes) (_ []byte, f *fault) {
	if t.isMarker(s) {
		dst = appendHexEscape(dst, s[0])
		s = s[1:]
	}
	esc.split(s, func(part []byte) bool {
		dst = append(dst, part...)
		if len(dst) >= t.pager.limit {
			dst, f = t.turn(dst)
		}
		return f == nil
	})
	return dst, f
}

// appendCommon appends the value at the front of b if it is of a common kind and has no fault; else
// it returns false. It does the work of reader.column and appendValue in one step.
func (t *tsv) appendCommon(dst, b []byte, want Type, esc *escapes) (out, rest []byte, ok bool) {
	if len(b) < minValueSize+8 || Type(binary.BigEndian.Uint32(b)) != want {
		return
	}
	if b[8] != 1 {
		return appendShort(dst, esc.unset), b[9:], true
	}
	b = b[9:]
	switch want {
	case TypeString, TypeEnum:
		n := uint64(binary.BigEndian.Uint32(b))
		if n > uint64(len(b)-4) || n > commonText { // a negative length is a huge one
			return
		}
		return t.appendString(dst, b[4:4+n], esc), b[4+n:], true
	}
	if !esc.literals {
		return
	}
	switch want {
	case TypeCount:
		return appendUint(dst, binary.BigEndian.Uint64(b)), b[8:], true
	case TypeTime, TypeInterval:
		return appendFixed6(dst, math.Float64frombits(binary.BigEndian.Uint64(b))), b[8:], true
	case TypeAddr:
		if a, rest := commonAddress(b); a != nil {
			return appendAddr(dst, a), rest, true
		}
	case TypePort:
		if n, rest := commonPort(b); rest != nil {
			return appendUint(dst, n), rest, true
		}
	case TypeBool:
		if binary.BigEndian.Uint64(b) != 0 {
			return append(dst, 'T'), b[8:], true
		}
		return append(dst, 'F'), b[8:], true
	}
	return
}

// appendValue appends a value that is unset or not a container.
func (t *tsv) appendValue(dst []byte, v *rawValue, esc *escapes) []byte {
	if !v.present {
		return appendShort(dst, esc.unset)
	}
	switch v.typ {
	case TypeString, TypeEnum, TypeFile, TypeFunc:
		return t.appendString(dst, v.data, esc)
	}
	start := len(dst)
	switch v.typ {
	case TypeBool:
		if v.num != 0 {
			dst = append(dst, 'T')
		} else {
			dst = append(dst, 'F')
		}
	case TypeInt:
		dst = strconv.AppendInt(dst, int64(v.num), 10)
	case TypeCount, TypePort:
		dst = appendUint(dst, v.num)
	case TypeDouble:
		dst = appendDouble(dst, math.Float64frombits(v.num))
	case TypeTime, TypeInterval:
		dst = appendFixed6(dst, math.Float64frombits(v.num))
	case TypeAddr:
		dst = appendAddr(dst, v.data)
	case TypeSubnet:
		dst = appendSubnet(dst, v.data, v.num)
	}
	if !esc.literals {
		t.scratch = append(t.scratch[:0], dst[start:]...)
		dst = esc.append(dst[:start], t.scratch)
	}
	return dst
}

// appendShort appends s, usually one byte, for which append would cost more than the byte.
func appendShort(dst, s []byte) []byte {
	if len(s) == 1 {
		return append(dst, s[0])
	}
	return append(dst, s...)
}

// appendString appends s, escaped so that it is no marker.
func (t *tsv) appendString(dst, s []byte, esc *escapes) []byte {
	if len(s) == 0 {
		return append(dst, esc.empty...)
	}
	if t.isMarker(s) {
		return esc.append(appendHexEscape(dst, s[0]), s[1:])
	}
	return esc.append(dst, s)
}

// isMarker reports whether s is the marker of unset or empty values.
func (t *tsv) isMarker(s []byte) bool { return bytes.Equal(s, t.unset) || bytes.Equal(s, t.empty) }

// timeLayout is the layout of the times in #open and #close lines.
const timeLayout = "2006-01-02-15-04-05"

func (t *tsv) appendHeader(dst []byte, s *Schema, open time.Time) []byte {
	o := &t.opts
	if !o.IncludeMeta {
		return dst
	}
	if o.TSV {
		return append(t.appendNames(dst, s), '\n')
	}
	dst = append(dst, o.MetaPrefix...)
	dst = append(dst, "separator "...) // always a space: the reader does not know the separator yet
	dst = append(appendMeta(dst, o.Separator), '\n')
	dst = append(appendMeta(t.appendKey(dst, "set_separator"), o.SetSeparator), '\n')
	dst = append(appendMeta(t.appendKey(dst, "empty_field"), o.EmptyField), '\n')
	dst = append(appendMeta(t.appendKey(dst, "unset_field"), o.UnsetField), '\n')
	dst = append(appendMeta(t.appendKey(dst, "path"), s.Path), '\n')
	dst = append(open.AppendFormat(t.appendKey(dst, "open"), timeLayout), '\n')
	dst = append(t.appendNames(t.appendKey(dst, "fields"), s), '\n')
	dst = t.appendKey(dst, "types")
	for i, f := range s.Fields {
		if i > 0 {
			dst = append(dst, o.Separator...)
		}
		dst = append(dst, f.TypeName()...)
	}
	return append(dst, '\n')
}

func (t *tsv) appendFooter(dst []byte, close time.Time) []byte {
	if !t.opts.IncludeMeta || t.opts.TSV {
		return dst
	}
	return append(close.AppendFormat(t.appendKey(dst, "close"), timeLayout), '\n')
}

// appendKey appends the beginning of a header line.
func (t *tsv) appendKey(dst []byte, key string) []byte {
	dst = append(dst, t.opts.MetaPrefix...)
	dst = append(dst, key...)
	return append(dst, t.opts.Separator...)
}

func (t *tsv) appendNames(dst []byte, s *Schema) []byte {
	for i, f := range s.Fields {
		if i > 0 {
			dst = append(dst, t.opts.Separator...)
		}
		dst = append(dst, f.Name...)
	}
	return dst
}
