package event

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ParseArgument reads a value with its type, as people write it on a command line. It returns a
// value that [Append] takes.
//
//	bool:T  count:5  int:-5  double:0.5  string:text  enum:Notice::LOG  none:
//	addr:10.0.0.1  subnet:10.0.0.0/8  port:53/udp
//	time:2006-01-02T15:04:05Z  time:1700000000.25  interval:1m30s
//	vector[count]:1,2  set[string]:a,b  set[addr,port]:[10.0.0.1,53/udp]
//	table[string,count]:a=1,b=2  record[count,string,none]:1,a,
//
// A container within another stands in brackets. A text in quotes may have commas, brackets, equals
// signs and Go's escapes in it. A value that begins with a brace is one in broker-json-v1.
func ParseArgument(text string) (any, error) {
	if strings.HasPrefix(text, "{") {
		raw, err := ParseJSON(nil, []byte(text))
		if err != nil {
			return nil, err
		}
		return Raw(raw), nil
	}
	p := argumentParser{rest: text}
	t, err := p.typ(0)
	if err == nil && !p.take(":") {
		err = errors.New("there is no colon behind the type")
	}
	if err != nil {
		return nil, fmt.Errorf("event: %.80q: %w; write a type and a value, as in count:5, "+
			"string:text or set[addr]:10.0.0.1,10.0.0.2", text, err)
	}
	v, err := p.value(t, false, "")
	if err == nil && p.rest != "" {
		err = fmt.Errorf("%.40q follows the value", p.rest)
	}
	if err != nil {
		return nil, fmt.Errorf("event: %.80q: %w", text, err)
	}
	return v, nil
}

// argumentType is a type on the command line. Containers have arguments.
type argumentType struct {
	name string
	args []argumentType
}

// containers are the types that have arguments, with how many; 0 for any number.
var containers = map[string]int{"vector": 1, "set": 0, "table": 2, "record": 0}

// scalars are the others, with what reads them.
var scalars = map[string]func(string) (any, error){
	"bool":     parseBool,
	"count":    func(s string) (any, error) { return strconv.ParseUint(s, 10, 64) },
	"int":      func(s string) (any, error) { return strconv.ParseInt(s, 10, 64) },
	"double":   func(s string) (any, error) { return strconv.ParseFloat(s, 64) },
	"string":   func(s string) (any, error) { return s, nil },
	"enum":     func(s string) (any, error) { return Enum(s), nil },
	"addr":     func(s string) (any, error) { return netip.ParseAddr(s) },
	"subnet":   func(s string) (any, error) { return netip.ParsePrefix(s) },
	"port":     func(s string) (any, error) { return parseArgumentPort(s) },
	"time":     func(s string) (any, error) { return parseArgumentTime(s) },
	"interval": parseInterval,
	"none":     parseNone,
}

func parseBool(s string) (any, error) {
	switch s {
	case "T", "true":
		return true, nil
	case "F", "false":
		return false, nil
	}
	return nil, errors.New("write T or F")
}

// parseArgumentPort is parsePort for people, who may have written a protocol that there is not.
func parseArgumentPort(s string) (Port, error) {
	p, err := parsePort(s)
	if err == nil && p.String() != s {
		err = errors.New("write a number and tcp, udp, icmp or ?, as in 53/udp")
	}
	return p, err
}

func parseArgumentTime(s string) (time.Time, error) {
	if ns, ok := parseTimespan(s + "s"); ok { // seconds since 1970
		return time.Unix(0, ns), nil
	}
	t, err := parseTimestamp(s)
	if err != nil {
		err = errors.New("write it as 2006-01-02T15:04:05Z, or in seconds since 1970")
	}
	return t, err
}

func parseInterval(s string) (any, error) {
	if ns, ok := parseTimespan(s); ok {
		return time.Duration(ns), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		err = errors.New("write numbers with units, as in 500ms, 30s or 1h30m")
	}
	return d, err
}

func parseNone(s string) (any, error) {
	if s != "" {
		return nil, errors.New("none has no value")
	}
	return nil, nil
}

// argumentParser reads an argument from the front of rest.
type argumentParser struct{ rest string }

// take reads a character if it comes next.
func (p *argumentParser) take(c string) (ok bool) {
	p.rest, ok = strings.CutPrefix(p.rest, c)
	return ok
}

// typ reads a type.
func (p *argumentParser) typ(depth int) (t argumentType, err error) {
	if depth > MaxDepth {
		return t, fmt.Errorf("more than %d types in one another", MaxDepth)
	}
	i := strings.IndexAny(p.rest, ":[],")
	if i < 0 {
		i = len(p.rest)
	}
	t.name, p.rest = p.rest[:i], p.rest[i:]
	most, container := containers[t.name]
	if _, ok := scalars[t.name]; !ok && !container {
		return t, fmt.Errorf("%.40q is no type of Zeek", t.name)
	}
	if !container {
		return t, nil
	}
	if !p.take("[") {
		return t, fmt.Errorf("the types in the %s are missing, as in %s", t.name,
			map[string]string{"vector": "vector[count]", "set": "set[addr]",
				"table": "table[string,count]", "record": "record[count,string]"}[t.name])
	}
	for {
		arg, err := p.typ(depth + 1)
		if err != nil {
			return t, err
		}
		t.args = append(t.args, arg)
		if !p.take(",") {
			break
		}
	}
	if !p.take("]") {
		return t, fmt.Errorf("the types in the %s do not end in a bracket", t.name)
	}
	if most > 0 && len(t.args) != most {
		return t, fmt.Errorf("a %s has %d types, not %d", t.name, most, len(t.args))
	}
	if t.name == "set" && len(t.args) > 1 { // an index of several values
		t.args = []argumentType{{"record", t.args}}
	}
	return t, nil
}

// value reads a value. It is within a container or not; ends are the characters that end it there.
func (p *argumentParser) value(t argumentType, within bool, ends string) (any, error) {
	if t.args == nil {
		return p.scalar(t, within, ends)
	}
	if within && !p.take("[") {
		return nil, fmt.Errorf("a %s within another value stands in brackets", t.name)
	}
	v, err := p.items(t)
	if err == nil && within && !p.take("]") {
		err = fmt.Errorf("%.40q where a %s should end in a bracket", p.rest, t.name)
	}
	return v, err
}

func (p *argumentParser) scalar(t argumentType, within bool, ends string) (v any, err error) {
	text := ""
	switch {
	case strings.HasPrefix(p.rest, `"`):
		quoted, err := strconv.QuotedPrefix(p.rest)
		if err != nil {
			return nil, fmt.Errorf("the quotes of %.40q do not end", p.rest)
		}
		p.rest = p.rest[len(quoted):]
		if text, err = strconv.Unquote(quoted); err != nil {
			return nil, err
		}
	case !within:
		text, p.rest = p.rest, ""
	default:
		i := strings.IndexAny(p.rest, ends)
		if i < 0 {
			i = len(p.rest)
		}
		text, p.rest = p.rest[:i], p.rest[i:]
	}
	if v, err = scalars[t.name](text); err != nil {
		if number, ok := errors.AsType[*strconv.NumError](err); ok {
			err = number.Err
		}
		return nil, fmt.Errorf("%.40q is no %s: %w", text, t.name, err)
	}
	return v, nil
}

// items reads what is in a container, up to its end.
func (p *argumentParser) items(t argumentType) (any, error) {
	var list []any
	var table Table
	for i := 0; i == 0 || p.take(","); i++ {
		if i == 0 && (p.rest == "" || p.rest[0] == ']') && t.name != "record" {
			break
		}
		of, ends := t.args[0], ",]"
		switch t.name {
		case "record":
			if i == len(t.args) {
				return nil, fmt.Errorf("the record has %d fields, and more values", len(t.args))
			}
			of = t.args[i]
		case "table":
			ends = "=,]"
		}
		v, err := p.value(of, true, ends)
		if err != nil {
			return nil, err
		}
		if t.name != "table" {
			list = append(list, v)
			continue
		}
		if !p.take("=") {
			return nil, fmt.Errorf("an entry of the table has no =, at %.40q", p.rest)
		}
		mapped, err := p.value(t.args[1], true, ",]")
		if err != nil {
			return nil, err
		}
		table = append(table, Entry{v, mapped})
	}
	switch {
	case t.name == "table":
		return table, nil
	case t.name == "set":
		return Set(list), nil
	case t.name == "record" && len(list) != len(t.args):
		return nil, fmt.Errorf("the record has %d fields, and %d values", len(t.args), len(list))
	}
	return Vector(list), nil
}
