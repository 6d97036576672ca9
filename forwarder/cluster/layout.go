package cluster

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// NodeType is what a node does in the cluster (Cluster::NodeType).
type NodeType uint8

// The types of nodes.
const (
	None NodeType = iota
	Control
	Logger
	Manager
	Proxy
	Worker
)

var typeNames = []string{"none", "control", "logger", "manager", "proxy", "worker"}

// String returns the name of the type in lower case.
func (t NodeType) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type_%d", uint8(t))
}

// Layout is what all nodes of a cluster have in common: the nodes that belong to it.
type Layout struct {
	Nodes map[string]NodeType // Cluster::nodes, by name
	// ManagerIsLogger is Cluster::manager_is_logger: the manager is in the pool of loggers.
	ManagerIsLogger bool
	// Addresses are $ip and $p of the nodes that have them. The port is 0 without $p.
	Addresses map[string]netip.AddrPort
	// Fields are the fields of the nodes' records, such as "node_type", each once.
	Fields []string
}

// Names returns the names of the nodes of a type in the order of Zeek (Cluster::nodes_with_type).
func (l *Layout) Names(t NodeType) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(l.Nodes)) {
		if l.Nodes[name] == t {
			names = append(names, name)
		}
	}
	return names
}

// has reports whether a node of this name may be in the cluster: any, if there is no layout.
func (l *Layout) has(name string) bool {
	if l == nil {
		return true
	}
	_, ok := l.Nodes[name]
	return ok
}

const (
	maxLayoutSize = 4 << 20
	maxNameSize   = 256 // of a node, in bytes
	maxFields     = 100 // of nodes' records
)

// ParseLayout reads the nodes from cluster-layout.zeek, the script in which operators list them:
//
//	redef Cluster::nodes = { ["worker-1"] = [$node_type=Cluster::WORKER, $ip=127.0.0.1], ... };
//	redef Cluster::manager_is_logger = F;
//
// It ignores everything else in the script. It does not evaluate it: conditions (@if) count as
// true.
func ParseLayout(r io.Reader) (*Layout, error) {
	script, err := io.ReadAll(io.LimitReader(r, maxLayoutSize+1))
	if err != nil {
		return nil, err
	}
	if len(script) > maxLayoutSize {
		return nil, fmt.Errorf("the layout has more than %d bytes", maxLayoutSize)
	}
	p := layoutParser{tokens: scriptTokens{text: string(script), line: 1}}
	p.next()
	l := &Layout{Nodes: map[string]NodeType{}, ManagerIsLogger: true,
		Addresses: map[string]netip.AddrPort{}}
	for p.token != "" {
		switch name := p.token; name {
		case "Cluster::nodes", "Cluster::manager_is_logger":
			p.next()
			if p.token != "=" && p.token != "+=" {
				continue
			}
			p.next()
			if name == "Cluster::manager_is_logger" {
				l.ManagerIsLogger = p.token == "T"
			} else if err := p.nodes(l); err != nil {
				return nil, fmt.Errorf("line %d: %w", p.tokens.line, err)
			}
		default:
			p.next()
		}
	}
	if len(l.Nodes) == 0 {
		return nil, errors.New("the layout has no nodes: it needs redef Cluster::nodes = { " +
			"[\"manager\"] = [$node_type=Cluster::MANAGER, ...], ... };")
	}
	return l, nil
}

// layoutParser reads the records of Cluster::nodes.
type layoutParser struct {
	tokens scriptTokens
	token  string // the current one, empty at the end
}

func (p *layoutParser) next() { p.token = p.tokens.next() }

// expect goes on if the current token is the given one.
func (p *layoutParser) expect(token string) error {
	if p.token != token {
		return fmt.Errorf("%q where Cluster::nodes needs %q", p.token, token)
	}
	p.next()
	return nil
}

// nodes reads { ["name"] = [record], ... } or the same in parentheses.
func (p *layoutParser) nodes(l *Layout) error {
	end := "}"
	switch p.token {
	case "table":
		p.next()
		end = ")"
		if err := p.expect("("); err != nil {
			return err
		}
	default:
		if err := p.expect("{"); err != nil {
			return err
		}
	}
	for p.token != end {
		if err := p.node(l); err != nil {
			return err
		}
		if p.token == "," {
			p.next()
		} else if p.token != end {
			return fmt.Errorf("%q behind a node of Cluster::nodes", p.token)
		}
	}
	return nil
}

func (p *layoutParser) node(l *Layout) error {
	if err := p.expect("["); err != nil {
		return err
	}
	name, quoted := strings.CutPrefix(p.token, `"`)
	if !quoted || name == "" || len(name) > maxNameSize {
		return fmt.Errorf("%.80q is no name of a node: up to %d characters in quotes", p.token,
			maxNameSize)
	}
	p.next()
	if err := errors.Join(p.expect("]"), p.expect("=")); err != nil {
		return err
	}
	if p.token == "Cluster::Node" { // a record constructor
		p.next()
	}
	open := p.token
	if open != "[" && open != "(" {
		return fmt.Errorf("%q where node %q needs its record", p.token, name)
	}
	p.next()
	t := None
	var ip netip.Addr
	var port uint64
	for depth := 1; depth > 0; p.next() {
		if field, ok := strings.CutPrefix(p.token, "$"); ok && depth == 1 &&
			!slices.Contains(l.Fields, field) && len(l.Fields) < maxFields {
			l.Fields = append(l.Fields, field)
		}
		switch p.token {
		case "":
			return fmt.Errorf("the record of node %q does not end", name)
		case "[", "(", "{":
			depth++
		case "]", ")", "}":
			depth--
		case "$node_type":
			p.next()
			if err := p.expect("="); err != nil {
				return err
			}
			i := slices.Index(typeNames, strings.ToLower(strings.TrimPrefix(p.token, "Cluster::")))
			if i < 0 {
				return fmt.Errorf("node %q has the unknown type %q", name, p.token)
			}
			t = NodeType(i)
		case "$ip":
			ip = p.address()
		case "$p":
			p.next()
			if err := p.expect("="); err != nil {
				return err
			}
			port, _ = strconv.ParseUint(p.token, 10, 16)
		}
	}
	l.Nodes[name] = t
	if ip.IsValid() {
		l.Addresses[name] = netip.AddrPortFrom(ip, uint16(port))
	}
	return nil
}

// address reads = 127.0.0.1 or = [::1], up to the last token of the address. It returns the zero
// Addr if there is none.
func (p *layoutParser) address() netip.Addr {
	p.next()
	if p.token == "=" {
		p.next()
	}
	bracket := p.token == "["
	if bracket {
		p.next()
	}
	ip, _ := netip.ParseAddr(p.token)
	if bracket {
		p.next()
	}
	return ip
}

// scriptTokens splits a Zeek script: strings with their opening quote and without the closing one,
// words with :: and $ in them, and single characters.
type scriptTokens struct {
	text string
	line int
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c == ':' || c == '.' || c >= '0' && c <= '9' ||
		c|0x20 >= 'a' && c|0x20 <= 'z'
}

// next returns the next token, empty at the end.
func (s *scriptTokens) next() string {
	for s.text != "" {
		switch c := s.text[0]; {
		case c == '\n':
			s.line++
			s.text = s.text[1:]
		case c == ' ' || c == '\t' || c == '\r':
			s.text = s.text[1:]
		case c == '#':
			if i := strings.IndexByte(s.text, '\n'); i >= 0 {
				s.text = s.text[i:]
			} else {
				s.text = ""
			}
		case c == '"':
			return s.quoted()
		case isWord(c):
			i := 1
			for i < len(s.text) && isWord(s.text[i]) {
				i++
			}
			return s.cut(i)
		case strings.HasPrefix(s.text, "+="):
			return s.cut(2)
		default:
			return s.cut(1)
		}
	}
	return ""
}

func (s *scriptTokens) cut(n int) (token string) {
	token, s.text = s.text[:n], s.text[n:]
	return token
}

// quoted returns a string up to its closing quote. A backslash stands for the character behind it.
func (s *scriptTokens) quoted() string {
	var b strings.Builder
	b.WriteByte('"')
	i := 1
	for ; i < len(s.text) && s.text[i] != '"' && s.text[i] != '\n'; i++ {
		if s.text[i] == '\\' && i+1 < len(s.text) {
			i++
		}
		b.WriteByte(s.text[i])
	}
	s.text = s.text[min(i+1, len(s.text)):]
	return b.String()
}
