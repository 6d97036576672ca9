package zeek

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// escapes is the set of byte strings that may not occur in a TSV value as it is: the
// separator, and inside a container the set separator too. Immutable.
type escapes struct {
	seqs [][]byte // in byte order: at one position the first that matches counts
	// stop marks the bytes at which a string needs a closer look: all but printable ASCII,
	// backslash, and the first byte of each sequence.
	stop [256]bool
	utf8 bool // valid text beyond ASCII is kept
	// literals is false if a sequence could occur in rendered numbers and addresses.
	literals bool

	unset, empty []byte // the markers; they are escaped like everything else
}

// literalBytes are the bytes that rendered bools, numbers, addresses and subnets consist of.
const literalBytes = "0123456789abcdef.:/-TFinfnan"

func newEscapes(o *Options, seqs ...string) *escapes {
	e := &escapes{utf8: o.EnableUTF8, literals: true}
	for i := range e.stop {
		e.stop[i] = !printable(byte(i)) || i == '\\'
	}
	slices.Sort(seqs)
	for _, s := range seqs {
		e.seqs = append(e.seqs, []byte(s))
		e.stop[s[0]] = true
		if bytes.IndexByte([]byte(literalBytes), s[0]) >= 0 {
			e.literals = false
		}
	}
	e.unset = e.append(nil, []byte(o.UnsetField))
	e.empty = e.append(nil, []byte(o.EmptyField))
	return e
}

// append appends s, escaped.
func (e *escapes) append(dst, s []byte) []byte {
	for _, c := range s {
		if e.stop[c] {
			return e.appendSegments(dst, s)
		}
	}
	return append(dst, s...)
}

// appendSegments escapes what must always be escaped and gives what lies between to
// appendSegment: whether that is valid text is decided for each such segment.
func (e *escapes) appendSegments(dst, s []byte) []byte {
	for len(s) > 0 {
		at, n := e.find(s)
		dst = e.appendSegment(dst, s[:at])
		dst = appendEscaped(dst, s[at:at+n])
		s = s[at+n:]
	}
	return dst
}

// appendEscaped appends s with every byte escaped.
func appendEscaped(dst, s []byte) []byte {
	for _, c := range s {
		if c == '\\' {
			dst = append(dst, `\\`...)
		} else {
			dst = appendHexEscape(dst, c)
		}
	}
	return dst
}

const (
	// commonText is up to which length in bytes a string takes the short way through a renderer,
	// which does not look whether there is still room for it.
	commonText = 1 << 10
	// longText is from which length on a string is rendered in parts.
	longText = 16 << 10
)

// split calls emit for what append would append, part by part, until that returns false. A part is
// valid during the call.
func (e *escapes) split(s []byte, emit func(part []byte) bool) {
	out := make([]byte, 0, 5*longText)
	for len(s) > 0 {
		at, n := e.find(s)
		text, keep := s[:at], e.keeps(s[:at])
		for len(text) > 0 {
			part := text[:min(len(text), longText)]
			text = text[len(part):]
			if keep {
				out = append(out, part...)
			} else {
				out = appendPrintable(out, part)
			}
			if len(out) >= longText {
				if !emit(out) {
					return
				}
				out = out[:0]
			}
		}
		out = appendEscaped(out, s[at:at+n])
		s = s[at+n:]
		if len(out) >= longText || len(s) == 0 {
			if !emit(out) {
				return
			}
			out = out[:0]
		}
	}
}

// find returns position and length of the first unprintable byte, unless UTF-8 is kept,
// backslash or escape sequence; len(s), 0 if there is none.
func (e *escapes) find(s []byte) (at, n int) {
	for i, c := range s {
		if !e.stop[c] {
			continue
		}
		if c == '\\' || !e.utf8 && !printable(c) {
			return i, 1
		}
		for _, seq := range e.seqs {
			if bytes.HasPrefix(s[i:], seq) {
				return i, len(seq)
			}
		}
	}
	return len(s), 0
}

// appendSegment appends s as it is, or if UTF-8 is kept and s is not entirely
// acceptable text, with all bytes beyond printable ASCII escaped.
func (e *escapes) appendSegment(dst, s []byte) []byte {
	if e.keeps(s) {
		return append(dst, s...)
	}
	return appendPrintable(dst, s)
}

// keeps reports whether a segment stands in the log as it is.
func (e *escapes) keeps(s []byte) bool { return !e.utf8 || acceptableText(s) }

// appendPrintable appends s with all bytes beyond printable ASCII escaped.
func appendPrintable(dst, s []byte) []byte {
	for _, c := range s {
		if printable(c) {
			dst = append(dst, c)
		} else {
			dst = appendHexEscape(dst, c)
		}
	}
	return dst
}

func acceptableText(s []byte) bool {
	for len(s) > 0 {
		if printable(s[0]) {
			s = s[1:]
			continue
		}
		n := acceptableRune(s)
		if n == 0 {
			return false
		}
		s = s[n:]
	}
	return true
}

// acceptableRune returns the length of the character at the start of s if it is well
// formed and Zeek lets it stand in a log: no control character, not of the private use
// area that escapes use, and none of the specials at the end of the basic plane. Else 0.
func acceptableRune(s []byte) int {
	r, n := utf8.DecodeRune(s)
	switch {
	case r < 0x20, 0x7f <= r && r <= 0x9f,
		0xe000 <= r && r <= 0xf8ff,
		0xfff0 <= r && r <= 0xffff: // utf8.RuneError is among them
		return 0
	}
	return n
}

func printable(c byte) bool { return 0x20 <= c && c < 0x7f }

func appendHexEscape(dst []byte, c byte) []byte {
	return append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendMeta appends s as it stands in a TSV header, where only bytes other than
// visible ASCII are escaped, not backslashes.
func appendMeta(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; printable(c) && c != ' ' {
			dst = append(dst, c)
		} else {
			dst = appendHexEscape(dst, c)
		}
	}
	return dst
}
