package redis

import (
	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

func lpush(s *session, args [][]byte) { s.pushTo(args[1], args[2:], true) }
func rpush(s *session, args [][]byte) { s.pushTo(args[1], args[2:], false) }

// pushTo adds words to an end of a list, one by one, and answers with its length.
func (s *session) pushTo(key []byte, words [][]byte, front bool) {
	e, ok := s.container(key, formList)
	if !ok {
		return
	}
	v := value(e, formList)
	for _, w := range words {
		v = v.Push(store.Text(w), front)
	}
	if s.change(key, e, v) {
		s.out.int(int64(v.Len()))
	}
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
	v := e.Value
	taken := make([]event.Raw, min(count, int64(v.Len())))
	for i := range taken {
		v, taken[i] = v.Pop(front)
	}
	if !s.change(args[1], e, v) {
		return
	}
	if many {
		s.out.array(len(taken))
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
	v := value(e, formList)
	n := int64(v.Len())
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
	for r := range v.Pairs() {
		if i >= from && i <= to {
			s.plain(r)
		}
		i++
	}
}

func llen(s *session, args [][]byte) { s.length(args[1], formList) }
