package printer

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"zmtpd/capture"
	"zmtpd/forwarder/event"
	"zmtpd/zmtp/wire"
)

// printable returns text that a terminal prints as it is: bytes that are no printable UTF-8 become
// \xNN. Of long texts it returns the beginning.
func printable(b []byte) string {
	cut := max(0, len(b)-maxShown)
	b = b[:len(b)-cut]
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == '\\':
			out = append(out, `\\`...)
		case r == utf8.RuneError && n == 1 || !unicode.IsPrint(r):
			for _, c := range b[:n] {
				out = append(out, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			}
		default:
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	if cut > 0 {
		out = fmt.Appendf(out, "... and %d bytes", cut)
	}
	return string(out)
}

const hexDigits = "0123456789abcdef"

func version(g wire.Greeting) string { return fmt.Sprintf("%d.%d", g.Major, g.Minor) }

// handshakeData returns what the data of a command say. The password in HELLO of PLAIN is not
// printed.
func handshakeData(ev *capture.Event) string {
	switch ev.Name {
	case wire.CmdError:
		if reason, err := wire.ParseError(ev.Data); err == nil {
			return "reason " + printable([]byte(reason))
		}
	case "HELLO":
		if n := len(ev.Data); n > 0 && int(ev.Data[0]) < n-1 && n < 194 {
			return "user " + printable(ev.Data[1:1+ev.Data[0]])
		}
	case wire.CmdPing:
		if ttl, context, err := wire.ParsePing(ev.Data); err == nil {
			return fmt.Sprintf("ttl %v context %s", time.Duration(ttl)*100*time.Millisecond,
				printable(context))
		}
	case capture.CmdClose:
		if n := len(ev.Data); n >= 2 {
			return strings.TrimSpace(fmt.Sprintf("code %d %s", binary.BigEndian.Uint16(ev.Data),
				printable(ev.Data[2:])))
		}
	case wire.CmdSubscribe, wire.CmdCancel, wire.CmdPong:
		return printable(ev.Data)
	}
	return ""
}

// appendArgs appends the arguments of an event as JSON.
func appendArgs(dst []byte, ev event.Event) []byte { return appendValue(dst, ev.Args) }

// appendValue appends a value as JSON that is easy to read: without types, sets and vectors as
// arrays, tables as arrays of pairs.
func appendValue(dst []byte, r event.Raw) []byte {
	switch r.Kind() {
	case event.None:
		return append(dst, "null"...)
	case event.Bool:
		v, _ := r.Bool()
		return strconv.AppendBool(dst, v)
	case event.Count:
		v, _ := r.Count()
		return strconv.AppendUint(dst, v, 10)
	case event.Int:
		v, _ := r.Int()
		return strconv.AppendInt(dst, v, 10)
	case event.Real:
		v, _ := r.Real()
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return appendText(dst, fmt.Sprint(v))
		}
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	case event.String, event.EnumValue:
		v, _ := r.Text()
		return appendText(dst, printable(v))
	case event.Address:
		v, _ := r.Addr()
		return appendText(dst, v.String())
	case event.Subnet:
		v, _ := r.Prefix()
		return appendText(dst, v.String())
	case event.PortNumber:
		v, _ := r.Port()
		return appendText(dst, v.String())
	case event.Timestamp:
		v, _ := r.Time()
		return appendText(dst, v.UTC().Format(time.RFC3339Nano))
	case event.Timespan:
		v, _ := r.Duration()
		return appendText(dst, v.String())
	case event.TableOf:
		return appendTable(dst, r)
	case event.SetOf, event.VectorOf:
		dst = append(dst, '[')
		i := 0
		for v := range r.Elements() {
			if i++; i > 1 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, v)
		}
		return append(dst, ']')
	}
	return appendText(dst, hex.EncodeToString(r))
}

func appendTable(dst []byte, r event.Raw) []byte {
	dst = append(dst, '[')
	i := 0
	for k, v := range r.Entries() {
		if i++; i > 1 {
			dst = append(dst, ',')
		}
		dst = appendValue(append(dst, '['), k)
		dst = append(appendValue(append(dst, ','), v), ']')
	}
	return append(dst, ']')
}

func appendText(dst []byte, s string) []byte {
	b, _ := json.Marshal(s)
	return append(dst, b...)
}
