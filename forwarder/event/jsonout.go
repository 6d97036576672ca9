package event

import (
	"math"
	"strconv"
	"time"
)

// AppendJSON appends the value in broker-json-v1, byte for byte as Zeek writes it
// (broker/format/json.cc). That is not always JSON: bytes of a string that are no UTF-8 and control
// characters stay as they are, and doubles that are infinite or no number are inf, -inf and nan. It
// loses what Zeek loses: digits of doubles behind the sixth, and parts of a millisecond of a time.
func AppendJSON(dst []byte, r Raw) []byte { return appendMembers(append(dst, '{'), r) }

// appendMembers appends the members of a value's object and the brace behind them.
func appendMembers(dst []byte, r Raw) []byte {
	k := r.Kind()
	dst = append(dst, `"@data-type":"`...)
	dst = append(dst, kindNames[k]...)
	dst = append(dst, `","data":`...)
	switch k {
	case None:
		dst = append(dst, "{}"...)
	case Bool:
		v, _ := r.Bool()
		dst = strconv.AppendBool(dst, v)
	case Count:
		v, _ := r.Count()
		dst = strconv.AppendUint(dst, v, 10)
	case Int:
		dst = strconv.AppendInt(dst, r.signed(), 10)
	case Real:
		v, _ := r.Real()
		dst = appendReal(dst, v)
	case String, EnumValue:
		v, _ := r.Text()
		dst = appendQuoted(dst, v)
	case Address:
		v, _ := r.Addr()
		dst = append(v.AppendTo(append(dst, '"')), '"')
	case Subnet:
		v, _ := r.Prefix()
		dst = append(v.AppendTo(append(dst, '"')), '"')
	case PortNumber:
		v, _ := r.Port()
		dst = strconv.AppendUint(append(dst, '"'), uint64(v.Number), 10)
		dst = append(append(append(dst, '/'), v.Proto.String()...), '"')
	case Timestamp:
		dst = append(appendTimestamp(append(dst, '"'), r.signed()), '"')
	case Timespan:
		dst = append(appendTimespan(append(dst, '"'), r.signed()), '"')
	case SetOf, VectorOf:
		dst = append(dst, '[')
		for e := range r.Elements() {
			dst = append(appendMembers(append(dst, '{'), e), ',')
		}
		dst = endList(dst)
	case TableOf:
		dst = append(dst, '[')
		for key, value := range r.Entries() {
			dst = appendMembers(append(dst, `{"key":{`...), key)
			dst = appendMembers(append(dst, `,"value":{`...), value)
			dst = append(dst, "},"...)
		}
		dst = endList(dst)
	}
	return append(dst, '}')
}

// endList replaces the comma behind the last element.
func endList(dst []byte) []byte {
	if last := len(dst) - 1; dst[last] == ',' {
		dst = dst[:last]
	}
	return append(dst, ']')
}

// appendReal appends v as printf's %f does.
func appendReal(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, "nan"...)
	case math.IsInf(v, 1):
		return append(dst, "inf"...)
	case math.IsInf(v, -1):
		return append(dst, "-inf"...)
	}
	return strconv.AppendFloat(dst, v, 'f', 6, 64)
}

// escapes are the characters that Zeek escapes, with the letter behind the backslash. \v is not
// JSON, but what Zeek writes.
var escapes = [256]byte{
	'\\': '\\', '"': '"', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v',
}

func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		if letter := escapes[s[i]]; letter != 0 {
			dst = append(append(dst, s[from:i]...), '\\', letter)
			from = i + 1
		}
	}
	return append(append(dst, s[from:]...), '"')
}

// appendTimestamp appends a time as Zeek does: seconds cut towards zero, three digits of what is
// left of them, and 000 before 1970.
func appendTimestamp(dst []byte, ns int64) []byte {
	seconds, millis := ns/1e9, ns%1e9/1e6
	if millis < 0 {
		millis = 0
	}
	dst = time.Unix(seconds, 0).UTC().AppendFormat(dst, "2006-01-02T15:04:05")
	return append(dst, '.', byte('0'+millis/100), byte('0'+millis/10%10), byte('0'+millis%10))
}

// appendTimespan appends an interval in the largest unit that loses nothing.
func appendTimespan(dst []byte, ns int64) []byte {
	unit := "ns"
	for _, larger := range []string{"us", "ms", "s"} {
		if ns%1000 != 0 {
			break
		}
		ns /= 1000
		unit = larger
	}
	return append(strconv.AppendInt(dst, ns, 10), unit...)
}
