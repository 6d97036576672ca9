package event

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// ParseJSON reads one value in broker-json-v1 and appends it to dst in broker-bin-v1. Sets and
// tables are put in order. It takes what Zeek's reader takes (broker/internal/json.cc): members in
// any order, others beside them, control characters and any bytes in strings. It also takes what
// only Zeek's writer knows, \v in strings and infinite doubles, and an escaped slash. After an
// error dst is unchanged. Errors are of type *[Error].
func ParseJSON(dst, text []byte) ([]byte, error) {
	r := jsonReader{text: text, out: dst}
	err := r.value(0)
	if err == nil {
		if r.space(); r.at < len(text) {
			err = r.bad("%d bytes follow the value", len(text)-r.at)
		}
	}
	if err != nil {
		return dst, err
	}
	return r.out, nil
}

type jsonReader struct {
	text    []byte
	at      int
	out     []byte
	scratch []byte // of the string that was unquoted last
}

func (r *jsonReader) bad(format string, args ...any) *Error {
	return fault(BadJSON, r.at, format, args...)
}

func (r *jsonReader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// peek returns the next character behind white space, 0 at the end.
func (r *jsonReader) peek() byte {
	if r.space(); r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

// expect passes over one character.
func (r *jsonReader) expect(c byte) *Error {
	if r.peek() != c {
		return r.bad("a %q is missing", c)
	}
	r.at++
	return nil
}

// next is called behind a member or an element: it reports whether another one follows, and passes
// over the comma or the end.
func (r *jsonReader) next(end byte) (more bool, err *Error) {
	switch r.peek() {
	case ',':
		r.at++
		return true, nil
	case end:
		r.at++
		return false, nil
	}
	return false, r.bad("a comma or %q is missing", end)
}

// members calls member for each member of an object with its name, which is valid until the next
// string is read. It must pass over the value.
func (r *jsonReader) members(member func(name []byte) *Error) *Error {
	if err := r.expect('{'); err != nil {
		return err
	}
	if r.peek() == '}' {
		r.at++
		return nil
	}
	for {
		name, err := r.string()
		if err != nil {
			return err
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
		if more, err := r.next('}'); err != nil || !more {
			return err
		}
	}
}

// value reads {"@data-type":...,"data":...}.
func (r *jsonReader) value(depth int) *Error {
	kind, data, done := numKinds, -1, false
	begin := r.at
	err := r.members(func(name []byte) *Error {
		switch {
		case string(name) == "@data-type" && kind == numKinds:
			at := r.at
			text, err := r.string()
			if err != nil {
				return err
			}
			i := slices.Index(kindNames[:], string(text))
			if i < 0 {
				return fault(UnknownTag, at, "%.40q", text)
			}
			kind = Kind(i)
			return nil
		case string(name) == "data" && data < 0:
			r.space()
			if data = r.at; kind == numKinds || kind == None {
				return r.skip()
			}
			done = true
			return r.data(kind, depth)
		}
		return r.skip()
	})
	switch {
	case err != nil:
		return err
	case kind == numKinds:
		return fault(BadJSON, begin, "the value has no @data-type")
	case kind == None:
		r.out = append(r.out, byte(None))
		return nil
	case data < 0:
		return fault(BadJSON, begin, "the %v has no data", kind)
	case done:
		return nil
	}
	// The data came before their type.
	end := r.at
	r.at = data
	if err := r.data(kind, depth); err != nil {
		return err
	}
	r.at = end
	return nil
}

// maxSkipped is how deep what is ignored may be nested: what Zeek's reader allows in all.
const maxSkipped = 128

// skip passes over any JSON value. It checks strings and brackets, nothing else.
func (r *jsonReader) skip() *Error {
	var open [maxSkipped]byte // the brackets that are to be closed
	for depth := 0; ; {
		switch c := r.peek(); c {
		case 0:
			return r.bad("the text ends within a value")
		case '{', '[':
			if depth == maxSkipped {
				return fault(TooDeep, r.at, "more than %d brackets in one another", maxSkipped)
			}
			open[depth] = c + 2 // the closing one, in ASCII
			depth++
			r.at++
			continue
		case '}', ']':
			if depth == 0 || open[depth-1] != c {
				return r.bad("%q closes nothing", c)
			}
			depth--
			r.at++
		case '"':
			if _, err := r.string(); err != nil {
				return err
			}
		case ',', ':':
			if depth == 0 {
				return r.bad("a value is missing")
			}
			r.at++
		default:
			r.literal()
		}
		if depth == 0 {
			return nil
		}
	}
}

// literal returns a number, true, false or the like.
func (r *jsonReader) literal() []byte {
	r.space()
	begin := r.at
	for r.at < len(r.text) && !strings.ContainsRune("{}[],:\" \t\r\n", rune(r.text[r.at])) {
		r.at++
	}
	if r.at == begin && r.at < len(r.text) {
		r.at++ // a character that cannot be there; it is no value of any kind
	}
	return r.text[begin:r.at]
}

// data reads the data of a value of the given kind.
func (r *jsonReader) data(kind Kind, depth int) *Error {
	begin := r.at
	wrong := func(text []byte) *Error {
		return fault(BadValue, begin, "%.40q is no %v", text, kind)
	}
	switch kind {
	case Bool, Count, Int, Real:
		text := r.literal()
		if !r.number(kind, text) {
			return wrong(text)
		}
		return nil
	case SetOf, VectorOf, TableOf:
		return r.container(kind, depth)
	}
	text, err := r.string()
	if err != nil {
		return err
	}
	if kind == String || kind == EnumValue {
		r.out = appendText(r.out, kind, text)
		return nil
	}
	if len(text) > 100 {
		return wrong(text)
	}
	if out, ok := parseText(r.out, kind, string(text)); ok {
		r.out = out
		return nil
	}
	return wrong(text)
}

// number appends a value that stands without quotes.
func (r *jsonReader) number(kind Kind, text []byte) bool {
	s := string(text)
	switch kind {
	case Bool:
		if s != "true" && s != "false" {
			return false
		}
		r.out = append(r.out, byte(Bool), byte(boolInt(s == "true")))
	case Count:
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil || s[0] == '+' {
			return false
		}
		r.out = appendUint64(r.out, Count, v)
	case Int:
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil || s[0] == '+' {
			return false
		}
		r.out = appendUint64(r.out, Int, uint64(v))
	case Real:
		v, ok := parseReal(s)
		if !ok {
			return false
		}
		r.out = appendUint64(r.out, Real, packReal(v))
	}
	return true
}

// parseReal reads a double. A whole number without point or exponent is none, as for Zeek.
func parseReal(s string) (float64, bool) {
	switch s {
	case "nan":
		return math.NaN(), true
	case "inf":
		return math.Inf(1), true
	case "-inf":
		return math.Inf(-1), true
	}
	if !strings.ContainsAny(s, ".eE") || strings.Trim(s, "0123456789.eE+-") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(v, 0) {
		return 0, false
	}
	return v, true
}

// container reads an array of values, or of entries.
func (r *jsonReader) container(kind Kind, depth int) *Error {
	if depth >= MaxDepth {
		return fault(TooDeep, r.at, "more than %d containers in one another", MaxDepth)
	}
	start := r.at
	if err := r.expect('['); err != nil {
		return err
	}
	// The number of elements stands in front of them and is known behind them. It mostly takes one
	// byte.
	head := len(r.out)
	r.out = append(r.out, byte(kind), 0)
	begin := len(r.out)
	n := 0
	if r.peek() == ']' {
		r.at++
	} else {
		for more := true; more; n++ {
			var err *Error
			if kind == TableOf {
				err = r.entry(depth + 1)
			} else {
				err = r.value(depth + 1)
			}
			if err != nil {
				return err
			}
			if more, err = r.next(']'); err != nil {
				return err
			}
		}
	}
	if kind != VectorOf {
		out, err := order(r.out, begin, kind)
		if err != nil {
			return fault(Duplicate, start, "an element or key is twice in a %v", kind)
		}
		r.out = out
	}
	var length [binary.MaxVarintLen64]byte
	used := binary.PutUvarint(length[:], uint64(n))
	r.out = slices.Replace(r.out, head+1, begin, length[:used]...)
	return nil
}

// entry reads {"key":...,"value":...}.
func (r *jsonReader) entry(depth int) *Error {
	begin, out := r.at, len(r.out)
	key, value := -1, -1 // the end of what was appended
	err := r.members(func(name []byte) *Error {
		switch {
		case string(name) == "key" && key < 0:
			err := r.value(depth)
			key = len(r.out)
			return err
		case string(name) == "value" && value < 0:
			err := r.value(depth)
			value = len(r.out)
			return err
		}
		return r.skip()
	})
	if err != nil {
		return err
	}
	if key < 0 || value < 0 {
		return fault(BadJSON, begin, "an entry of a table needs key and value")
	}
	if value < key { // the value came first
		first := slices.Clone(r.out[out:value])
		r.out = append(append(r.out[:out], r.out[value:key]...), first...)
	}
	return nil
}

// string reads a string. The result is valid until the next call.
func (r *jsonReader) string() ([]byte, *Error) {
	if err := r.expect('"'); err != nil {
		return nil, err
	}
	begin := r.at
	r.scratch = r.scratch[:0]
	for copied := begin; ; {
		if r.at >= len(r.text) {
			return nil, r.bad("the text ends within a string")
		}
		switch r.text[r.at] {
		case '"':
			end := r.at
			r.at++
			if copied == begin {
				return r.text[begin:end], nil
			}
			r.scratch = append(r.scratch, r.text[copied:end]...)
			return r.scratch, nil
		case '\\':
			r.scratch = append(r.scratch, r.text[copied:r.at]...)
			if err := r.escape(); err != nil {
				return nil, err
			}
			copied = r.at
		default:
			r.at++
		}
	}
}

// escape appends to scratch what the escape sequence here stands for.
func (r *jsonReader) escape() *Error {
	if r.at+1 >= len(r.text) {
		return r.bad("the text ends within a string")
	}
	c := r.text[r.at+1]
	if c == 'u' {
		return r.escapedRune()
	}
	i := strings.IndexByte(`"\/bfnrtv`, c)
	if i < 0 {
		return r.bad("there is no escape sequence \\%c", c)
	}
	r.scratch = append(r.scratch, "\"\\/\b\f\n\r\t\v"[i])
	r.at += 2
	return nil
}

// escapedRune reads \uXXXX, two of them for a character beyond 16 bits.
func (r *jsonReader) escapedRune() *Error {
	c, ok := hex4(r.text[r.at:])
	if !ok {
		return r.bad("\\u needs four hexadecimal digits")
	}
	size := 6
	if utf16.IsSurrogate(c) {
		low, ok := hex4(r.text[r.at+6:])
		if c = utf16.DecodeRune(c, low); !ok || c == utf8.RuneError {
			return r.bad("half of a surrogate pair")
		}
		size = 12
	}
	r.scratch = utf8.AppendRune(r.scratch, c)
	r.at += size
	return nil
}

// hex4 reads \uXXXX.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(v), err == nil
}

// parseText appends a value that stands in quotes.
func parseText(dst []byte, kind Kind, s string) (_ []byte, ok bool) {
	var err error
	switch kind {
	case Address:
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil {
			dst, err = appendAddr(dst, a)
		}
	case Subnet:
		var p netip.Prefix
		if p, err = netip.ParsePrefix(s); err == nil {
			dst, err = appendPrefix(dst, p)
		}
	case PortNumber:
		var p Port
		if p, err = parsePort(s); err == nil {
			dst, err = appendPort(dst, p)
		}
	case Timestamp:
		var t time.Time
		if t, err = parseTimestamp(s); err == nil {
			dst, err = appendTime(dst, t)
		}
	case Timespan:
		ns, valid := parseTimespan(s)
		return appendUint64(dst, Timespan, uint64(ns)), valid
	}
	return dst, err == nil
}

// parsePort reads 80/tcp. Without a protocol it is TCP, with one that is not known it is unknown.
func parsePort(s string) (Port, error) {
	number, proto, found := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	p := Port{Number: uint16(n), Proto: ProtoTCP}
	if found {
		p.Proto = Proto(max(0, slices.Index(protoNames[:], proto)))
	}
	return p, err
}

// parseTimestamp reads 2006-01-02T15:04:05, with a fraction or not, and with a zone or in UTC.
func parseTimestamp(s string) (time.Time, error) {
	const layout = "2006-01-02T15:04:05"
	if i := strings.IndexAny(s[min(len(s), len(layout)):], "Z+-"); i >= 0 {
		return time.Parse(layout+"Z07:00", s)
	}
	return time.Parse(layout, s)
}

var units = []struct {
	name string
	ns   uint64
}{
	{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"min", 60e9}, {"s", 1e9}, {"h", 3600e9},
}

// parseTimespan reads a number, which may have a sign and a fraction, and a unit. What is less than
// a nanosecond is cut off.
func parseTimespan(s string) (ns int64, ok bool) {
	s, negative := strings.CutPrefix(s, "-")
	if !negative {
		s = strings.TrimPrefix(s, "+")
	}
	for _, unit := range units {
		number, found := strings.CutSuffix(s, unit.name)
		if !found {
			continue
		}
		whole, fraction, _ := strings.Cut(number, ".")
		if whole == "" && fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
			return 0, false
		}
		n, err := strconv.ParseUint("0"+whole, 10, 64)
		high, total := bits.Mul64(n, unit.ns)
		total, carry := bits.Add64(total, fractionOf(fraction, unit.ns), 0)
		limit := uint64(math.MaxInt64)
		if negative {
			limit++
		}
		if err != nil || high|carry != 0 || total > limit {
			return 0, false
		}
		if negative {
			return int64(-total), true
		}
		return int64(total), true
	}
	return 0, false
}

// fractionOf returns 0.digits times n.
func fractionOf(digits string, n uint64) uint64 {
	digits = digits[:min(len(digits), 18)]
	v, _ := strconv.ParseUint("0"+digits, 10, 64)
	scale := uint64(1)
	for range digits {
		scale *= 10
	}
	high, low := bits.Mul64(v, n)
	q, _ := bits.Div64(high, low, scale)
	return q
}
