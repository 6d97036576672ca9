package redis

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// member is a member of a sorted set.
type member struct {
	name  event.Raw
	score float64
}

// members returns the members that ok accepts, by score and name.
func members(v store.Value, ok func(score float64) bool) []member {
	var all []member
	for name, score := range v.Pairs() {
		if f, real := score.Real(); real && ok(f) {
			all = append(all, member{name, f})
		}
	}
	slices.SortFunc(all, func(a, b member) int {
		x, _ := a.name.Text()
		y, _ := b.name.Text()
		return cmp.Or(cmp.Compare(a.score, b.score), bytes.Compare(x, y))
	})
	return all
}

// double reads a number as strtod does, without NaN.
func double(b []byte) (float64, bool) {
	text := string(b)
	switch strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(text), "+"), "-") {
	case "", "nan":
		return 0, false
	}
	if strings.ContainsAny(text, "_xX") { // what only Go or only C takes
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// zaddOptions are the options of ZADD.
type zaddOptions struct{ nx, xx, gt, lt, ch, incr bool }

// parse reads options and returns how many there are.
func (o *zaddOptions) parse(args [][]byte) int {
	for i, a := range args {
		switch upper(a) {
		case "NX":
			o.nx = true
		case "XX":
			o.xx = true
		case "GT":
			o.gt = true
		case "LT":
			o.lt = true
		case "CH":
			o.ch = true
		case "INCR":
			o.incr = true
		default:
			return i
		}
	}
	return len(args)
}

// conflict returns an error for options that exclude each other.
func (o *zaddOptions) conflict(pairs int) string {
	switch {
	case o.nx && o.xx:
		return "ERR XX and NX options at the same time are not compatible"
	case o.gt && o.nx, o.lt && o.nx, o.gt && o.lt:
		return "ERR GT, LT, and/or NX options at the same time are not compatible"
	case o.incr && pairs > 1:
		return "ERR INCR option supports a single increment-element pair"
	}
	return ""
}

// score returns the new score of a member. skip says that an option forbids the change; ok is
// false if the score is no number.
func (o *zaddOptions) score(old float64, exists bool, by float64) (score float64, skip, ok bool) {
	if exists && o.nx || !exists && o.xx {
		return 0, true, true
	}
	score = by
	if exists && o.incr {
		if score = old + by; math.IsNaN(score) {
			return 0, false, false
		}
	}
	return score, exists && (o.gt && score <= old || o.lt && score >= old), true
}

func zadd(s *session, args [][]byte) {
	var o zaddOptions
	rest := args[2+o.parse(args[2:]):]
	if len(rest) == 0 || len(rest)%2 != 0 {
		s.out.fail(errSyntax)
		return
	}
	if text := o.conflict(len(rest) / 2); text != "" {
		s.out.fail(text)
		return
	}
	scores := make([]float64, len(rest)/2)
	for i := range scores {
		var ok bool
		if scores[i], ok = double(rest[2*i]); !ok {
			s.out.fail(errFloat)
			return
		}
	}
	e, ok := s.container(args[1], formZset)
	if !ok {
		return
	}
	v := value(e, formZset)
	old, last := v, float64(0)
	added, changed, skipped := 0, 0, false
	for i, by := range scores {
		name := store.Text(rest[2*i+1])
		before, exists := v.Find(name).Real()
		score, skip, ok := o.score(before, exists, by)
		last, skipped = score, skip
		switch {
		case !ok:
			s.out.fail("ERR resulting score is not a number (NaN)")
			return
		case skip, exists && score == before:
			continue
		case exists:
			changed++
		default:
			added++
		}
		r, _ := event.Append(nil, score)
		v = v.Insert(name, r)
	}
	if !v.Same(old) && !s.change(args[1], e, v) {
		return
	}
	switch {
	case o.incr && skipped:
		s.out.null()
	case o.incr:
		s.out.double(last)
	case o.ch:
		s.out.int(int64(added + changed))
	default:
		s.out.int(int64(added))
	}
}

func zrem(s *session, args [][]byte)  { s.amend(args[1], formZset, without(args[2:])) }
func zcard(s *session, args [][]byte) { s.length(args[1], formZset) }

func zscore(s *session, args [][]byte) {
	e, ok := s.container(args[1], formZset)
	if !ok {
		return
	}
	if f, ok := value(e, formZset).Find(store.Text(args[2])).Real(); ok {
		s.out.double(f)
	} else {
		s.out.null()
	}
}

// bound is an end of a range of scores.
type bound struct {
	score float64
	open  bool // without score itself
}

func parseBound(b []byte) (x bound, ok bool) {
	if len(b) > 0 && b[0] == '(' {
		x.open, b = true, b[1:]
	}
	x.score, ok = double(b)
	return x, ok
}

// scoreRange reads a range of scores. It answers with an error if there is none.
func (s *session) scoreRange(low, high []byte) (in func(float64) bool, ok bool) {
	a, ok1 := parseBound(low)
	b, ok2 := parseBound(high)
	if !ok1 || !ok2 {
		s.out.fail("ERR min or max is not a float")
		return nil, false
	}
	return func(f float64) bool {
		return (f > a.score || f == a.score && !a.open) && (f < b.score || f == b.score && !b.open)
	}, true
}

func zrangebyscore(s *session, args [][]byte) {
	with, offset, limit := false, int64(0), int64(-1)
	for i := 4; i < len(args); i++ {
		switch word := upper(args[i]); {
		case word == "WITHSCORES":
			with = true
		case word == "LIMIT" && i+2 < len(args):
			var ok1, ok2 bool
			offset, ok1 = integer(args[i+1])
			limit, ok2 = integer(args[i+2])
			if !ok1 || !ok2 {
				s.out.fail(errInteger)
				return
			}
			i += 2
		default:
			s.out.fail(errSyntax)
			return
		}
	}
	in, ok := s.scoreRange(args[2], args[3])
	if !ok {
		return
	}
	e, ok := s.container(args[1], formZset)
	if !ok {
		return
	}
	all := members(value(e, formZset), in)
	if offset < 0 {
		offset = int64(len(all))
	}
	all = all[min(offset, int64(len(all))):]
	if limit >= 0 {
		all = all[:min(limit, int64(len(all)))]
	}
	if with && !s.out.resp3 {
		s.out.array(2 * len(all))
	} else {
		s.out.array(len(all))
	}
	for _, m := range all {
		if with && s.out.resp3 {
			s.out.array(2)
		}
		s.plain(m.name)
		if with {
			s.out.double(m.score)
		}
	}
}

func zremrangebyscore(s *session, args [][]byte) {
	in, ok := s.scoreRange(args[2], args[3])
	if !ok {
		return
	}
	s.amend(args[1], formZset, func(v store.Value) store.Value {
		for name, score := range v.Pairs() { // those of the value before
			if f, real := score.Real(); real && in(f) {
				v = v.Remove(name)
			}
		}
		return v
	})
}
