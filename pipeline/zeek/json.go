package zeek

import (
	"encoding/binary"
	"iter"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// json renders the lines of JSON logs.
type json struct {
	opts    Options
	keys    []jsonKey // one for each column
	tsv     *escapes  // for StringEscapeTSV only
	prefix  []byte    // start of each line: the brace and, with Options.PathField, the path
	pager   *pager
	scratch []byte // a string between the two steps of its escaping
}

func newJSON(o Options, s *Schema, p *pager) *json {
	j := &json{opts: o, pager: p}
	for _, f := range s.Fields {
		// JSON's rules apply to names, whatever the policy for strings is.
		j.keys = append(j.keys, newJSONKey(append(appendJSONQuoted([]byte{','}, []byte(f.Name)),
			':')))
	}
	if o.JSONStringEscapePolicy == StringEscapeTSV {
		j.tsv = newEscapes(&Options{EnableUTF8: true})
	}
	if s.hasPathField(&o) {
		j.prefix = append(appendJSONQuoted([]byte{'{'}, []byte(o.PathField)), ':')
		j.prefix = j.appendString(j.prefix, []byte(s.Path), o.JSONStringEscapePolicy)
	}
	return j
}

// jsonKey is the text before a value, such as `,"name":`.
type jsonKey struct {
	text  []byte
	short [32]byte // text, if it fits
}

func newJSONKey(text []byte) (k jsonKey) {
	k.text = text
	copy(k.short[:], text)
	return k
}

// append appends the key. Where there is room it copies 32 bytes at once, in a few moves: a call of
// copy takes longer than that for most keys.
func (k *jsonKey) append(dst []byte) []byte {
	if n := len(dst); len(k.text) <= len(k.short) && cap(dst)-n >= len(k.short) {
		*(*[32]byte)(dst[n : n+32]) = k.short
		return dst[:n+len(k.text)]
	}
	return append(dst, k.text...)
}

// appendRecord appends the line of the record at the front of b; see [tsv.appendRecord].
func (j *json) appendRecord(dst, b []byte, columns []Field) (out, rest []byte, f *fault) {
	j.pager.line = len(dst)
	if len(j.prefix) > 0 {
		dst = append(dst, j.prefix...)
	}
	for i := range columns {
		key := &j.keys[i]
		if out, rest, ok := j.appendCommon(dst, key, b, columns[i].Type); ok {
			dst, b = out, rest
			continue
		}
		if dst, b, f = j.appendColumn(dst, key, b, columns[i].Type); f != nil {
			f.column = i
			return dst, b, f
		}
	}
	switch {
	case j.pager.begun:
	case len(dst) == j.pager.line:
		dst = append(dst, '{')
	default:
		dst = j.begin(dst)
	}
	return append(dst, "}\n"...), b, nil
}

// begin completes the beginning of a line that has a field: unless there is a prefix, it replaces
// the comma of the first key by a brace.
func (j *json) begin(dst []byte) []byte {
	dst[j.pager.line] = '{'
	return dst
}

// turn hands over what is in dst, in the middle of a line.
func (j *json) turn(dst []byte) ([]byte, *fault) {
	dst, err := j.pager.turn(dst, j.begin)
	if err != nil {
		return dst, &fault{err: err}
	}
	return dst, nil
}

// appendColumn appends the key and the value at the front of b, of any type.
func (j *json) appendColumn(dst []byte, key *jsonKey, b []byte, want Type) (out, rest []byte,
	f *fault) {
	rd := reader{b}
	var v rawValue
	if reason := rd.column(&v, want); reason != 0 {
		return dst, b, &fault{reason: reason, at: b, typ: v.typ}
	}
	if !v.present && !j.opts.JSONIncludeUnsetFields {
		return dst, rd.b, nil
	}
	dst = key.append(dst)
	if !v.present || !v.typ.isContainer() {
		dst, f = j.appendPaged(dst, &v)
		return dst, rd.b, f
	}
	dst = append(dst, '[')
	for n := v.num; n > 0; n-- {
		at := rd.b
		if reason := rd.element(&v); reason != 0 {
			return dst, b, &fault{reason: reason, at: at, typ: v.typ}
		}
		if dst, f = j.appendPaged(dst, &v); f != nil {
			return dst, b, f
		}
		if n > 1 {
			dst = append(dst, ',')
		}
	}
	return append(dst, ']'), rd.b, nil
}

// appendPaged appends a value, as appendValue does, and hands dst over when it is full.
func (j *json) appendPaged(dst []byte, v *rawValue) ([]byte, *fault) {
	if v.present && v.typ.isText() && len(v.data) > longText {
		return j.appendLong(dst, v.data, j.policy(v.typ))
	}
	dst = j.appendValue(dst, v)
	if len(dst) < j.pager.limit {
		return dst, nil
	}
	return j.turn(dst)
}

// policy returns the policy for strings of type t.
func (j *json) policy(t Type) StringEscapePolicy {
	if t == TypeString {
		return j.opts.JSONStringEscapePolicy
	}
	return StringEscapeHex
}

// appendLong appends a string, as appendString does, and hands dst over whenever it is full.
func (j *json) appendLong(dst, s []byte, policy StringEscapePolicy) (_ []byte, f *fault) {
	dst = append(dst, '"')
	room := func() bool {
		if len(dst) >= j.pager.limit {
			dst, f = j.turn(dst)
		}
		return f == nil
	}
	if policy == StringEscapeTSV {
		j.tsv.split(s, func(part []byte) bool {
			dst = appendJSONText(dst, part)
			return room()
		})
	} else {
		hex := policy == StringEscapeHex && !keepsJSONHex(s)
		for part := range runeParts(s) {
			switch {
			case policy == StringEscapePUA:
				dst = appendJSONPUA(dst, part)
			case hex:
				j.scratch = appendJSONHexAll(j.scratch[:0], part)
				dst = appendJSONText(dst, j.scratch)
			default:
				dst = appendJSONText(dst, part)
			}
			if !room() {
				break
			}
		}
	}
	return append(dst, '"'), f
}

// runeParts cuts s into parts of about longText bytes. It cuts no character.
func runeParts(s []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(s) > 0 {
			n := min(len(s), longText)
			for end := min(n+utf8.UTFMax, len(s)); n < end && !utf8.RuneStart(s[n]); n++ {
			}
			if !yield(s[:n]) {
				return
			}
			s = s[n:]
		}
	}
}

// appendCommon appends the key and the value at the front of b if the value is of a common kind and
// has no fault; else it returns false. It does the work of reader.column and appendValue in one
// step.
func (j *json) appendCommon(dst []byte, key *jsonKey, b []byte, want Type) (out, rest []byte,
	ok bool) {
	if len(b) < minValueSize+8 || Type(binary.BigEndian.Uint32(b)) != want {
		return
	}
	if b[8] != 1 {
		if j.opts.JSONIncludeUnsetFields {
			return
		}
		return dst, b[9:], true
	}
	b = b[9:]
	switch want {
	case TypeString, TypeEnum:
		n := uint64(binary.BigEndian.Uint32(b))
		if n > uint64(len(b)-4) || n > commonText { // a negative length is a huge one
			return
		}
		s := b[4 : 4+n]
		for _, c := range s {
			if jsonStop[c] {
				return
			}
		}
		dst = append(key.append(dst), '"')
		return append(append(dst, s...), '"'), b[4+n:], true
	case TypeCount:
		return appendUint(key.append(dst), binary.BigEndian.Uint64(b)), b[8:], true
	case TypeTime:
		return j.appendTime(key.append(dst), math.Float64frombits(binary.BigEndian.Uint64(b))),
			b[8:], true
	case TypeDouble, TypeInterval:
		return appendJSONDouble(key.append(dst), math.Float64frombits(binary.BigEndian.Uint64(b))),
			b[8:], true
	case TypeAddr:
		if a, rest := commonAddress(b); a != nil {
			return append(appendAddr(append(key.append(dst), '"'), a), '"'), rest, true
		}
	case TypePort:
		if n, rest := commonPort(b); rest != nil {
			return appendUint(key.append(dst), n), rest, true
		}
	case TypeBool:
		return strconv.AppendBool(key.append(dst), binary.BigEndian.Uint64(b) != 0), b[8:], true
	}
	return
}

// appendValue appends a value that is unset or not a container.
func (j *json) appendValue(dst []byte, v *rawValue) []byte {
	if !v.present {
		return append(dst, "null"...)
	}
	switch v.typ {
	case TypeBool:
		return strconv.AppendBool(dst, v.num != 0)
	case TypeInt:
		return strconv.AppendInt(dst, int64(v.num), 10)
	case TypeCount, TypePort:
		return appendUint(dst, v.num)
	case TypeDouble, TypeInterval:
		return appendJSONDouble(dst, math.Float64frombits(v.num))
	case TypeTime:
		return j.appendTime(dst, math.Float64frombits(v.num))
	case TypeAddr:
		return append(appendAddr(append(dst, '"'), v.data), '"')
	case TypeSubnet:
		return append(appendSubnet(append(dst, '"'), v.data, v.num), '"')
	default: // texts
		return j.appendString(dst, v.data, j.policy(v.typ))
	}
}

func (j *json) appendTime(dst []byte, seconds float64) []byte {
	switch j.opts.JSONTimestamps {
	case JSONTimestampsMillis:
		return strconv.AppendInt(dst, truncInt64(seconds*1000), 10)
	case JSONTimestampsMillisUnsigned:
		return strconv.AppendUint(dst, uint64(truncInt64(seconds*1000)), 10)
	case JSONTimestampsISO8601:
		return appendISO8601(dst, seconds)
	default:
		return appendJSONDouble(dst, seconds)
	}
}

// truncInt64 converts as x86-64 does, on every platform: it returns the least integer for a number
// that does not fit.
func truncInt64(v float64) int64 {
	if v >= -1<<63 && v < 1<<63 {
		return int64(v)
	}
	return math.MinInt64
}

// appendISO8601 appends a time in UTC with microseconds. As in Zeek, rounded microseconds do not
// carry, so they may have seven digits, and years are neither padded nor limited to positive ones.
func appendISO8601(dst []byte, seconds float64) []byte {
	const unconvertible = `"2000-01-01T00:00:00.000000"` // what Zeek writes then, without Z
	whole := truncInt64(math.Floor(seconds))
	// Outside of these bounds the year, counted from 1900, does not fit in 32 bits.
	const minYear, maxYear = math.MinInt32 + 1900, math.MaxInt32 + 1900
	if whole < -1<<57 || whole > 1<<57 { // far beyond them, and safe for package time
		return append(dst, unconvertible...)
	}
	t := time.Unix(whole, 0).UTC()
	year, month, day := t.Date()
	if year < minYear || year > maxYear {
		return append(dst, unconvertible...)
	}
	hour, minute, second := t.Clock()
	dst = append(dst, '"')
	dst = strconv.AppendInt(dst, int64(year), 10)
	dst = appendDigits2(append(dst, '-'), int(month))
	dst = appendDigits2(append(dst, '-'), day)
	dst = appendDigits2(append(dst, 'T'), hour)
	dst = appendDigits2(append(dst, ':'), minute)
	dst = appendDigits2(append(dst, ':'), second)
	dst = append(dst, '.')

	_, frac := math.Modf(seconds)
	if frac < 0 {
		frac++
	}
	micros := uint32(math.RoundToEven(math.Abs(frac) * 1e6))
	if micros < 1e6 {
		dst = appendDigits6(dst, micros)
	} else {
		dst = append(dst, "1000000"...)
	}
	return append(dst, `Z"`...)
}

func appendDigits2(dst []byte, v int) []byte {
	return append(dst, '0'+byte(v/10), '0'+byte(v%10))
}

// appendString appends s in quotes.
func (j *json) appendString(dst, s []byte, policy StringEscapePolicy) []byte {
	plain := true
	for _, c := range s {
		if jsonStop[c] {
			plain = false
			break
		}
	}
	switch {
	case plain:
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	case policy == StringEscapePUA:
		return append(appendJSONPUA(append(dst, '"'), s), '"')
	case policy == StringEscapeTSV:
		j.scratch = j.tsv.append(j.scratch[:0], s)
	default:
		j.scratch = appendJSONHex(j.scratch[:0], s)
	}
	return appendJSONQuoted(dst, j.scratch)
}

// jsonStop marks the bytes that are not written as they are.
var jsonStop = func() (stop [256]bool) {
	for i := range stop {
		stop[i] = !printable(byte(i)) || i == '"' || i == '\\'
	}
	return stop
}()

// jsonShort returns the letter of the two-character escape of c, or 0 if there is none.
func jsonShort(c byte) byte {
	switch c {
	case '"', '\\':
		return c
	case '\b':
		return 'b'
	case '\f':
		return 'f'
	case '\n':
		return 'n'
	case '\r':
		return 'r'
	case '\t':
		return 't'
	}
	return 0
}

// appendJSONQuoted appends s in quotes. It escapes only the bytes that JSON demands.
func appendJSONQuoted(dst, s []byte) []byte {
	return append(appendJSONText(append(dst, '"'), s), '"')
}

// appendJSONText appends the text between the quotes.
func appendJSONText(dst, s []byte) []byte {
	for _, c := range s {
		if short := jsonShort(c); short != 0 {
			dst = append(dst, '\\', short)
		} else {
			dst = append(dst, c) // other control characters do not occur here
		}
	}
	return dst
}

// appendJSONHex appends s unchanged if it is acceptable text. Else all bytes become \xHH that are
// not printable ASCII and have no short escape.
func appendJSONHex(dst, s []byte) []byte {
	if keepsJSONHex(s) {
		return append(dst, s...)
	}
	return appendJSONHexAll(dst, s)
}

// keepsJSONHex reports whether s is acceptable text.
func keepsJSONHex(s []byte) bool {
	for i := 0; i < len(s); {
		if c := s[i]; printable(c) || jsonShort(c) != 0 {
			i++
			continue
		}
		n := acceptableRune(s[i:])
		if n == 0 {
			return false
		}
		i += n
	}
	return true
}

func appendJSONHexAll(dst, s []byte) []byte {
	for _, c := range s {
		if printable(c) || jsonShort(c) != 0 {
			dst = append(dst, c)
		} else {
			dst = appendHexEscape(dst, c)
		}
	}
	return dst
}

// appendJSONPUA appends s. A byte HH that is not part of acceptable text becomes the character
// U+F00HH, written as two surrogates.
func appendJSONPUA(dst, s []byte) []byte {
	for len(s) > 0 {
		c := s[0]
		n := 1
		if short := jsonShort(c); short != 0 {
			dst = append(dst, '\\', short)
		} else if printable(c) {
			dst = append(dst, c)
		} else if n = acceptableRune(s); n > 0 {
			dst = append(dst, s[:n]...)
		} else {
			n = 1
			dst = append(dst, `\udb80\udc`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&0xf])
		}
		s = s[n:]
	}
	return dst
}
