package zmtptest

import (
	"bytes"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/vectors/*.txt
var files embed.FS

// Vectors returns the recorded exchanges with libzmq in testdata/vectors, whose README.md says how
// each was made. It checks their number, so that a loop over them cannot pass because there are
// none.
func Vectors(tb testing.TB) map[string]Vector {
	tb.Helper()
	names, err := fs.Glob(files, "testdata/vectors/*.txt")
	if err != nil {
		tb.Fatal(err)
	}
	if len(names) != vectorCount {
		tb.Fatalf("%d recorded exchanges, expected %d", len(names), vectorCount)
	}
	vectors := make(map[string]Vector, len(names))
	for _, name := range names {
		b, err := files.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		v, err := ParseVector(b)
		if err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		vectors[strings.TrimSuffix(name[len("testdata/vectors/"):], ".txt")] = v
	}
	return vectors
}

const vectorCount = 168

// A Vector is one recorded exchange.
type Vector struct {
	// Headers has the lines before the first empty one, by key. title and expect are always there.
	Headers map[string]string
	// Connections has the steps of each TCP connection in order of time. There is at least one
	// connection.
	Connections [][]Step
}

// A Step is one line of an exchange.
type Step struct {
	Kind Kind
	// Data is what was sent, or the plaintext. It is nil in a Comment only: for an empty frame
	// ("-") or an empty plaintext it is empty.
	Data []byte
	// Text is the comment, or the name of the plaintext.
	Text string
	// Line is the number of the line in the file, from 1.
	Line int
}

// Kind says what a [Step] is.
type Kind int

// The kinds of steps.
const (
	Client    Kind = iota // bytes of the side that connects
	Server                // bytes of the side that binds
	Comment               // says what happens next
	Plaintext             // content of a box that follows, perhaps on the next connection
)

// String returns the beginning of a line of that kind in a file.
func (k Kind) String() string {
	switch k {
	case Client:
		return "C>"
	case Server:
		return "S>"
	case Comment:
		return "#"
	case Plaintext:
		return "# plaintext"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Bytes returns all that one side sent on a connection. Connections are counted from 0.
func (v Vector) Bytes(connection int, side Kind) []byte {
	var b []byte
	for _, s := range v.Connections[connection] {
		if s.Kind == side {
			b = append(b, s.Data...)
		}
	}
	return b
}

// Outcome returns what this library has to do at the end: the first word and the rest of header
// ours, which is there if it deviates from libzmq, else of header expect. The word is accept,
// ignored, closed, error or malformed.
func (v Vector) Outcome() (word, rest string) {
	s, ok := v.Headers["ours"]
	if !ok {
		s = v.Headers["expect"]
	}
	end := strings.IndexAny(s, " ;,")
	if end < 0 {
		end = len(s)
	}
	word, rest = s[:end], strings.TrimLeft(s[end:], " ;,")
	if word == "close" {
		word = "closed"
	}
	return word, rest
}

// Key returns the bytes of a header of hexadecimal digits, such as client-public. It ends the test
// if there is none.
func (v Vector) Key(tb testing.TB, header string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(v.Headers[header])
	if err != nil || len(b) == 0 {
		tb.Fatalf("header %s is %q, which is no key", header, v.Headers[header])
	}
	return b
}

// ParseVector parses a file in the form that testdata/vectors/README.md describes.
func ParseVector(b []byte) (Vector, error) {
	v := Vector{Headers: make(map[string]string), Connections: [][]Step{nil}}
	inHeader := true
	number := 0
	for raw := range bytes.Lines(b) {
		number++
		line := strings.TrimSuffix(string(raw), "\n")
		fail := func(why string) (Vector, error) {
			return Vector{}, fmt.Errorf("line %d: %s: %.60q", number, why, line)
		}
		if inHeader {
			if line == "" {
				inHeader = false
				continue
			}
			key, value, ok := strings.Cut(line, ": ")
			if !ok || key == "" {
				return fail("not a header")
			}
			if _, twice := v.Headers[key]; twice {
				return fail("header given twice")
			}
			v.Headers[key] = value
			continue
		}
		if text, ok := strings.CutPrefix(line, "# === connection "); ok {
			if text != fmt.Sprintf("%d ===", len(v.Connections)+1) {
				return fail("connections are out of order")
			}
			v.Connections = append(v.Connections, nil)
			continue
		}
		step, err := parseStep(line)
		if err != nil {
			return fail(err.Error())
		}
		step.Line = number
		last := &v.Connections[len(v.Connections)-1]
		*last = append(*last, step)
	}
	for _, key := range []string{"title", "expect"} {
		if v.Headers[key] == "" {
			return Vector{}, fmt.Errorf("no header %s", key)
		}
	}
	if n := v.Headers["connections"]; n != "" && n != strconv.Itoa(len(v.Connections)) {
		return Vector{}, fmt.Errorf("header connections is %s, there are %d", n, len(v.Connections))
	}
	return v, nil
}

func parseStep(line string) (Step, error) {
	mark, rest, ok := strings.Cut(line, " ")
	if !ok {
		return Step{}, fmt.Errorf("not a line of an exchange")
	}
	var s Step
	switch mark {
	case "C>":
		s.Kind = Client
	case "S>":
		s.Kind = Server
	case "#":
		text, ok := strings.CutPrefix(rest, "plaintext ")
		if !ok {
			return Step{Kind: Comment, Text: rest}, nil
		}
		s.Kind = Plaintext
		if s.Text, rest, ok = strings.Cut(text, ":"); !ok {
			return Step{}, fmt.Errorf("a plaintext without a name")
		}
		rest = strings.TrimPrefix(rest, " ")
	default:
		return Step{}, fmt.Errorf("not a line of an exchange")
	}
	if s.Kind != Plaintext {
		if rest == "-" {
			rest = ""
		} else if rest == "" {
			return Step{}, fmt.Errorf("nothing sent")
		}
	}
	var err error
	s.Data, err = hex.DecodeString(rest)
	return s, err
}
