package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

// A record of several parts is on disk as one with the same content.
func TestPartsMakeOneRecord(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 100),
			rapid.IntRange(scratchSize-100, scratchSize+100)), 1, 3).Draw(r, "sizes")
		content := func(parts [][]byte) []byte {
			dir, err := os.MkdirTemp(t.TempDir(), "")
			if err != nil {
				r.Fatal(err)
			}
			s, err := Open(Config{Dir: dir}, nil)
			if err != nil {
				r.Fatal(err)
			}
			for range 2 { // the first one has the header of the segment in front
				if _, err := s.Append(parts...); err != nil {
					r.Fatal(err)
				}
			}
			_, record, err := s.Next(nil)
			if err != nil || !bytes.Equal(record, bytes.Join(parts, nil)) {
				r.Fatalf("Next returns another record, error %v", err)
			}
			if err := s.Close(); err != nil {
				r.Fatal(err)
			}
			all, err := os.ReadFile(filepath.Join(dir, segmentName(1)))
			if err != nil {
				r.Fatal(err)
			}
			return all
		}
		var parts [][]byte
		for i, size := range sizes {
			parts = append(parts, bytes.Repeat([]byte{byte('a' + i)}, size))
		}
		if !bytes.Equal(content(parts), content([][]byte{bytes.Join(parts, nil)})) {
			r.Fatal("the segments differ")
		}
	})
}

// NextIn reads into the given memory, reads a record again for which there was no memory, and skips
// records for which its caller returns nil.
func TestNextIn(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, record := range []string{"one", "two", "", "four"} {
		if _, err := s.Append([]byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	none := func(size int) ([]byte, bool) { asked = size; return nil, false }
	if _, _, err := s.NextIn(none); !errors.Is(err, ErrNoRoom) || asked != 3 {
		t.Errorf("error %v, memory of %d bytes was asked for", err, asked)
	}
	memory := make([]byte, 10)
	give := func(size int) ([]byte, bool) { return memory[:size], true }
	pass := func(int) ([]byte, bool) { return nil, true }
	for i, room := range []Room{give, pass, pass, give} {
		seq, record, err := s.NextIn(room)
		if err != nil || seq != Seq(i+1) || i == 0 && string(record) != "one" ||
			i == 3 && string(record) != "four" {
			t.Errorf("record %d: number %d, %q, %v", i+1, seq, record, err)
		}
	}
	if string(memory[:4]) != "four" {
		t.Errorf("the memory has %q", memory)
	}
	if _, _, err := s.NextIn(none); err != ErrEmpty {
		t.Error(err)
	}
	if st := s.Stats(); st.Unread != 0 || st.CorruptRecords != 0 {
		t.Errorf("%+v", st)
	}
}
