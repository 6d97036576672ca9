package fuzz_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"zmtpd/zmtp/topics"
	"zmtpd/zmtp/zmtptest"
)

// topicsSeeds are programs for the table. Any bytes are a program; the first seeds are what peers
// have really sent to publishers.
func topicsSeeds(tb testing.TB) [][]byte {
	all := recorded(tb, func(name string, _ zmtptest.Vector) bool {
		return strings.HasPrefix(name, "sub-") || strings.HasPrefix(name, "xpub-") ||
			strings.HasPrefix(name, "xsub-")
	})
	return append(all,
		[]byte("\x03abc\x03abd\x02ab\x03abe\x83abc\x82ab\xc0\x00"), // split, extend, cancel, remove
		[]byte("\x00\x01a\x09a\x80\x81a\x11a\x01a\xc0\xc8\xd0"),    // one topic, three subscribers
		[]byte("\x07aaaaaaa\x06aaaaaa\x05aaaaa\x04aaaa\x03aaa\x02aa\x01a\x00\xc0"),
	)
}

// slowTable has, for each subscriber and topic, the number of SUBSCRIBEs minus CANCELs and whether
// it is held.
type slowTable map[subscription]*state

type subscription struct {
	p     byte
	topic string
}

type state struct {
	count int
	held  bool
}

func (s slowTable) holders(topic string) (n int) {
	for sub, state := range s {
		if state.held && sub.topic == topic {
			n++
		}
	}
	return n
}

// FuzzTopics runs a program of changes on the table and on the slow one. Each change begins with a
// byte: two bits for the kind of change, three for the subscriber, three for the length of the
// topic that follows.
func FuzzTopics(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 1024 {
			return // the slow table is quadratic
		}
		var table topics.Table[byte]
		slow := slowTable{}
		for len(program) > 0 {
			op, p, size := program[0]>>6, program[0]>>3&7, int(program[0]&7)
			program = program[1:]
			size = min(size, len(program))
			topic := program[:size]
			program = program[size:]
			sub := subscription{p, string(topic)}
			switch op {
			case 0, 1:
				if slow[sub] == nil {
					slow[sub] = &state{}
				}
				want := topics.Change{Fresh: !slow[sub].held, First: slow.holders(sub.topic) == 0,
					Count: slow[sub].count + 1}
				slow[sub].held, slow[sub].count = true, want.Count
				if got := table.Subscribe(p, topic); got != want {
					t.Fatalf("SUBSCRIBE %q of %d: %+v, want %+v", topic, p, got, want)
				}
			case 2:
				var want topics.Change
				if state := slow[sub]; state != nil {
					want = topics.Change{
						Held: state.held, Last: state.held && slow.holders(sub.topic) == 1,
						Counted: true, Count: state.count - 1,
					}
					if state.held, state.count = false, want.Count; state.count == 0 {
						delete(slow, sub)
					}
				}
				if got := table.Cancel(p, topic); got != want {
					t.Fatalf("CANCEL %q of %d: %+v, want %+v", topic, p, got, want)
				}
			case 3:
				var want []topics.Removed
				for sub, state := range slow {
					if sub.p == p {
						last := state.held && slow.holders(sub.topic) == 1
						want = append(want,
							topics.Removed{Topic: sub.topic, Held: state.held, Last: last,
								Count: state.count})
					}
				}
				slices.SortFunc(want,
					func(a, b topics.Removed) int { return strings.Compare(a.Topic, b.Topic) })
				maps.DeleteFunc(slow, func(sub subscription, _ *state) bool { return sub.p == p })
				if got := table.Remove(p); !slices.Equal(got, want) {
					t.Fatalf("removal of %d: %+v, want %+v", p, got, want)
				}
			}
			compareMatch(t, &table, slow, topic)
			compareMatch(t, &table, slow, program)
		}
		held := map[string]bool{}
		for sub, state := range slow {
			if state.held {
				held[sub.topic] = true
			}
		}
		if got, want := slices.Collect(table.Topics()),
			slices.Sorted(maps.Keys(held)); !slices.Equal(got, want) || table.Len() != len(want) {
			t.Fatalf("topics are %q (Len %d), want %q", got, table.Len(), want)
		}
	})
}

func compareMatch(t *testing.T, table *topics.Table[byte], slow slowTable, topic []byte) {
	t.Helper()
	want := map[byte]bool{}
	for sub, state := range slow {
		if state.held && strings.HasPrefix(string(topic), sub.topic) {
			want[sub.p] = true
		}
	}
	got := table.Match(nil, topic)
	slices.Sort(got)
	if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Fatalf("%q matches %v, want %v", topic, got, want)
	}
}
