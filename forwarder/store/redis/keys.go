package redis

import (
	"math"
	"strconv"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

func del(s *session, args [][]byte) {
	n := int64(0)
	for _, key := range args[1:] {
		if s.get(key) == nil {
			continue
		}
		if !s.remove(key) {
			return
		}
		n++
	}
	s.out.int(n)
}

func exists(s *session, args [][]byte) {
	n := int64(0)
	for _, key := range args[1:] {
		if s.get(key) != nil {
			n++
		}
	}
	s.out.int(n)
}

func typeOf(s *session, args [][]byte) { s.out.simple(string(formOf(s.get(args[1])))) }

// expireUnits are the units of the commands that set an expiry, as those of SET.
var expireUnits = map[string]string{
	"EXPIRE": "EX", "PEXPIRE": "PX", "EXPIREAT": "EXAT", "PEXPIREAT": "PXAT",
}

// expire is EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT.
func expire(s *session, args [][]byte) {
	name := upper(args[0])
	var nx, xx, gt, lt bool
	for _, a := range args[3:] {
		switch upper(a) {
		case "NX":
			nx = true
		case "XX":
			xx = true
		case "GT":
			gt = true
		case "LT":
			lt = true
		default:
			s.out.fail("ERR Unsupported option " + string(a))
			return
		}
	}
	switch {
	case nx && (xx || gt || lt):
		s.out.fail("ERR NX and XX, GT or LT options at the same time are not compatible")
		return
	case gt && lt:
		s.out.fail("ERR GT and LT options at the same time are not compatible")
		return
	}
	n, ok := integer(args[2])
	if !ok {
		s.out.fail(errInteger)
		return
	}
	milliseconds, ok := s.milliseconds(expireUnits[name], n)
	if !ok {
		s.invalidExpiry(string(lowered(args[0])))
		return
	}
	e := s.get(args[1])
	at, old := instant(milliseconds), expires(e)
	switch {
	case e == nil, nx && !old.IsZero(), xx && old.IsZero(),
		gt && (old.IsZero() || !at.After(old)), lt && !old.IsZero() && !at.Before(old):
		s.out.int(0)
		return
	}
	s.setExpiry(args[1], at)
}

// setExpiry changes the expiry of a key that exists.
func (s *session) setExpiry(key []byte, at time.Time) {
	if _, err := s.tx.Expire(store.Text(key), at); err != nil {
		s.failed(err)
		return
	}
	s.wrote = true
	s.out.int(1)
}

func persist(s *session, args [][]byte) {
	if e := s.get(args[1]); e == nil || e.Expires.IsZero() {
		s.out.int(0)
		return
	}
	s.setExpiry(args[1], time.Time{})
}

// ttl is TTL, PTTL, EXPIRETIME and PEXPIRETIME.
func ttl(s *session, args [][]byte) {
	e := s.get(args[1])
	switch {
	case e == nil:
		s.out.int(-2)
		return
	case e.Expires.IsZero():
		s.out.int(-1)
		return
	}
	at := e.Expires.UnixMilli()
	left := max(at-s.now.UnixMilli(), 0)
	switch upper(args[0]) {
	case "TTL":
		s.out.int((left + 500) / 1000)
	case "PTTL":
		s.out.int(left)
	case "EXPIRETIME":
		s.out.int((at + 500) / 1000)
	default:
		s.out.int(at)
	}
}

const errPattern = "ERR the pattern is too long: it may have 1024 bytes"

// listed is how many entries are read from the store at once.
const listed = 1000

// list returns entries from a key on, and where to go on; nil at the end.
func (s *session) list(from event.Raw, n int) (entries []*store.Entry, next event.Raw) {
	if s.tx == nil {
		entries = s.store().List(from, n+1)
	} else {
		for e := range s.tx.From(from) {
			if entries = append(entries, e); len(entries) > n {
				break
			}
		}
	}
	if len(entries) > n {
		entries, next = entries[:n], entries[n].Key
	}
	return entries, next
}

// visible returns the name of an entry for clients. There is none if its key is no string, or if
// the client may not read it.
func (s *session) visible(e *store.Entry) ([]byte, bool) {
	if e.Key.Kind() != event.String {
		return nil, false
	}
	name, _ := e.Key.Text()
	return name, s.may(name, false)
}

func keys(s *session, args [][]byte) {
	if len(args[1]) > maxPattern {
		s.out.fail(errPattern)
		return
	}
	var names [][]byte
	size := 0
	for from, more := firstKey(args[1]), true; more; {
		var entries []*store.Entry
		entries, from = s.list(from, listed)
		for _, e := range entries {
			name, ok := s.visible(e)
			if ok && match(args[1], name) {
				names = append(names, name)
				size += len(name) + maxHead
			}
			more = e.Key.Kind() <= event.String && !beyond(args[1], e.Key)
		}
		more = more && from != nil
		if !s.room(size) {
			return
		}
	}
	s.out.array(len(names))
	for _, name := range names {
		s.out.bytes(name)
	}
}

// firstKey returns the first key that can match a pattern.
func firstKey(pattern []byte) event.Raw { return store.Text(literal(pattern)) }

// beyond reports whether a string and those behind it are too large for a pattern.
func beyond(pattern []byte, key event.Raw) bool {
	prefix := literal(pattern)
	text, _ := key.Text()
	return key.Kind() == event.String && string(text[:min(len(text), len(prefix))]) > string(prefix)
}

func scan(s *session, args [][]byte) {
	cursor, err := strconv.ParseUint(string(args[1]), 10, 64)
	if err != nil {
		s.out.fail("ERR invalid cursor")
		return
	}
	var pattern []byte
	want, count := "", int64(10)
	for i := 2; i < len(args); i += 2 {
		if i+1 == len(args) {
			s.out.fail(errSyntax)
			return
		}
		switch upper(args[i]) {
		case "MATCH":
			if pattern = args[i+1]; len(pattern) > maxPattern {
				s.out.fail(errPattern)
				return
			}
		case "TYPE":
			want = string(lowered(args[i+1]))
		case "COUNT":
			var ok bool
			if count, ok = integer(args[i+1]); !ok {
				s.out.fail(errInteger)
				return
			}
			if count < 1 {
				s.out.fail(errSyntax)
				return
			}
		default:
			s.out.fail(errSyntax)
			return
		}
	}
	var from event.Raw
	if cursor != 0 {
		var ok bool
		if from, ok = s.c.s.cursors.take(s.database, cursor); !ok {
			s.out.fail("ERR invalid cursor: the server no longer has it; begin again with 0")
			return
		}
	} else if pattern != nil {
		from = firstKey(pattern)
	}
	entries, next := s.list(from, int(min(count, listed)))
	var names [][]byte
	size := 0
	for _, e := range entries {
		name, ok := s.visible(e)
		if ok && (pattern == nil || match(pattern, name)) &&
			(want == "" || want == string(formOf(e))) {
			names = append(names, name)
			size += len(name) + maxHead
		}
	}
	if next != nil && (next.Kind() > event.String || pattern != nil && beyond(pattern, next)) {
		next = nil
	}
	if !s.room(size) {
		return
	}
	s.out.array(2)
	s.out.text(strconv.FormatUint(s.c.s.cursors.put(s.database, next), 10))
	s.out.array(len(names))
	for _, name := range names {
		s.out.bytes(name)
	}
}

func dbsize(s *session, _ [][]byte) {
	if s.tx != nil {
		s.out.int(int64(s.tx.Len()))
		return
	}
	s.out.int(int64(min(s.store().Stats().Keys, math.MaxInt)))
}

func flushdb(s *session, args [][]byte) {
	if len(args) > 2 || len(args) == 2 && upper(args[1]) != "SYNC" && upper(args[1]) != "ASYNC" {
		s.out.fail(errSyntax)
		return
	}
	if err := s.tx.Clear(); err != nil {
		s.failed(err)
		return
	}
	s.wrote = true
	s.out.ok()
}
