package redef

import (
	"errors"
	"fmt"
	"strings"
)

// Skipped is a part of a script that has no effect on the logger.
type Skipped struct {
	Line int    // of its beginning, from 1
	What string // "redef Site::local_nets", "@load misc/loaded-scripts"
	Why  string
}

// String returns it as one line for a log.
func (s Skipped) String() string {
	return fmt.Sprintf("line %d: %s: %s", s.Line, s.What, s.Why)
}

// Redef applies one setting in the form of Zeek's command line, NAME=VALUE: "LogAscii::use_json=T",
// "Log::default_rotation_interval=1hr". A string without quotes is taken literally. The error for
// an unknown name lists the known ones. On error o is unchanged.
func (o *Options) Redef(assignment string) error {
	name, text, ok := strings.Cut(assignment, "=")
	if !ok {
		return fmt.Errorf("%q: want NAME=VALUE, for example LogAscii::use_json=T", assignment)
	}
	name, op := strings.TrimSpace(name), "="
	if strings.HasSuffix(name, "+") {
		name, op = strings.TrimSpace(name[:len(name)-1]), "+="
	}
	i := findSetting(name)
	if i < 0 {
		return errUnknownName(name)
	}
	kind := settings[i].kind
	if strings.HasPrefix(strings.TrimSpace(text), `"`) {
		kind = kindAny // a literal: the shell has kept the quotes
	}
	v, err := literal(kind, text)
	if err == nil {
		err = o.apply(i, op, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Redefs applies the redef statements of a Zeek script, such as local.zeek, in their order. Besides
// them only this has an effect on the logger:
//
//	event zeek_init()
//		{
//		for ( id in Log::active_streams )
//			for ( name in Log::get_filter_names(id) )
//				{
//				local f = Log::get_filter(id, name);
//				f$config["tsv"] = "T";
//				Log::add_filter(id, f);
//				}
//		}
//
// Statements for other parts of Zeek are returned as skipped, so that the operator can be told.
// These are errors: unknown names of Zeek's logging framework, options that the logger cannot carry
// out, any other use of $config, and options of the logger between @if and @endif, which it cannot
// evaluate. Redefs returns all errors with their lines, joined; the options before and after an
// error are applied.
func (o *Options) Redefs(script []byte) (skipped []Skipped, err error) {
	tokens, err := tokenize(string(script))
	if err != nil {
		return nil, err
	}
	p := scriptParser{options: o, tokens: tokens}
	p.script()
	return p.skipped, errors.Join(p.errs...)
}

// scriptParser parses a script declaration by declaration.
type scriptParser struct {
	options *Options
	tokens  []token // that are left
	module  string  // of the last module statement
	ifs     int     // @if and the like that are open
	exports int     // export { that are open

	skipped []Skipped
	errs    []error
}

func (p *scriptParser) errorf(line int, format string, args ...any) {
	p.errs = append(p.errs, scriptError(line, format, args...))
}

func (p *scriptParser) skip(line int, what, why string) {
	p.skipped = append(p.skipped, Skipped{line, what, why})
}

func (p *scriptParser) script() {
	for len(p.tokens) > 0 {
		first := p.tokens[0]
		switch {
		case first.kind == tokenDirective:
			p.tokens = p.tokens[1:]
			p.directive(first)
		case first.is(";"):
			p.tokens = p.tokens[1:]
		case first.is("}") && p.exports > 0:
			p.exports--
			p.tokens = p.tokens[1:]
		case first.word("export") && len(p.tokens) > 1 && p.tokens[1].is("{"):
			p.exports++
			p.tokens = p.tokens[2:]
		default:
			if !p.declaration() {
				return
			}
		}
	}
	if p.ifs > 0 {
		p.errorf(1, "an @if has no @endif")
	}
}

// directive handles a directive, such as @if, at any place.
func (p *scriptParser) directive(t token) {
	switch t.text {
	case "@if", "@ifdef", "@ifndef":
		p.ifs++
		if len(p.tokens) > 0 && p.tokens[0].is("(") {
			if n, ok := balanced(p.tokens); ok {
				p.tokens = p.tokens[n:]
			}
		}
	case "@endif":
		p.ifs = max(0, p.ifs-1)
	case "@else", "@DIR", "@FILENAME":
	default:
		p.skip(t.line, t.text, "the logger loads no scripts")
	}
}

// balanced returns the number of tokens from the bracket at tokens[0] to the one that closes it.
func balanced(tokens []token) (n int, ok bool) {
	depth := 0
	for i, t := range tokens {
		switch {
		case t.is("(") || t.is("[") || t.is("{"):
			depth++
		case t.is(")") || t.is("]") || t.is("}"):
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
	}
	return 0, false
}

// hasBody are the words at the start of declarations that end with a block.
var hasBody = map[string]bool{"event": true, "function": true, "hook": true, "if": true,
	"else": true, "for": true, "while": true, "switch": true, "when": true}

// declaration handles the next declaration or statement. It reports whether it was complete.
func (p *scriptParser) declaration() bool {
	first := p.tokens[0]
	conditional := p.ifs > 0
	var decl []token
	for depth := 0; ; {
		if len(p.tokens) == 0 {
			p.errorf(first.line, "%s has no end", sourceText(decl[:min(2, len(decl))]))
			return false
		}
		t := p.tokens[0]
		p.tokens = p.tokens[1:]
		switch {
		case t.kind == tokenDirective:
			conditional = true
			p.directive(t)
			continue
		case t.is("(") || t.is("[") || t.is("{"):
			depth++
		case t.is(")") || t.is("]") || t.is("}"):
			if depth--; depth < 0 {
				p.errorf(t.line, "%s closes nothing", t.text)
				return false
			}
		}
		decl = append(decl, t)
		block := t.is("}") && (hasBody[first.text] || first.is("{"))
		if depth == 0 && (t.is(";") || block) {
			break
		}
	}
	switch second := decl[min(1, len(decl)-1)]; {
	case first.word("module"):
		p.module = second.text
	case first.word("redef") && second.kind == tokenWord && second.text != "enum" &&
		second.text != "record":
		p.redef(decl[1:len(decl)-1], conditional)
	default:
		p.other(decl, conditional)
	}
	return true
}

// redef handles a redef statement, without its first and last token.
func (p *scriptParser) redef(decl []token, conditional bool) {
	line, name := decl[0].line, decl[0].text
	i := findSetting(name)
	if i < 0 && p.module != "" && !strings.Contains(name, "::") {
		if i = findSetting(p.module + "::" + name); i >= 0 {
			name = settings[i].name
		}
	}
	if i < 0 {
		if aboutLogging(name) {
			p.errorf(line, "redef %w", errUnknownName(name))
			return
		}
		p.rejectConfig(decl)
		p.skip(line, "redef "+name, "not an option of the logger")
		return
	}
	if conditional {
		p.errorf(line, "redef %s: the logger cannot evaluate @if: move it out of the @if", name)
		return
	}
	decl = decl[1:]
	for len(decl) > 0 && !decl[0].is("=") && !decl[0].is("+=") && !decl[0].is("-=") {
		decl = decl[1:] // an optional type in front of the value
	}
	if len(decl) == 0 {
		p.errorf(line, "redef %s: the value is missing", name)
		return
	}
	v, err := parseValue(decl[1:])
	if err == nil {
		err = p.options.apply(i, decl[0].text, v)
	}
	if err != nil {
		p.errorf(line, "redef %s: %w", name, err)
		return
	}
	if why := settings[i].inert; why != "" {
		p.skip(line, "redef "+name, why)
	}
}

// aboutLogging reports whether a name belongs to the logging framework. An unknown name of that is
// a mistake; other unknown names are for other parts of Zeek.
func aboutLogging(name string) bool {
	module, _, ok := strings.Cut(strings.ToLower(name), "::")
	if !ok {
		return strings.HasPrefix(module, "log_")
	}
	return module == "log" || module == "logascii"
}

// other handles a declaration that does not redef an option.
func (p *scriptParser) other(decl []token, conditional bool) {
	what := sourceText(decl[:min(2, len(decl))])
	if what == "event zeek_init" {
		p.zeekInit(decl, conditional)
		return
	}
	p.rejectConfig(decl)
	p.skip(decl[0].line, what, "the logger runs no scripts")
}
