package redis

import (
	"encoding/binary"
	"slices"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

func lpush(s *session, args [][]byte) {
	words := slices.Clone(args[2:])
	slices.Reverse(words)
	s.pushTo(args[1], words, true)
}

func rpush(s *session, args [][]byte) { s.pushTo(args[1], args[2:], false) }

// pushTo adds words to a list, and answers with its length.
func (s *session) pushTo(key []byte, words [][]byte, front bool) {
	e, ok := s.container(key, formList)
	if !ok {
		return
	}
	old := contentOf(value(e))
	content := make([]byte, 0, len(old)+64*len(words))
	if !front {
		content = append(content, old...)
	}
	for _, w := range words {
		content = append(content, store.Text(w)...)
	}
	if front {
		content = append(content, old...)
	}
	n := value(e).Len() + len(words)
	if s.change(key, e, build(event.VectorOf, n, content)) {
		s.out.int(int64(n))
	}
}

// contentOf returns the elements of a vector as they stand behind one another.
func contentOf(r event.Raw) []byte {
	if len(r) == 0 {
		return nil
	}
	_, n := binary.Uvarint(r[1:])
	return r[1+n:]
}

func lpop(s *session, args [][]byte) { s.pop(args, true) }
func rpop(s *session, args [][]byte) { s.pop(args, false) }

// pop takes elements from an end of a list.
func (s *session) pop(args [][]byte, front bool) {
	if len(args) > 3 {
		s.arity(string(lowered(args[0])))
		return
	}
	count, many := int64(1), len(args) == 3
	if many {
		var ok bool
		if count, ok = integer(args[2]); !ok || count < 0 {
			s.out.fail("ERR value is out of range, must be positive")
			return
		}
	}
	e, ok := s.container(args[1], formList)
	switch {
	case !ok:
		return
	case e == nil && many:
		s.out.nullArray()
		return
	case e == nil || e.Value.Len() == 0:
		s.out.null()
		return
	case count == 0:
		s.out.array(0)
		return
	}
	all := slices.Collect(e.Value.Elements())
	n := int(min(count, int64(len(all))))
	taken, rest := all[:n], all[n:]
	if !front {
		taken, rest = slices.Clone(all[len(all)-n:]), all[:len(all)-n]
		slices.Reverse(taken)
	}
	size := 0
	for _, r := range rest {
		size += len(r)
	}
	content := make([]byte, 0, size)
	for _, r := range rest {
		content = append(content, r...)
	}
	if !s.change(args[1], e, build(event.VectorOf, len(rest), content)) {
		return
	}
	if many {
		s.out.array(n)
	}
	for _, r := range taken {
		s.plain(r)
	}
}

func lrange(s *session, args [][]byte) {
	from, ok1 := integer(args[2])
	to, ok2 := integer(args[3])
	if !ok1 || !ok2 {
		s.out.fail(errInteger)
		return
	}
	e, ok := s.container(args[1], formList)
	if !ok {
		return
	}
	n := int64(value(e).Len())
	if from < 0 {
		from = max(from+n, 0)
	}
	if to < 0 {
		to += n
	}
	to = min(to, n-1)
	if from > to {
		s.out.array(0)
		return
	}
	s.out.array(int(to - from + 1))
	i := int64(0)
	for r := range e.Value.Elements() {
		if i >= from && i <= to {
			s.plain(r)
		}
		i++
	}
}

func llen(s *session, args [][]byte) { s.length(args[1], formList) }
