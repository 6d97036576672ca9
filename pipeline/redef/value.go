package redef

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

type valueKind uint8

const (
	kindAny      valueKind = iota // as the kind of a setting: any value
	kindOther                     // an expression that is not a literal
	kindBool                      // T or F
	kindString                    // "..."
	kindNumber                    // 5, -1.5
	kindInterval                  // 5 sec
	kindName                      // JSON::TS_ISO8601, a function
	kindTable                     // { ["key"] = "value", ... }
)

// example returns a description of a value of the kind.
func (k valueKind) example() string {
	switch k {
	case kindBool:
		return "T or F"
	case kindString:
		return "a string in double quotes"
	case kindNumber:
		return "a number"
	case kindInterval:
		return "an interval such as 1 hr or 0 sec"
	case kindName:
		return "a name"
	case kindTable:
		return `a table such as { ["KEY"] = "value" }`
	}
	return "a value"
}

// value is the right side of a redef statement.
type value struct {
	kind     valueKind
	text     string // the source; for a string its value
	number   float64
	interval time.Duration
	table    []tableEntry
	op       string // with which it is assigned
}

// tableEntry is ["key"] = "value".
type tableEntry struct{ key, value string }

// source returns the value as it is written in a script.
func (v value) source() string {
	if v.kind == kindString {
		return strconv.Quote(v.text)
	}
	return v.text
}

// literal parses text as a value of the kind. A string has no quotes.
func literal(kind valueKind, text string) (value, error) {
	if kind == kindString {
		return value{kind: kindString, text: text}, nil
	}
	tokens, err := tokenize(text)
	if err != nil {
		return value{}, err
	}
	return parseValue(tokens)
}

// parseValue parses a literal. Any other expression is of kindOther. The error is for a literal
// that makes no sense.
func parseValue(tokens []token) (value, error) {
	v := value{text: sourceText(tokens)}
	sign := 1.0
	if len(tokens) > 1 && tokens[1].kind == tokenNumber &&
		(tokens[0].is("-") || tokens[0].is("+")) {
		if tokens[0].is("-") {
			sign = -1
		}
		tokens = tokens[1:]
	}
	if len(tokens) == 0 {
		return value{}, errors.New("the value is missing")
	}
	switch first := tokens[0]; {
	case first.kind == tokenNumber && len(tokens) <= 2:
		unit := ""
		if len(tokens) == 2 {
			if tokens[1].kind != tokenWord {
				return v, nil
			}
			unit = tokens[1].text
		}
		return parseNumber(v, sign, first.text, unit)
	case first.kind == tokenString && len(tokens) == 1:
		v.kind, v.text = kindString, first.text
	case (first.word("T") || first.word("F")) && len(tokens) == 1:
		v.kind = kindBool
	case first.kind == tokenWord && len(tokens) == 1:
		v.kind = kindName
	default:
		if entries, ok := parseTable(tokens); ok {
			v.kind, v.table = kindTable, entries
		}
	}
	return v, nil
}

var intervalUnits = map[string]time.Duration{
	"usec": time.Microsecond,
	"msec": time.Millisecond,
	"sec":  time.Second,
	"min":  time.Minute,
	"hr":   time.Hour,
	"day":  24 * time.Hour,
}

// parseNumber sets v to a number, or to an interval if there is a unit, with or without a space.
func parseNumber(v value, sign float64, digits, unit string) (value, error) {
	if n := span(digits, func(c byte) bool { return isDigit(c) || c == '.' }); n < len(digits) &&
		unit == "" {
		if _, ok := intervalUnits[strings.TrimSuffix(digits[n:], "s")]; ok {
			digits, unit = digits[:n], digits[n:]
		}
	}
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.ContainsAny(digits, "xXpP_") {
		return v, nil // an address or a port: not needed here
	}
	v.number = sign * number
	if unit == "" {
		v.kind = kindNumber
		return v, nil
	}
	size, ok := intervalUnits[strings.TrimSuffix(unit, "s")]
	if !ok {
		return v, fmt.Errorf("unknown unit %q in %q: use usec, msec, sec, min, hr or day", unit,
			v.text)
	}
	v.kind = kindInterval
	ns := math.Round(v.number * float64(size))
	if math.Abs(ns) >= math.MaxInt64 {
		return v, fmt.Errorf("interval %q is too long", v.text)
	}
	v.interval = time.Duration(ns)
	return v, nil
}

// parseTable parses { ["key"] = "value", ... } and table(...).
func parseTable(tokens []token) (entries []tableEntry, ok bool) {
	if tokens[0].word("table") {
		tokens = tokens[1:]
	}
	n := len(tokens)
	if n < 2 || !(tokens[0].is("{") && tokens[n-1].is("}") || tokens[0].is("(") &&
		tokens[n-1].is(")")) {
		return nil, false
	}
	for rest := tokens[1 : n-1]; len(rest) > 0; {
		if len(rest) < 5 || !rest[0].is("[") || rest[1].kind != tokenString || !rest[2].is("]") ||
			!rest[3].is("=") || rest[4].kind != tokenString {
			return nil, false
		}
		entries = append(entries, tableEntry{rest[1].text, rest[4].text})
		rest = rest[5:]
		if len(rest) > 0 {
			if !rest[0].is(",") {
				return nil, false
			}
			rest = rest[1:]
		}
	}
	return entries, true
}

// sourceText returns the source of tokens for a message, shortened.
func sourceText(tokens []token) string {
	const limit = 60
	var b strings.Builder
	for i, t := range tokens {
		if i > 0 && t.kind != tokenPunct && tokens[i-1].kind != tokenPunct {
			b.WriteByte(' ')
		}
		if t.kind == tokenString {
			b.WriteString(strconv.Quote(t.text))
		} else {
			b.WriteString(t.text)
		}
		if b.Len() > limit {
			return b.String()[:limit] + "..."
		}
	}
	return b.String()
}
