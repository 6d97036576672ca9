package event

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader reads the text of a value in broker-json-v1. The methods here know JSON as Zeek writes
// it; those in jsonin.go know values.
type jsonReader struct {
	text    []byte
	at      int
	out     []byte
	scratch []byte // of the string that was unquoted last

	message bool   // the outermost object is a message, see ParseMessage
	topic   []byte // of the message, nil if there is none
}

func (r *jsonReader) bad(format string, args ...any) *Error {
	return fault(BadJSON, r.at, format, args...)
}

func (r *jsonReader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// peek returns the next character behind white space, 0 at the end.
func (r *jsonReader) peek() byte {
	if r.space(); r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

// expect passes over one character.
func (r *jsonReader) expect(c byte) *Error {
	if r.peek() != c {
		return r.bad("a %q is missing", c)
	}
	r.at++
	return nil
}

// next is called behind a member or an element: it reports whether another one follows, and passes
// over the comma or the end.
func (r *jsonReader) next(end byte) (more bool, err *Error) {
	switch r.peek() {
	case ',':
		r.at++
		return true, nil
	case end:
		r.at++
		return false, nil
	}
	return false, r.bad("a comma or %q is missing", end)
}

// members calls member for each member of an object with its name, which is valid until the next
// string is read. It must pass over the value.
func (r *jsonReader) members(member func(name []byte) *Error) *Error {
	if err := r.expect('{'); err != nil {
		return err
	}
	if r.peek() == '}' {
		r.at++
		return nil
	}
	for {
		name, err := r.string()
		if err != nil {
			return err
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
		if more, err := r.next('}'); err != nil || !more {
			return err
		}
	}
}

// maxSkipped is how deep what is ignored may be nested: what Zeek's reader allows in all.
const maxSkipped = 128

// skip passes over any JSON value. It checks strings and brackets, nothing else.
func (r *jsonReader) skip() *Error {
	var open [maxSkipped]byte // the brackets that are to be closed
	for depth := 0; ; {
		switch c := r.peek(); c {
		case 0:
			return r.bad("the text ends within a value")
		case '{', '[':
			if depth == maxSkipped {
				return fault(TooDeep, r.at, "more than %d brackets in one another", maxSkipped)
			}
			open[depth] = c + 2 // the closing one, in ASCII
			depth++
			r.at++
			continue
		case '}', ']':
			if depth == 0 || open[depth-1] != c {
				return r.bad("%q closes nothing", c)
			}
			depth--
			r.at++
		case '"':
			if _, err := r.string(); err != nil {
				return err
			}
		case ',', ':':
			if depth == 0 {
				return r.bad("a value is missing")
			}
			r.at++
		default:
			r.literal()
		}
		if depth == 0 {
			return nil
		}
	}
}

// literal returns a number, true, false or the like.
func (r *jsonReader) literal() []byte {
	r.space()
	begin := r.at
	for r.at < len(r.text) && !strings.ContainsRune("{}[],:\" \t\r\n", rune(r.text[r.at])) {
		r.at++
	}
	if r.at == begin && r.at < len(r.text) {
		r.at++ // a character that cannot be there; it is no value of any kind
	}
	return r.text[begin:r.at]
}

// string reads a string. The result is valid until the next call.
func (r *jsonReader) string() ([]byte, *Error) {
	if err := r.expect('"'); err != nil {
		return nil, err
	}
	begin := r.at
	r.scratch = r.scratch[:0]
	for copied := begin; ; {
		if r.at >= len(r.text) {
			return nil, r.bad("the text ends within a string")
		}
		switch r.text[r.at] {
		case '"':
			end := r.at
			r.at++
			if copied == begin {
				return r.text[begin:end], nil
			}
			r.scratch = append(r.scratch, r.text[copied:end]...)
			return r.scratch, nil
		case '\\':
			r.scratch = append(r.scratch, r.text[copied:r.at]...)
			if err := r.escape(); err != nil {
				return nil, err
			}
			copied = r.at
		default:
			r.at++
		}
	}
}

// escape appends to scratch what the escape sequence here stands for.
func (r *jsonReader) escape() *Error {
	if r.at+1 >= len(r.text) {
		return r.bad("the text ends within a string")
	}
	c := r.text[r.at+1]
	if c == 'u' {
		return r.escapedRune()
	}
	i := strings.IndexByte(`"\/bfnrtv`, c)
	if i < 0 {
		return r.bad("there is no escape sequence \\%c", c)
	}
	r.scratch = append(r.scratch, "\"\\/\b\f\n\r\t\v"[i])
	r.at += 2
	return nil
}

// escapedRune reads \uXXXX, two of them for a character beyond 16 bits.
func (r *jsonReader) escapedRune() *Error {
	c, ok := hex4(r.text[r.at:])
	if !ok {
		return r.bad("\\u needs four hexadecimal digits")
	}
	size := 6
	if utf16.IsSurrogate(c) {
		low, ok := hex4(r.text[r.at+6:])
		if c = utf16.DecodeRune(c, low); !ok || c == utf8.RuneError {
			return r.bad("half of a surrogate pair")
		}
		size = 12
	}
	r.scratch = utf8.AppendRune(r.scratch, c)
	r.at += size
	return nil
}

// hex4 reads \uXXXX.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(v), err == nil
}
