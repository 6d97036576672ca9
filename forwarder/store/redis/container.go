package redis

import (
	"encoding/binary"
	"iter"
	"slices"

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
		for _, v := range e.Value.Entries() {
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
		e.Value.Kind() == kinds[want]) {
		s.out.fail(errType)
		return nil, false
	}
	return e, true
}

var kinds = map[form]event.Kind{formList: event.VectorOf, formSet: event.SetOf,
	formHash: event.TableOf, formZset: event.TableOf}

// value returns the value of an entry, nil without one.
func value(e *store.Entry) event.Raw {
	if e == nil {
		return nil
	}
	return e.Value
}

// build makes a container of n elements, which content has in order.
func build(k event.Kind, n int, content []byte) event.Raw {
	r := make(event.Raw, 0, 1+binary.MaxVarintLen32+len(content))
	return append(binary.AppendUvarint(append(r, byte(k)), uint64(n)), content...)
}

// edit is a change of one element of a set, or one entry of a table.
type edit struct {
	key    event.Raw
	value  event.Raw // of a table; nil for none
	remove bool
}

// sorted puts edits in the order of a container. Of several for one key the last one stays.
func sorted(edits []edit) []edit {
	slices.SortStableFunc(edits, func(a, b edit) int { return event.Compare(a.key, b.key) })
	out := edits[:0]
	for i, e := range edits {
		if i+1 == len(edits) || event.Compare(e.key, edits[i+1].key) != 0 {
			out = append(out, e)
		}
	}
	return out
}

// apply makes sorted edits in a set or table, in one pass. It returns the new value, and how many
// elements were added and removed.
func apply(r event.Raw, k event.Kind, edits []edit) (out event.Raw, added, removed int) {
	content := make([]byte, 0, len(r)+32*len(edits))
	insert := func(e edit) {
		content = append(append(content, e.key...), e.value...)
	}
	for key, value := range pairsOf(r) {
		same := false
		for len(edits) > 0 && !same {
			c := event.Compare(edits[0].key, key)
			if c > 0 {
				break
			}
			same = c == 0
			switch e := edits[0]; {
			case same && e.remove:
				removed++
			case same:
				insert(e)
			case !e.remove:
				insert(e)
				added++
			}
			edits = edits[1:]
		}
		if !same {
			content = append(append(content, key...), value...)
		}
	}
	for _, e := range edits {
		if !e.remove {
			insert(e)
			added++
		}
	}
	return build(k, r.Len()+added-removed, content), added, removed
}

// pairsOf returns the entries of a table, or the elements of a set with values of nil.
func pairsOf(r event.Raw) iter.Seq2[event.Raw, event.Raw] {
	if r.Kind() == event.TableOf {
		return r.Entries()
	}
	return func(yield func(event.Raw, event.Raw) bool) {
		for e := range r.Elements() {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// find returns the value of a key of a table, or the element of a set, nil without one.
func find(r event.Raw, key event.Raw) event.Raw {
	for k, v := range pairsOf(r) {
		if c := event.Compare(k, key); c > 0 {
			break
		} else if c == 0 && v == nil {
			return k
		} else if c == 0 {
			return v
		}
	}
	return nil
}

// change stores a container. One without elements is removed, as in Redis.
func (s *session) change(key []byte, e *store.Entry, v event.Raw) bool {
	if v.Len() == 0 {
		return s.remove(key)
	}
	return s.put(key, v, expires(e))
}

// texts returns words as edits.
func texts(words [][]byte, remove bool) []edit {
	edits := make([]edit, len(words))
	for i, w := range words {
		edits[i] = edit{key: store.Text(w), remove: remove}
	}
	return sorted(edits)
}

// amend makes edits in the container of a key, and answers with the number of elements that were
// added or removed.
func (s *session) amend(key []byte, want form, edits []edit) {
	e, ok := s.container(key, want)
	if !ok {
		return
	}
	v, added, removed := apply(value(e), kinds[want], edits)
	changed := added+removed > 0 || len(edits) > 0 && edits[0].value != nil
	if changed && !s.change(key, e, v) {
		return
	}
	s.out.int(int64(added + removed))
}

// length answers with the number of elements of the container of a key.
func (s *session) length(key []byte, want form) {
	if e, ok := s.container(key, want); ok {
		s.out.int(int64(value(e).Len()))
	}
}

// Sets.

func sadd(s *session, args [][]byte)  { s.amend(args[1], formSet, texts(args[2:], false)) }
func srem(s *session, args [][]byte)  { s.amend(args[1], formSet, texts(args[2:], true)) }
func scard(s *session, args [][]byte) { s.length(args[1], formSet) }

func smembers(s *session, args [][]byte) {
	e, ok := s.container(args[1], formSet)
	if !ok {
		return
	}
	v := value(e)
	s.out.set(v.Len())
	for member := range v.Elements() {
		s.plain(member)
	}
}

func sismember(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formSet); ok {
		s.out.bool(find(value(e), store.Text(args[2])) != nil)
	}
}

// Hashes.

func hset(s *session, args [][]byte) {
	if len(args)%2 != 0 {
		s.arity("hset")
		return
	}
	edits := make([]edit, 0, len(args)/2-1)
	for i := 2; i < len(args); i += 2 {
		edits = append(edits, edit{key: store.Text(args[i]), value: store.Text(args[i+1])})
	}
	s.amend(args[1], formHash, sorted(edits))
}

func hdel(s *session, args [][]byte) { s.amend(args[1], formHash, texts(args[2:], true)) }
func hlen(s *session, args [][]byte) { s.length(args[1], formHash) }

// field answers with the field of a hash.
func (s *session) field(v event.Raw, name []byte) {
	if f := find(v, store.Text(name)); f != nil {
		s.plain(f)
	} else {
		s.out.null()
	}
}

func hget(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.field(value(e), args[2])
	}
}

func hmget(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.out.array(len(args) - 2)
		for _, name := range args[2:] {
			s.field(value(e), name)
		}
	}
}

func hexists(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.out.bool(find(value(e), store.Text(args[2])) != nil)
	}
}

func hgetall(s *session, args [][]byte) {
	e, ok := s.container(args[1], formHash)
	if !ok {
		return
	}
	s.out.pairs(value(e).Len())
	for name, v := range value(e).Entries() {
		s.plain(name)
		s.plain(v)
	}
}

func hkeys(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.out.array(value(e).Len())
		for name := range value(e).Entries() {
			s.plain(name)
		}
	}
}

func hvals(s *session, args [][]byte) {
	if e, ok := s.container(args[1], formHash); ok {
		s.out.array(value(e).Len())
		for _, v := range value(e).Entries() {
			s.plain(v)
		}
	}
}
