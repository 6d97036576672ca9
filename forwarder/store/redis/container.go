package redis

import (
	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// Redis's types are Zeek's:
//
//	string       every value that is no container
//	list         a vector
//	set          a set
//	hash         a table whose values are no doubles
//	sorted set   a table whose values are doubles, the scores
//
// Elements and fields that commands write are strings. Others, which programs with types have
// written, have the text that event.AppendText gives them; commands cannot change these.

// form is a type of Redis.
type form string

const (
	formNone   form = "none"
	formString form = "string"
	formList   form = "list"
	formSet    form = "set"
	formHash   form = "hash"
	formZset   form = "zset"
)

// formOf returns the type of an entry, which may be nil.
func formOf(e *store.Entry) form {
	if e == nil {
		return formNone
	}
	switch e.Value.Kind() {
	case event.VectorOf:
		return formList
	case event.SetOf:
		return formSet
	case event.TableOf:
		for _, v := range e.Value.Pairs() {
			if v.Kind() == event.Real {
				return formZset
			}
			break
		}
		return formHash
	}
	return formString
}

// container returns the entry of a key if it is absent or has the form. Otherwise it answers with
// an error and returns false.
func (s *session) container(key []byte, want form) (*store.Entry, bool) {
	e := s.get(key)
	if have := formOf(e); have != want && have != formNone && !(e.Value.Len() == 0 &&
		e.Value.Kind() == empty[want].Kind()) {
		s.out.fail(errType)
		return nil, false
	}
	return e, true
}

// value returns the container of an entry, an empty one without an entry.
func value(e *store.Entry, f form) store.Value {
	if e == nil {
		return store.Whole(empty[f])
	}
	return e.Value
}

// empty has empty containers.
var empty = map[form]event.Raw{formList: {byte(event.VectorOf), 0}, formSet: {byte(event.SetOf), 0},
	formHash: {byte(event.TableOf), 0}, formZset: {byte(event.TableOf), 0}}

// change stores a container. One without elements is removed, as in Redis.
func (s *session) change(key []byte, e *store.Entry, v store.Value) bool {
	if v.Len() == 0 {
		return s.remove(key)
	}
	return s.putValue(key, v, expires(e))
}

// amend makes edits in the container of a key, and answers with the number of elements that were
// added or removed.
func (s *session) amend(key []byte, want form, edit func(store.Value) store.Value) {
	e, ok := s.container(key, want)
	if !ok {
		return
	}
	old := value(e, want)
	v := edit(old)
	if !v.Same(old) && !s.change(key, e, v) {
		return
	}
	s.out.int(int64(max(v.Len()-old.Len(), old.Len()-v.Len())))
}

// without returns an edit that removes elements, or entries with these keys.
func without(words [][]byte) func(store.Value) store.Value {
	return func(v store.Value) store.Value {
		for _, w := range words {
			v = v.Remove(store.Text(w))
		}
		return v
	}
}

// length answers with the number of elements of the container of a key.
func (s *session) length(key []byte, want form) {
	if e, ok := s.container(key, want); ok {
		s.out.int(int64(value(e, want).Len()))
	}
}

// Sets.

func sadd(s *session, args [][]byte) {
	s.amend(args[1], formSet, func(v store.Value) store.Value {
		for _, w := range args[2:] {
			v = v.Insert(store.Text(w), nil)
		}
		return v
	})
}

func srem(s *session, args [][]byte)  { s.amend(args[1], formSet, without(args[2:])) }
func scard(s *session, args [][]byte) { s.length(args[1], formSet) }

func smembers(s *session, args [][]byte) {
	e, ok := s.container(args[1], formSet)
	if !ok {
		return
	}
	v := value(e, formSet)
	s.out.set(v.Len())
	for member := range v.Pairs() {
		s.plain(member)
	}
}

func sismember(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formSet); ok {
		s.out.bool(value(e, formSet).Find(store.Text(args[2])) != nil)
	}
}

// Hashes.

func hset(s *session, args [][]byte) {
	if len(args)%2 != 0 {
		s.arity("hset")
		return
	}
	s.amend(args[1], formHash, func(v store.Value) store.Value {
		for i := 2; i < len(args); i += 2 {
			v = v.Insert(store.Text(args[i]), store.Text(args[i+1]))
		}
		return v
	})
}

func hdel(s *session, args [][]byte) { s.amend(args[1], formHash, without(args[2:])) }
func hlen(s *session, args [][]byte) { s.length(args[1], formHash) }

// field answers with the field of a hash.
func (s *session) field(v store.Value, name []byte) {
	if f := v.Find(store.Text(name)); f != nil {
		s.plain(f)
	} else {
		s.out.null()
	}
}

func hget(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.field(value(e, formHash), args[2])
	}
}

func hmget(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.out.array(len(args) - 2)
		for _, name := range args[2:] {
			s.field(value(e, formHash), name)
		}
	}
}

func hexists(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.out.bool(value(e, formHash).Find(store.Text(args[2])) != nil)
	}
}

func hgetall(s *session, args [][]byte) {
	e, ok := s.container(args[1], formHash)
	if !ok {
		return
	}
	s.out.pairs(value(e, formHash).Len())
	for name, v := range value(e, formHash).Pairs() {
		s.plain(name)
		s.plain(v)
	}
}

func hkeys(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.out.array(value(e, formHash).Len())
		for name := range value(e, formHash).Pairs() {
			s.plain(name)
		}
	}
}

func hvals(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.out.array(value(e, formHash).Len())
		for _, v := range value(e, formHash).Pairs() {
			s.plain(v)
		}
	}
}
