package zeek

import (
	"encoding/hex"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// slowWriter renders values with the escape sequences of a path, as Zeek's code does: at the end of
// a container it removes the set separator from them, even if it is equal to the separator.
type slowWriter struct {
	Options
	seqs map[string]bool
}

func newSlowWriter(o Options) *slowWriter {
	return &slowWriter{o, map[string]bool{o.Separator: true}}
}

// latin1 makes a character of each byte, so that a regexp can match bytes.
func latin1(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

func unlatin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

func slowHex(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(`\x` + hex.EncodeToString([]byte{s[i]}))
	}
	return b.String()
}

func slowAcceptable(r rune) bool {
	return r >= 0x20 && r < 0x7f || r >= 0xa0 && !(r >= 0xe000 && r <= 0xf8ff) &&
		!(r >= 0xfff0 && r <= 0xffff)
}

var slowUnprintable = regexp.MustCompile(`[^\x20-\x7e]`)

func (w *slowWriter) escape(s string) string {
	pattern := `\\`
	if !w.EnableUTF8 {
		pattern += `|[^\x20-\x7e]`
	}
	var seqs []string
	for seq := range w.seqs {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		pattern += "|" + regexp.QuoteMeta(latin1(seq))
	}
	special := regexp.MustCompile(pattern)
	segment := func(s string) string {
		s = unlatin1(s)
		ok := utf8.ValidString(s)
		for _, r := range s {
			ok = ok && slowAcceptable(r)
		}
		if !w.EnableUTF8 || ok {
			return s
		}
		return slowUnprintable.ReplaceAllStringFunc(latin1(s),
			func(c string) string { return slowHex(unlatin1(c)) })
	}
	var b strings.Builder
	s = latin1(s)
	for {
		at := special.FindStringIndex(s)
		if at == nil {
			return b.String() + segment(s)
		}
		b.WriteString(segment(s[:at[0]]))
		b.WriteString(strings.ReplaceAll(slowHex(unlatin1(s[at[0]:at[1]])), `\x5c`, `\\`))
		s = s[at[1]:]
	}
}

func (w *slowWriter) tsv(v Value) string {
	text := func() string {
		n := math.Float64frombits(v.Num)
		switch v.Type {
		case TypeBool:
			return map[bool]string{false: "F", true: "T"}[v.Num != 0]
		case TypeInt:
			return fmt.Sprint(int64(v.Num))
		case TypeCount, TypePort:
			return fmt.Sprint(v.Num)
		case TypeDouble:
			if n == 0 {
				return "0.0"
			}
			s := strings.TrimRight(strconv.FormatFloat(n, 'f', 6, 64), "0")
			s = strings.TrimSuffix(s, ".")
			if math.Abs(n-math.Round(n)) < 1e-9 {
				s += ".0"
			}
			return s
		case TypeTime, TypeInterval:
			return fmt.Sprintf("%.6f", n)
		case TypeAddr:
			return slowAddr(v.Addr)
		case TypeSubnet:
			if v.Addr.Is4() {
				return fmt.Sprintf("%s/%d", v.Addr, v.Num-96)
			}
			return fmt.Sprintf("%s/%d", slowAddr(v.Addr), v.Num)
		}
		panic(v.Type)
	}
	switch {
	case v.Unset:
		return w.escape(w.UnsetField)
	case v.Type == TypeSet || v.Type == TypeVector:
		if len(v.Elems) == 0 {
			return w.escape(w.EmptyField)
		}
		w.seqs[w.SetSeparator] = true
		var elems []string
		for _, e := range v.Elems {
			elems = append(elems, w.tsv(e))
		}
		delete(w.seqs, w.SetSeparator)
		return strings.Join(elems, w.SetSeparator)
	case v.Type == TypeString || v.Type == TypeEnum || v.Type == TypeFile || v.Type == TypeFunc:
		if v.Text == "" {
			return w.escape(w.EmptyField)
		}
		if v.Text == w.UnsetField || v.Text == w.EmptyField {
			return slowHex(v.Text[:1]) + w.escape(v.Text[1:])
		}
		return w.escape(v.Text)
	}
	return w.escape(text())
}

func (w *slowWriter) line(record []Value) string {
	var columns []string
	for _, v := range record {
		columns = append(columns, w.tsv(v))
	}
	line := strings.Join(columns, w.Separator)
	if line != "" && strings.HasPrefix(line, w.MetaPrefix) {
		line = slowHex(line[:1]) + line[1:]
	}
	return line + "\n"
}

func (w *slowWriter) jsonText(s string, policy StringEscapePolicy) string {
	quote := strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\b", `\b`, "\f", `\f`, "\n", `\n`, "\r",
		`\r`, "\t", `\t`)
	const short = "\b\f\n\r\t"
	switch policy {
	case StringEscapeTSV:
		plain := &slowWriter{Options: Options{EnableUTF8: true}}
		return `"` + quote.Replace(plain.escape(s)) + `"`
	case StringEscapePUA:
		var b strings.Builder
		for s != "" {
			r, n := utf8.DecodeRuneInString(s)
			switch {
			case strings.ContainsRune(short, r) || slowAcceptable(r):
				b.WriteString(quote.Replace(s[:n]))
			default:
				n = 1
				fmt.Fprintf(&b, `\udb80\udc%02x`, s[0])
			}
			s = s[n:]
		}
		return `"` + b.String() + `"`
	}
	ok := utf8.ValidString(s)
	for _, r := range s {
		ok = ok && (slowAcceptable(r) || strings.ContainsRune(short, r))
	}
	if !ok {
		s = regexp.MustCompile(`[^\x20-\x7e\x08\x0c\n\r\t]`).ReplaceAllStringFunc(latin1(s),
			func(c string) string { return slowHex(unlatin1(c)) })
		s = unlatin1(s)
	}
	return `"` + quote.Replace(s) + `"`
}

func (w *slowWriter) jsonValue(v Value) string {
	n := math.Float64frombits(v.Num)
	switch {
	case v.Unset:
		return "null"
	case v.Type == TypeSet || v.Type == TypeVector:
		elems := []string{}
		for _, e := range v.Elems {
			elems = append(elems, w.jsonValue(e))
		}
		return "[" + strings.Join(elems, ",") + "]"
	case v.Type == TypeBool:
		return fmt.Sprint(v.Num != 0)
	case v.Type == TypeInt || v.Type == TypeCount || v.Type == TypePort:
		return w.tsv(v)
	case v.Type == TypeAddr || v.Type == TypeSubnet:
		return `"` + w.tsv(v) + `"`
	case v.Type == TypeString:
		return w.jsonText(v.Text, w.JSONStringEscapePolicy)
	case v.Type == TypeEnum || v.Type == TypeFile || v.Type == TypeFunc:
		return w.jsonText(v.Text, StringEscapeHex)
	case v.Type == TypeTime && w.JSONTimestamps == JSONTimestampsMillis:
		return fmt.Sprint(int64(n * 1000))
	case v.Type == TypeTime && w.JSONTimestamps == JSONTimestampsMillisUnsigned:
		return fmt.Sprint(uint64(int64(n * 1000)))
	case v.Type == TypeTime && w.JSONTimestamps == JSONTimestampsISO8601:
		return time.UnixMicro(int64(n * 1e6)).UTC().Format(`"2006-01-02T15:04:05.000000Z"`)
	}
	if n == math.Trunc(n) {
		return fmt.Sprintf("%.1f", n)
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

func (w *slowWriter) jsonLine(fields []Field, record []Value) string {
	var members []string
	for i, v := range record {
		if !v.Unset || w.JSONIncludeUnsetFields {
			members = append(members, strconv.Quote(fields[i].Name)+":"+w.jsonValue(v))
		}
	}
	return "{" + strings.Join(members, ",") + "}\n"
}
