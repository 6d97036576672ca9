package recording

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestMessagesReadBackAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		messages := rapid.SliceOf(rapid.SliceOf(rapid.SliceOf(rapid.Byte()))).Draw(t, "messages")
		var file []byte
		for _, m := range messages {
			var err error
			if file, err = AppendMessage(file, m...); err != nil {
				t.Fatal(err)
			}
		}
		var got [][][]byte
		for m, err := range NewReader(iotest.OneByteReader(bytes.NewReader(file))).All() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		equal := func(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }
		if !slices.EqualFunc(got, messages, equal) {
			t.Fatalf("messages %q read back as %q", messages, got)
		}
	})
}

// A file that is cut at any byte gives its whole messages and then io.ErrUnexpectedEOF.
func TestCutFileGivesWholeMessages(t *testing.T) {
	first, _ := AppendMessage(nil, []byte("one"), nil, []byte("two"))
	file, _ := AppendMessage(first, bytes.Repeat([]byte("x"), 3*readStep))
	for _, n := range []int{
		1, 3, 4, 7, 8, 10, 12, len(first) - 1,
		len(first) + 1, len(first) + 8, len(first) + 8 + readStep, len(file) - 1,
	} {
		whole := 0
		if n >= len(first) {
			whole = 1
		}
		r := NewReader(bytes.NewReader(file[:n]))
		var err error
		for messages := 0; err == nil; messages++ {
			if _, err = r.Next(); err != nil && messages != whole {
				t.Errorf("cut at %d: %d whole messages, want %d", n, messages, whole)
			}
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v, want io.ErrUnexpectedEOF", n, err)
		}
	}
}

func TestFalseSizesAllocateLittle(t *testing.T) {
	for name, tc := range map[string]struct {
		file string
		want error
	}{
		"parts":       {"\xff\xff\xff\xff", ErrTooLarge},
		"length":      {"\x00\x00\x00\x01\xff\xff\xff\xff", ErrTooLarge},
		"total":       {"\x00\x00\x00\x02\x00\x00\x00\x01a\x40\x00\x00\x00", ErrTooLarge},
		"only claims": {"\x00\x00\x00\x01\x40\x00\x00\x00", io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := NewReader(strings.NewReader(tc.file)).Next()
			runtime.ReadMemStats(&after)
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 2*readStep {
				t.Errorf("%d bytes were allocated for a file of %d", allocated, len(tc.file))
			}
		})
	}
}

func TestAppendTooLarge(t *testing.T) {
	dst := []byte("before")
	out, err := AppendMessage(dst, make([][]byte, MaxParts+1)...)
	if !errors.Is(err, ErrTooLarge) || string(out) != "before" {
		t.Errorf("got %q, %v", out, err)
	}
}
