package signature

import (
	"fmt"
	"strings"
)

// Set are the events that a file declares. It is immutable. A nil Set declares every event.
type Set struct{ events map[string][]*zeekType }

// Len returns the number of events.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.events)
}

const (
	// maxNesting bounds how deep the text of a type is nested.
	maxNesting = 32
	// maxEvents bounds the events of a file, maxTypes the types.
	maxEvents, maxTypes = 10_000, 10_000
)

// Parse reads declarations. Errors name the line.
func Parse(text []byte) (*Set, error) {
	p := &parser{text: string(text), line: 1, set: &Set{events: map[string][]*zeekType{}},
		types: map[string]*zeekType{}}
	p.next()
	for p.token != "" && p.err == nil {
		p.declaration()
	}
	if p.err != nil {
		return nil, p.err
	}
	p.resolve()
	return p.set, nil
}

// parser reads a file token by token. After an error it is at the end.
type parser struct {
	text  string // what is left
	line  int
	token string // the current one, "" at the end
	err   error

	module string
	set    *Set
	types  map[string]*zeekType
	named  []*zeekType // references to types, to be resolved
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("line %d: %s", p.line, fmt.Sprintf(format, args...))
	}
	p.text, p.token = "", ""
}

// next goes to the next token: a name with its module, or one character.
func (p *parser) next() {
	for p.text != "" {
		c := p.text[0]
		switch {
		case c == '\n':
			p.line++
			fallthrough
		case c == ' ', c == '\t', c == '\r':
			p.text = p.text[1:]
			continue
		case c == '#':
			end := strings.IndexByte(p.text, '\n')
			if end < 0 {
				end = len(p.text)
			}
			p.text = p.text[end:]
			continue
		}
		n := 0
		for n < len(p.text) && (isNameChar(p.text[n]) || strings.HasPrefix(p.text[n:], "::")) {
			if p.text[n] == ':' {
				n++
			}
			n++
		}
		n = max(n, 1)
		p.token, p.text = p.text[:n], p.text[n:]
		return
	}
	p.token = ""
}

func isNameChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// accept passes over a token if it is the current one.
func (p *parser) accept(token string) bool {
	if p.token != token {
		return false
	}
	p.next()
	return true
}

func (p *parser) expect(token string) {
	if !p.accept(token) {
		p.fail("%q is missing before %q", token, p.token)
	}
}

// name returns a name as it stands.
func (p *parser) name() string {
	name := p.token
	if name == "" || !isNameChar(name[0]) {
		p.fail("a name is missing before %q", name)
		return ""
	}
	p.next()
	return name
}

// qualified adds the module to a name that has none.
func (p *parser) qualified(name string) string {
	if p.module == "" || p.module == "GLOBAL" || strings.Contains(name, "::") {
		return strings.TrimPrefix(name, "GLOBAL::")
	}
	return p.module + "::" + name
}

func (p *parser) declaration() {
	switch keyword := p.token; keyword {
	case "module":
		p.next()
		p.module = p.name()
		p.expect(";")
	case "export":
		p.next()
		p.expect("{")
		for p.token != "}" && p.err == nil {
			if p.token == "" {
				p.fail("the export block does not end")
				return
			}
			p.declaration()
		}
		p.expect("}")
	case "type":
		p.next()
		name := p.qualified(p.name())
		p.expect(":")
		if p.types[name] != nil || len(p.types) >= maxTypes {
			p.fail("type %s is declared twice, or there are more than %d", name, maxTypes)
		}
		p.types[name] = p.typ(0)
		p.attributes()
		p.expect(";")
	case "global":
		p.next()
		name := p.qualified(p.name())
		p.expect(":")
		p.expect("event")
		if p.set.events[name] != nil || len(p.set.events) >= maxEvents {
			p.fail("event %s is declared twice, or there are more than %d", name, maxEvents)
		}
		p.expect("(")
		args := []*zeekType{}
		for _, f := range p.fields(")", 0) {
			args = append(args, f.typ)
		}
		p.set.events[name] = args
		p.attributes()
		p.expect(";")
	default:
		p.fail("%q is no declaration of a module, a type or an event", keyword)
	}
}

// field is a field of a record, or an argument.
type field struct {
	name     string
	typ      *zeekType
	optional bool
}

// fields reads fields or arguments up to the closing token.
func (p *parser) fields(end string, depth int) (all []field) {
	for p.err == nil && !p.accept(end) {
		f := field{name: p.name()}
		p.expect(":")
		f.typ = p.typ(depth + 1)
		f.optional = p.attributes()
		all = append(all, f)
		if !p.accept(";") && !p.accept(",") && p.token != end {
			p.fail("%q is missing before %q", end, p.token)
		}
	}
	return all
}

// attributes passes over attributes with their values, and reports whether &optional is one.
func (p *parser) attributes() (optional bool) {
	for p.token == "&" {
		p.next()
		optional = p.name() == "optional" || optional
		if !p.accept("=") {
			continue
		}
		open := 0
		for p.token != "" && (open > 0 || !strings.Contains("&;,)}", p.token)) {
			switch p.token {
			case "(", "[", "{":
				open++
			case ")", "]", "}":
				open--
			case `"`:
				p.quoted()
			}
			p.next()
		}
	}
	return optional
}

// quoted passes over a string up to its last quote.
func (p *parser) quoted() {
	for i := 0; i < len(p.text) && p.text[i] != '\n'; i++ {
		switch p.text[i] {
		case '\\':
			i++
		case '"':
			p.text = p.text[i:]
			p.next()
			return
		}
	}
	p.fail("a string does not end")
}

// typ reads a type.
func (p *parser) typ(depth int) *zeekType {
	if depth > maxNesting {
		p.fail("the type is nested more than %d deep", maxNesting)
		return &zeekType{kind: anyType}
	}
	name := p.name()
	if kind, ok := simple[name]; ok {
		return &zeekType{kind: kind}
	}
	t := &zeekType{}
	switch name {
	case "set", "table":
		t.kind = setType
		p.expect("[")
		for more := true; more && p.err == nil; more = p.accept(",") {
			t.index = append(t.index, p.typ(depth+1))
		}
		p.expect("]")
		if name == "table" {
			t.kind = tableType
			p.expect("of")
			t.yield = p.typ(depth + 1)
		}
	case "vector", "list":
		t.kind = vectorType
		p.expect("of")
		t.yield = p.typ(depth + 1)
	case "opaque":
		p.expect("of")
		p.name()
		t.kind = opaqueType
	case "function", "event", "hook":
		t.kind = functionType
		p.expect("(")
		p.fields(")", depth)
		if p.accept(":") {
			p.typ(depth + 1)
		}
	case "record":
		t.kind = recordType
		p.expect("{")
		t.fields = p.fields("}", depth)
	case "enum":
		t.kind, t.labels = enumType, map[string]bool{}
		p.expect("{")
		for p.err == nil && !p.accept("}") {
			t.labels[p.qualified(p.name())] = true
			if p.accept("=") {
				p.name()
			}
			if p.attributes(); !p.accept(",") && p.token != "}" {
				p.fail("%q is missing before %q", "}", p.token)
			}
		}
	default:
		t.kind, t.name, t.module = namedType, name, p.module
		p.named = append(p.named, t)
	}
	return t
}

// resolve replaces references to types. Those to types that are not declared fit every value.
func (p *parser) resolve() {
	for _, t := range p.named {
		p.module = t.module
		declared := p.types[p.qualified(t.name)]
		if declared == nil {
			declared = p.types[t.name]
		}
		for n := 0; declared != nil && declared.kind == namedType && declared.target != nil &&
			n < maxNesting; n++ {
			declared = declared.target
		}
		if declared == t {
			declared = nil
		}
		t.target = declared
	}
}
