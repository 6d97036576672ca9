package tool

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"zmtpd/zmtp"
)

// readAll returns the parts of all messages in b.
func readAll(r io.Reader, f Format) (messages [][]string, err error) {
	for in := newMessageReader(r, f); ; {
		m, err := in.Next()
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		var parts []string
		for p := range m.Parts() {
			parts = append(parts, string(p))
		}
		messages = append(messages, parts)
	}
}

func writeAll(t *rapid.T, messages [][]string, f Format) []byte {
	var b bytes.Buffer
	out := newMessageWriter(&b, f)
	for _, parts := range messages {
		if err := out.Write(zmtp.NewMessageString(parts...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFormatsRoundTrip(t *testing.T) {
	part := rapid.OneOf(rapid.String(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.StringOf(rapid.SampledFrom([]rune("\\xtnr0\t\n\r"))))
	rapid.Check(t, func(t *rapid.T) {
		messages := rapid.SliceOf(rapid.SliceOfN(part, 1, 5)).Draw(t, "messages")
		for _, f := range []Format{FormatText, FormatRecording} {
			b := writeAll(t, messages, f)
			if f == FormatText {
				if n := bytes.Count(b, []byte("\n")); n != len(messages) {
					t.Fatalf("%d messages are %d lines: %q", len(messages), n, b)
				}
				for _, c := range b {
					if c < ' ' && c != '\t' && c != '\n' {
						t.Fatalf("byte %#x is printed as it is", c)
					}
				}
			}
			got, err := readAll(iotest.HalfReader(bytes.NewReader(b)), f)
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if !slices.EqualFunc(got, messages, slices.Equal) {
				t.Fatalf("%s: got %q, want %q", f, got, messages)
			}
		}
	})
}

func TestTextIsReadAsDocumented(t *testing.T) {
	for in, want := range map[string][][]string{
		"":                     nil,
		"\n":                   {{""}},
		"a":                    {{"a"}},
		"a\nb":                 {{"a"}, {"b"}},
		"a\tb\t\n":             {{"a", "b", ""}},
		`\t\n\r\\\x00\xfF`:     {{"\t\n\r\\\x00\xff"}},
		"\xff\x01 as they are": {{"\xff\x01 as they are"}},
	} {
		got, err := readAll(strings.NewReader(in), FormatText)
		if err != nil || !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestBadTextIsRefusedWithItsPlace(t *testing.T) {
	for _, in := range []string{`\`, `a\`, `\q`, `\x`, `\x1`, `\xg0`, `\x-1`, `\X00`} {
		_, err := readAll(strings.NewReader("good\n"+in+"\n"), FormatText)
		if err == nil || !strings.Contains(err.Error(), "line 2: byte ") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// endless is a line without end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, manyX), nil }

var manyX = strings.Repeat("x", 64<<10)

func TestLineWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{FormatText, FormatRaw} {
		_, err := readAll(io.MultiReader(strings.NewReader("good\n"), endless{}), f)
		if err == nil || !strings.Contains(err.Error(), "line 2 has more than") {
			t.Errorf("%s: %v", f, err)
		}
	}
}
