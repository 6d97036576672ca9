package event

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// AppendText appends a value in a form for people to read, in one line:
//
//	T F  5  +5 -5  0.5        bool, count, int, double
//	"a\tb"  Notice::LOG       string, with Go's escapes; enum
//	10.0.0.1  10.0.0.0/8      addr, subnet
//	53/udp                    port
//	2006-01-02T15:04:05Z  1m0s  time, interval
//	[a, b]  {a, b}  {a: b}    vector or record, set, table
//	-                         none
func AppendText(dst []byte, r Raw) []byte {
	switch r.Kind() {
	case None:
		return append(dst, '-')
	case Bool:
		if v, _ := r.Bool(); v {
			return append(dst, 'T')
		}
		return append(dst, 'F')
	case Int:
		v, _ := r.Int()
		if v >= 0 {
			dst = append(dst, '+')
		}
		return strconv.AppendInt(dst, v, 10)
	case Real:
		v, _ := r.Real()
		return appendPlainReal(dst, v)
	case String:
		text, _ := r.Text()
		return strconv.AppendQuote(dst, string(text))
	case EnumValue:
		text, _ := r.Text()
		if isName(text) {
			return append(dst, text...)
		}
		return strconv.AppendQuote(dst, string(text))
	case VectorOf:
		return appendListText(append(dst, '['), r, ']')
	case SetOf:
		return appendListText(append(dst, '{'), r, '}')
	case TableOf:
		return appendListText(append(dst, '{'), r, '}')
	}
	return appendScalar(dst, r)
}

// appendListText appends elements or entries and the closing bracket.
func appendListText(dst []byte, r Raw, end byte) []byte {
	first := true
	comma := func() {
		if !first {
			dst = append(dst, ", "...)
		}
		first = false
	}
	for e := range r.Elements() {
		comma()
		dst = AppendText(dst, e)
	}
	for key, value := range r.Entries() {
		comma()
		dst = append(AppendText(dst, key), ": "...)
		dst = AppendText(dst, value)
	}
	return append(dst, end)
}

// appendScalar appends a value whose text is the same everywhere.
func appendScalar(dst []byte, r Raw) []byte {
	switch r.Kind() {
	case Count:
		v, _ := r.Count()
		return strconv.AppendUint(dst, v, 10)
	case Address:
		v, _ := r.Addr()
		return v.AppendTo(dst)
	case Subnet:
		v, _ := r.Prefix()
		return v.AppendTo(dst)
	case PortNumber:
		v, _ := r.Port()
		return append(dst, v.String()...)
	case Timestamp:
		v, _ := r.Time()
		return v.AppendFormat(dst, time.RFC3339Nano)
	case Timespan:
		v, _ := r.Duration()
		return append(dst, v.String()...)
	}
	return dst
}

// appendPlainReal appends a double with a point or an exponent, so that it does not look like a
// count.
func appendPlainReal(dst []byte, v float64) []byte {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	dst = append(dst, text...)
	if !strings.ContainsAny(text, ".eIN") {
		dst = append(dst, ".0"...)
	}
	return dst
}

// isName reports whether text is a name of Zeek, such as Notice::LOG.
func isName(text []byte) bool {
	for _, c := range text {
		if c != '_' && c != ':' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return len(text) > 0
}

// AppendPlainJSON appends a value as JSON without its type: strings, enums, addresses, subnets,
// ports and times as strings, counts, ints and doubles as numbers, an interval as its seconds,
// vectors, records and sets as arrays, a table as an array of arrays of key and value, none as
// null. It is always valid JSON: bytes that are no UTF-8 become U+FFFD, and infinite doubles
// strings.
func AppendPlainJSON(dst []byte, r Raw) []byte {
	switch r.Kind() {
	case None:
		return append(dst, "null"...)
	case Bool:
		v, _ := r.Bool()
		return strconv.AppendBool(dst, v)
	case Count:
		return appendScalar(dst, r)
	case Int:
		v, _ := r.Int()
		return strconv.AppendInt(dst, v, 10)
	case Real:
		v, _ := r.Real()
		return appendNumber(dst, v)
	case Timespan:
		v, _ := r.Duration()
		return appendNumber(dst, v.Seconds())
	case String, EnumValue:
		text, _ := r.Text()
		return AppendJSONString(dst, text)
	case VectorOf, SetOf, TableOf:
		dst = append(dst, '[')
		for e := range r.Elements() {
			dst = append(AppendPlainJSON(dst, e), ',')
		}
		for key, value := range r.Entries() {
			dst = append(AppendPlainJSON(append(dst, '['), key), ',')
			dst = append(AppendPlainJSON(dst, value), "],"...)
		}
		return endList(dst)
	}
	return append(appendScalar(append(dst, '"'), r), '"')
}

// appendNumber appends a number of JSON, or a string if it is infinite or no number.
func appendNumber(dst []byte, v float64) []byte {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return append(appendReal(append(dst, '"'), v), '"')
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// AppendJSONString appends a string of JSON that is valid whatever bytes it has, see
// [AppendPlainJSON].
func AppendJSONString[T string | []byte](dst []byte, text T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for len(text) > 0 {
		c, n := utf8.DecodeRuneInString(string(text[:min(len(text), utf8.UTFMax)]))
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c < 0x20 || c >= 0x7f && c < 0xa0: // also those that would control a terminal
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = utf8.AppendRune(dst, c)
		}
		text = text[n:]
	}
	return append(dst, '"')
}
