package redef

import (
	"fmt"
	"strings"
)

// The tokens of a Zeek script, to find its redef statements and to skip the rest. Strings, patterns
// and comments may contain anything, so they must be recognised.

type tokenKind uint8

const (
	tokenWord    tokenKind = iota // identifier or keyword, with its module: "Log::default_logdir"
	tokenNumber                   // anything that starts with a digit: "5", "1hr", "10.0.0.0"
	tokenString                   // text is the value, without quotes and escapes
	tokenPattern                  // /.../
	tokenPunct                    // one character, or one of the operators below
	// "@load", "@if"; those that take the rest of the line have it in text
	tokenDirective
)

type token struct {
	kind tokenKind
	text string
	line int // from 1
}

func (t token) is(punct string) bool  { return t.kind == tokenPunct && t.text == punct }
func (t token) word(name string) bool { return t.kind == tokenWord && t.text == name }

// operators are the operators of two characters that contain a character with another meaning.
var operators = []string{"+=", "-=", "==", "!=", "<=", ">=", "&&", "||", "?$"}

// lineDirectives have the rest of their line as argument.
var lineDirectives = map[string]bool{"@load": true, "@load-sigs": true, "@load-plugin": true,
	"@unload": true, "@prefixes": true, "@pragma": true}

// scriptError is an error at a line of a script.
func scriptError(line int, format string, args ...any) error {
	return fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...))
}

// tokenize splits a Zeek script into tokens, without comments.
func tokenize(src string) ([]token, error) {
	var tokens []token
	line := 1
	for i := 0; i < len(src); {
		c := src[i]
		rest := src[i:]
		emit := func(kind tokenKind, text string, size int) {
			tokens = append(tokens, token{kind, text, line})
			i += size
		}
		switch {
		case c == '\n':
			line++
			i++
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			i++
		case c == '#':
			i += lineLength(rest)
		case c == '"':
			value, size, err := unquote(rest)
			if err != nil {
				return nil, scriptError(line, "%w", err)
			}
			emit(tokenString, value, size)
		case c == '/' && patternMayStart(tokens) && patternLength(rest) > 0:
			n := patternLength(rest)
			emit(tokenPattern, rest[:n], n)
		case c == '@' && len(rest) > 1 && isLetter(rest[1]):
			n := 1 + span(rest[1:], func(c byte) bool { return isLetter(c) || c == '-' })
			if lineDirectives[rest[:n]] {
				n = lineLength(rest)
			}
			emit(tokenDirective, strings.TrimSpace(rest[:n]), n)
		case isLetter(c):
			n := wordLength(rest)
			emit(tokenWord, rest[:n], n)
		case isDigit(c):
			n := numberLength(rest)
			emit(tokenNumber, rest[:n], n)
		default:
			n := 1
			for _, op := range operators {
				if strings.HasPrefix(rest, op) {
					n = len(op)
				}
			}
			emit(tokenPunct, rest[:n], n)
		}
	}
	return tokens, nil
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' }

// span returns the length of the longest prefix of s whose bytes are all in class.
func span(s string, class func(byte) bool) int {
	for i := range len(s) {
		if !class(s[i]) {
			return i
		}
	}
	return len(s)
}

func lineLength(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n
	}
	return len(s)
}

func wordLength(s string) int {
	inWord := func(c byte) bool { return isLetter(c) || isDigit(c) }
	n := span(s, inWord)
	for strings.HasPrefix(s[n:], "::") && len(s) > n+2 && isLetter(s[n+2]) {
		n += 2 + span(s[n+2:], inWord)
	}
	return n
}

func numberLength(s string) int {
	inNumber := func(c byte) bool { return isLetter(c) || isDigit(c) || c == '.' }
	n := span(s, inNumber)
	// 1e-5: the sign belongs to the number only after a mantissa and an e.
	exponent := n > 1 && s[n-1]|0x20 == 'e' &&
		span(s, func(c byte) bool { return isDigit(c) || c == '.' }) == n-1
	if exponent && len(s) > n+1 && (s[n] == '-' || s[n] == '+') && isDigit(s[n+1]) {
		n += 1 + span(s[n+1:], inNumber)
	}
	return n
}

// patternMayStart tells a pattern from a division or the width of a subnet: an
// operand cannot follow an operand.
func patternMayStart(before []token) bool {
	if len(before) == 0 {
		return true
	}
	last := before[len(before)-1]
	switch last.kind {
	case tokenPunct:
		return !last.is(")") && !last.is("]") && !last.is("}")
	case tokenWord:
		return last.text == "in" || last.text == "return" || last.text == "case" ||
			last.text == "print"
	}
	return false
}

// patternLength returns the length of the pattern at the start of s, 0 if it does not end on its
// line.
func patternLength(s string) int {
	for i := 1; i < len(s) && s[i] != '\n'; i++ {
		switch s[i] {
		case '\\':
			i++
		case '/':
			return i + 1
		}
	}
	return 0
}

// unquote returns the value and the length of the string literal at the start of s. The escapes are
// Zeek's: \a \b \f \n \r \t \v, up to three octal digits, \x and up to two hexadecimal digits; any
// other character after a backslash stands for itself.
func unquote(s string) (value string, size int, err error) {
	var b strings.Builder
	for i := 1; i < len(s); {
		switch c := s[i]; c {
		case '"':
			return b.String(), i + 1, nil
		case '\n':
			return "", 0, fmt.Errorf("a string must end on its line")
		case '\\':
			v, n, err := unescape(s[i+1:])
			if err != nil {
				return "", 0, err
			}
			b.WriteByte(v)
			i += 1 + n
		default:
			b.WriteByte(c)
			i++
		}
	}
	return "", 0, fmt.Errorf("a string is not closed")
}

// unescape returns the byte and the length of an escape sequence; s begins behind its backslash.
func unescape(s string) (v byte, size int, err error) {
	if s == "" || s[0] == '\n' {
		return 0, 0, fmt.Errorf("a string is not closed")
	}
	const letters, values = "abfnrtv", "\a\b\f\n\r\t\v"
	if i := strings.IndexByte(letters, s[0]); i >= 0 {
		return values[i], 1, nil
	}
	base, start, digits := 0, 0, 0
	switch {
	case s[0] == 'x':
		base, start = 16, 1
		digits = span(s[1:min(3, len(s))],
			func(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' })
		if digits == 0 {
			return 0, 0, fmt.Errorf(`\x in a string needs hexadecimal digits`)
		}
	case '0' <= s[0] && s[0] <= '7':
		base = 8
		digits = span(s[:min(3, len(s))], func(c byte) bool { return '0' <= c && c <= '7' })
	default:
		return s[0], 1, nil
	}
	n := 0
	for _, c := range []byte(s[start : start+digits]) {
		if isDigit(c) {
			n = n*base + int(c-'0')
		} else {
			n = n*base + int(c|0x20-'a') + 10
		}
	}
	if n > 0xff {
		return 0, 0, fmt.Errorf(`\%s in a string is not a byte`, s[:start+digits])
	}
	return byte(n), start + digits, nil
}
