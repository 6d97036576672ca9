package zeek

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// escapes is the set of byte sequences that must be escaped in a TSV value: the separator and,
// inside a container, the set separator. It is immutable.
type escapes struct {
	seqs [][]byte // in byte order; the first match counts
	// stop marks the bytes that need a closer look: all but printable ASCII, the backslash, and the
	// first byte of each sequence.
	stop [256]bool
	utf8 bool // valid UTF-8 is not escaped
	// literals reports that no sequence can occur in rendered numbers and addresses.
	literals bool

	unset, empty []byte // the markers, escaped like all text
}

// literalBytes are the bytes in rendered bools, numbers, addresses and subnets.
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

// appendSegments escapes the bytes that are always escaped, and gives each segment between them to
// appendSegment, which decides whether the segment is valid text.
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
	// commonText is the largest size in bytes of a string that a renderer appends without checking
	// whether the buffer has become too large.
	commonText = 1 << 10
	// longText is the size in bytes above which a string is rendered in parts.
	longText = 16 << 10
)

// split passes what append would append to emit, part by part, until emit returns false. A part is
// valid during the call only.
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

// find returns position and length of the first byte sequence that is always escaped: an escape
// sequence, a backslash, or, unless UTF-8 is kept, an unprintable byte. It returns len(s), 0 if
// there is none.
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

// appendSegment appends s unchanged, unless UTF-8 is kept and s is not entirely acceptable text:
// then it escapes all bytes that are not printable ASCII.
func (e *escapes) appendSegment(dst, s []byte) []byte {
	if e.keeps(s) {
		return append(dst, s...)
	}
	return appendPrintable(dst, s)
}

// keeps reports whether a segment is written unchanged.
func (e *escapes) keeps(s []byte) bool { return !e.utf8 || acceptableText(s) }

// appendPrintable appends s with all bytes escaped that are not printable ASCII.
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

// acceptableRune returns the length of the character at the start of s, or 0 if Zeek would not let
// it stand in a log: malformed UTF-8, control characters, the private use area that escapes use,
// and the specials at the end of the basic plane.
func acceptableRune(s []byte) int {
	r, n := utf8.DecodeRune(s)
	switch {
	case r < 0x20, 0x7f <= r && r <= 0x9f,
		0xe000 <= r && r <= 0xf8ff,
		0xfff0 <= r && r <= 0xffff: // includes utf8.RuneError
		return 0
	}
	return n
}

func printable(c byte) bool { return 0x20 <= c && c < 0x7f }

func appendHexEscape(dst []byte, c byte) []byte {
	return append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendMeta appends s as it stands in a TSV header, where only bytes that are not visible ASCII
// are escaped. Backslashes are not.
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
