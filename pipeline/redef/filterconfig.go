package redef

// The only event handler with an effect on the logger: a zeek_init that sets keys of $config, the
// writer's options of a filter, for every filter of every stream. The logger has no streams and
// filters, so it cannot carry out any other use of $config.

const configUsage = `$config counts only where it is set for every filter: ` +
	`for ( id in Log::active_streams ) for ( name in Log::get_filter_names(id) ) ` +
	`{ local f = Log::get_filter(id, name); f$config["KEY"] = "VALUE"; Log::add_filter(id, f); }`

// zeekInit handles a handler of zeek_init.
func (p *scriptParser) zeekInit(decl []token, conditional bool) {
	body := decl
	for len(body) > 0 && !body[0].is("{") {
		body = body[1:]
	}
	if len(body) < 2 {
		p.skip(decl[0].line, "event zeek_init", "it has no body")
		return
	}
	body = body[1 : len(body)-1]
	ignored := 0
	for len(body) > 0 {
		config, n := matchFilterLoop(body)
		if n > 0 {
			if conditional {
				p.errorf(body[0].line,
					"$config: the logger cannot evaluate @if, set it outside of @if")
			} else {
				p.setFilterConfig(config)
			}
			body = body[n:]
			continue
		}
		n = statementLength(body)
		p.rejectConfig(body[:n])
		ignored++
		body = body[n:]
	}
	if ignored > 0 {
		p.skip(decl[0].line, "event zeek_init",
			"of its statements only those count that set $config of every filter")
	}
}

// filterAssignment is f$config["key"] = "value".
type filterAssignment struct{ key, value token }

func (p *scriptParser) setFilterConfig(config []filterAssignment) {
	o := p.options
	for _, a := range config {
		i := findFilterKey(a.key.text)
		if i < 0 {
			p.errorf(a.key.line, "%w", errUnknownFilterKey(a.key.text))
			continue
		}
		pinned := o.pinned
		o.pinned &^= 1 << i // a later $config wins over an earlier one
		v, err := literal(settings[i].kind, a.value.text)
		if err == nil {
			err = o.apply(i, "=", v)
		}
		if err != nil {
			o.pinned = pinned
			p.errorf(a.key.line, "$config[%q]: %w", a.key.text, err)
			continue
		}
		o.pinned |= 1 << i
		if why := settings[i].inert; why != "" {
			p.skip(a.key.line, "$config "+a.key.text, why)
		}
	}
}

// rejectConfig reports a use of $config among tokens that are not understood.
func (p *scriptParser) rejectConfig(tokens []token) {
	for i := range tokens[:max(0, len(tokens)-1)] {
		if tokens[i].is("$") && tokens[i+1].word("config") {
			p.errorf(tokens[i].line, "%s", configUsage)
			return
		}
	}
}

// statementLength returns the number of tokens of the first statement or block.
func statementLength(tokens []token) int {
	depth := 0
	for i, t := range tokens {
		switch {
		case t.is("(") || t.is("[") || t.is("{"):
			depth++
		case t.is(")") || t.is("]") || t.is("}"):
			depth--
		}
		if depth == 0 && (t.is(";") || t.is("}")) {
			return i + 1
		}
	}
	return len(tokens)
}

// matchFilterLoop matches a loop over all filters. It returns the assignments in the loop and the
// number of its tokens, 0 if tokens do not start with such a loop.
func matchFilterLoop(tokens []token) (config []filterAssignment, n int) {
	m := matcher{rest: tokens}
	m.words("for", "(")
	id := m.name()
	m.words("in", "Log::active_streams", ")")
	outer := m.optional("{")
	m.words("for", "(")
	name := m.name()
	m.words("in", "Log::get_filter_names", "(", id, ")", ")", "{", "local")
	filter := m.name()
	if m.optional(":") {
		m.words("Log::Filter")
	}
	m.words("=", "Log::get_filter", "(", id, ",", name, ")", ";")
	for m.optional(filter) {
		m.words("$", "config", "[")
		key := m.string()
		m.words("]", "=")
		value := m.string()
		m.words(";")
		config = append(config, filterAssignment{key, value})
	}
	m.words("Log::add_filter", "(", id, ",", filter, ")", ";", "}")
	if outer {
		m.words("}")
	}
	if m.failed {
		return nil, 0
	}
	return config, len(tokens) - len(m.rest)
}

// matcher compares tokens one by one with expected ones until one differs.
type matcher struct {
	rest   []token
	failed bool
}

// next takes a token of the kind.
func (m *matcher) next(kind tokenKind) token {
	if m.failed || len(m.rest) == 0 || m.rest[0].kind != kind {
		m.failed = true
		return token{}
	}
	t := m.rest[0]
	m.rest = m.rest[1:]
	return t
}

func (m *matcher) name() string  { return m.next(tokenWord).text }
func (m *matcher) string() token { return m.next(tokenString) }

// optional takes the next token if it is text.
func (m *matcher) optional(text string) bool {
	if m.failed || len(m.rest) == 0 {
		return false
	}
	t := m.rest[0]
	if t.text != text || t.kind != tokenWord && t.kind != tokenPunct {
		return false
	}
	m.rest = m.rest[1:]
	return true
}

func (m *matcher) words(texts ...string) {
	for _, text := range texts {
		if !m.optional(text) {
			m.failed = true
		}
	}
}
