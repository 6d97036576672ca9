package redis

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// Values of Redis's type string are those of Zeek that are no container. Commands write strings,
// and numbers only where INCR finds none or a number. Clients see the text of other values.

// scalar appends the text of an entry's value. It reports whether the value is no container.
func scalar(dst []byte, e *store.Entry) ([]byte, bool) {
	if e.Value.Kind() >= event.SetOf {
		return dst, false
	}
	return plain(dst, e.Value.Raw()), true
}

// plain appends the text of a value as clients see it: that of strings and numbers alone.
func plain(dst []byte, v event.Raw) []byte {
	switch v.Kind() {
	case event.String, event.EnumValue:
		text, _ := v.Text()
		return append(dst, text...)
	case event.Int:
		n, _ := v.Int()
		return strconv.AppendInt(dst, n, 10)
	case event.Real:
		f, _ := v.Real()
		return append(dst, formatDouble(f)...)
	case event.None:
		return dst
	}
	return event.AppendText(dst, v)
}

// plain answers with the text of a value.
func (s *session) plain(v event.Raw) {
	if !s.room(len(v) + maxHead) {
		return
	}
	if text, ok := v.Text(); ok {
		s.out.bytes(text)
		return
	}
	s.out.bytes(plain(nil, v))
}

// maxHead is more than what surrounds a string in an answer takes, or what the text of a number
// is longer than the number.
const maxHead = 64

// answer answers with the value of an entry, which may be nil. It returns false if that is an
// error.
func (s *session) answer(e *store.Entry) bool {
	switch {
	case e == nil:
		s.out.null()
	case e.Value.Kind() >= event.SetOf:
		s.out.fail(errType)
		return false
	default:
		s.plain(e.Value.Raw())
	}
	return true
}

func get(s *session, args [][]byte) { s.answer(s.get(args[1])) }

func mget(s *session, args [][]byte) {
	s.out.array(len(args) - 1)
	for _, key := range args[1:] {
		if e := s.get(key); e != nil && e.Value.Kind() < event.SetOf {
			s.plain(e.Value.Raw())
		} else {
			s.out.null()
		}
	}
}

// setOptions are the options of SET.
type setOptions struct {
	nx, xx, get, keep bool
	unit              string // EX, PX, EXAT, PXAT or ""
	at                []byte // its argument
}

// parse reads the options of SET. It reports whether they are valid together.
func (o *setOptions) parse(args [][]byte) bool {
	for i := 0; i < len(args); i++ {
		switch word := upper(args[i]); word {
		case "NX":
			o.nx = true
		case "XX":
			o.xx = true
		case "GET":
			o.get = true
		case "KEEPTTL":
			o.keep = true
		case "EX", "PX", "EXAT", "PXAT":
			if o.unit != "" || i+1 == len(args) {
				return false
			}
			i++
			o.unit, o.at = word, args[i]
		default:
			return false
		}
	}
	return !(o.nx && o.xx) && !(o.keep && o.unit != "")
}

// upper returns an option in capital letters, "" if it is too long to be one.
func upper(word []byte) string {
	if len(word) > maxName {
		return ""
	}
	return string(bytes.ToUpper(word))
}

// expiry returns the time of an expiry in a unit of SET. It answers with an error if there is none.
func (s *session) expiry(name, unit string, arg []byte) (time.Time, bool) {
	n, ok := integer(arg)
	if !ok {
		s.out.fail(errInteger)
		return time.Time{}, false
	}
	at, ok := int64(0), n > 0
	if ok {
		at, ok = s.milliseconds(unit, n)
	}
	if !ok {
		s.invalidExpiry(name)
		return time.Time{}, false
	}
	return instant(at), true
}

func (s *session) invalidExpiry(name string) {
	s.out.fail("ERR invalid expire time in '" + name + "' command")
}

// milliseconds returns a time in milliseconds since 1970, and whether it can be one.
func (s *session) milliseconds(unit string, n int64) (int64, bool) {
	if unit == "EX" || unit == "EXAT" {
		if n > math.MaxInt64/1000 || n < math.MinInt64/1000 {
			return 0, false
		}
		n *= 1000
	}
	if unit == "EX" || unit == "PX" {
		now := s.now.UnixMilli()
		if n > math.MaxInt64-now {
			return 0, false
		}
		n += now
	}
	return n, true
}

// lastInstant is the latest expiry, in milliseconds: what 64 bits of nanoseconds hold.
const lastInstant = math.MaxInt64 / 1_000_000

// instant returns the time of an expiry. Those after the year 2262 are that year.
func instant(milliseconds int64) time.Time {
	return time.UnixMilli(max(min(milliseconds, lastInstant), -lastInstant))
}

func set(s *session, args [][]byte) {
	var o setOptions
	if len(args) > 3 && !o.parse(args[3:]) {
		s.out.fail(errSyntax)
		return
	}
	if o.get && !s.may(args[1], false) {
		s.refuse(Denied, errDenied)
		return
	}
	var at time.Time
	if o.unit != "" {
		var ok bool
		if at, ok = s.expiry("set", o.unit, o.at); !ok {
			return
		}
	}
	var old *store.Entry
	if o.nx || o.xx || o.get || o.keep {
		old = s.get(args[1])
	}
	begin := len(s.out.b)
	if o.get && !s.answer(old) {
		return
	}
	if o.nx && old != nil || o.xx && old == nil {
		if !o.get {
			s.out.null()
		}
		return
	}
	if o.keep {
		at = expires(old)
	}
	answer := len(s.out.b)
	if !s.put(args[1], store.Text(args[2]), at) {
		s.out.b = append(s.out.b[:begin], s.out.b[answer:]...) // the error alone
	} else if !o.get {
		s.out.ok()
	}
}

func setnx(s *session, args [][]byte) {
	if s.get(args[1]) != nil {
		s.out.int(0)
	} else if s.put(args[1], store.Text(args[2]), time.Time{}) {
		s.out.int(1)
	}
}

// setex is SETEX and PSETEX.
func setex(s *session, args [][]byte) {
	name, unit := "setex", "EX"
	if args[0][0]|0x20 == 'p' {
		name, unit = "psetex", "PX"
	}
	if at, ok := s.expiry(name, unit, args[2]); ok && s.put(args[1], store.Text(args[3]), at) {
		s.out.ok()
	}
}

func getset(s *session, args [][]byte) {
	begin := len(s.out.b)
	if !s.answer(s.get(args[1])) {
		return
	}
	answer := len(s.out.b)
	if !s.put(args[1], store.Text(args[2]), time.Time{}) {
		s.out.b = append(s.out.b[:begin], s.out.b[answer:]...)
	}
}

func getdel(s *session, args [][]byte) {
	e := s.get(args[1])
	if s.answer(e) && e != nil {
		s.remove(args[1])
	}
}

func mset(s *session, args [][]byte) {
	if len(args)%2 == 0 {
		s.arity("mset")
		return
	}
	for i := 1; i < len(args); i += 2 {
		if !s.put(args[i], store.Text(args[i+1]), time.Time{}) {
			return
		}
	}
	s.out.ok()
}

func strlen(s *session, args [][]byte) {
	e := s.get(args[1])
	if e == nil {
		s.out.int(0)
		return
	}
	text, ok := scalar(nil, e)
	if !ok {
		s.out.fail(errType)
		return
	}
	s.out.int(int64(len(text)))
}

func appendTo(s *session, args [][]byte) {
	e := s.get(args[1])
	var text []byte
	if e != nil {
		var ok bool
		if text, ok = scalar(nil, e); !ok {
			s.out.fail(errType)
			return
		}
	}
	text = append(text, args[2]...)
	if s.put(args[1], store.Text(text), expires(e)) {
		s.out.int(int64(len(text)))
	}
}

// incr is INCR, DECR, INCRBY and DECRBY. A count or an int keeps its type, and so does a string
// with a number in it. An absent key becomes an int.
func incr(s *session, args [][]byte) {
	by := int64(1)
	if len(args) == 3 {
		var ok bool
		if by, ok = integer(args[2]); !ok {
			s.out.fail(errInteger)
			return
		}
	}
	if args[0][0]|0x20 == 'd' {
		if by == math.MinInt64 {
			s.out.fail("ERR decrement would overflow")
			return
		}
		by = -by
	}
	e := s.get(args[1])
	kind, old := event.Int, int64(0)
	if e != nil {
		kind = e.Value.Kind()
		var ok bool
		if old, ok = e.Value.Raw().Int(); !ok {
			text, plain := scalar(nil, e)
			if !plain {
				s.out.fail(errType)
				return
			}
			if old, ok = integer(text); !ok {
				s.out.fail(errInteger)
				return
			}
		}
	}
	sum := old + by
	if (sum > old) != (by > 0) && by != 0 || kind == event.Count && sum < 0 {
		s.out.fail("ERR increment or decrement would overflow")
		return
	}
	if s.put(args[1], number(kind, sum), expires(e)) {
		s.out.int(sum)
	}
}

// number returns an integer as a value of a kind.
func number(k event.Kind, n int64) event.Raw {
	var r event.Raw
	switch k {
	case event.Int:
		r, _ = event.Append(make([]byte, 0, 1+8), n)
	case event.Count:
		r, _ = event.Append(nil, uint64(n))
	default:
		r = store.Text(strconv.AppendInt(nil, n, 10))
	}
	return r
}
