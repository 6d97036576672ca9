package filter

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// maxExpression bounds an expression in bytes, and maxDepth its parentheses and negations.
	maxExpression = 64 << 10
	maxDepth      = 100
)

// node is a part of an expression.
type node interface{ isNode() }

type (
	and  struct{ a, b node }
	or   struct{ a, b node }
	not  struct{ a node }
	leaf struct {
		test  test
		shift uint32 // bytes of VLAN tags before it
	}
)

func (and) isNode()  {}
func (or) isNode()   {}
func (not) isNode()  {}
func (leaf) isNode() {}

// parser reads an expression.
type parser struct {
	tokens []string
	at     int
	depth  int
	shift  uint32 // bytes of VLAN tags that the expression has required so far
	kernel bool   // VLAN tags are not in the packet
	last   qualifiers
	some   bool // last is set
}

// qualifiers are the words before an id.
type qualifiers struct {
	proto, dir, kind string
}

func parse(expression string, kernel bool) (node, error) {
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("filter of %d bytes, the limit is %d", len(expression),
			maxExpression)
	}
	p := &parser{tokens: tokenize(expression), kernel: kernel}
	n, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.at < len(p.tokens) {
		return nil, fmt.Errorf("%q is not expected here", p.tokens[p.at])
	}
	return n, nil
}

func tokenize(s string) []string {
	for _, op := range []string{"(", ")", "!", "&&", "||"} {
		s = strings.ReplaceAll(s, op, " "+op+" ")
	}
	return strings.Fields(s)
}

func (p *parser) peek() string {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return ""
}

func (p *parser) next() string {
	t := p.peek()
	p.at++
	return t
}

// take takes the next word if it is one of these.
func (p *parser) take(words ...string) string {
	for _, w := range words {
		if p.peek() == w && w != "" {
			p.at++
			return w
		}
	}
	return ""
}

// or reads terms. In libpcap "and" and "or" have the same precedence and associate to the left.
func (p *parser) or() (node, error) {
	a, err := p.not()
	for err == nil {
		op := p.take("and", "&&", "or", "||")
		if op == "" {
			return a, nil
		}
		var b node
		if b, err = p.not(); err != nil {
			break
		}
		if op == "and" || op == "&&" {
			a = and{a, b}
		} else {
			a = or{a, b}
		}
	}
	return nil, err
}

func (p *parser) not() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("more than %d parentheses and negations within each other", maxDepth)
	}
	defer func() { p.depth-- }()
	if p.take("not", "!") != "" {
		a, err := p.not()
		return not{a}, err
	}
	if p.take("(") != "" {
		a, err := p.or()
		if err == nil && p.take(")") == "" {
			err = fmt.Errorf("a ) is missing")
		}
		return a, err
	}
	return p.primitive()
}

var protocols = []string{"ether", "ip6", "ip", "arp", "rarp", "tcp", "udp", "sctp", "icmp6", "icmp"}

func (p *parser) primitive() (node, error) {
	switch word := p.peek(); word {
	case "":
		return nil, fmt.Errorf("the filter ends where a condition is expected")
	case "less", "greater":
		p.at++
		n, err := p.number(1<<31 - 1)
		return leaf{lengthTest{greater: word == "greater", n: n}, p.shift}, err
	case "vlan":
		p.at++
		return p.vlan()
	}
	var q qualifiers
	q.proto = p.take(protocols...)
	q.dir = p.direction()
	q.kind = p.take("host", "net", "portrange", "port", "proto")
	switch {
	case q == qualifiers{}:
		if !p.some {
			return nil, fmt.Errorf("%q is no condition; write, for example, tcp port 5555",
				p.peek())
		}
		q = p.last // "port 80 or 443"
	case q.dir == "" && q.kind == "":
		p.some = false
		if q.proto == "ether" {
			return nil, fmt.Errorf("ether needs host and an address")
		}
		return leaf{protocolTest(q.proto), p.shift}, nil
	case q.kind == "":
		q.kind = "host"
	}
	t, err := p.id(q)
	p.last, p.some = q, true
	return leaf{t, p.shift}, err
}

// direction reads "src", "dst", "src or dst", "src and dst".
func (p *parser) direction() string {
	first := p.take("src", "dst")
	if first == "" || p.at+1 >= len(p.tokens) {
		return first
	}
	op, second := p.tokens[p.at], p.tokens[p.at+1]
	if (op == "or" || op == "and") && (second == "src" || second == "dst") && second != first {
		// "src or dst port 80", not "src 10.0.0.1 or dst 10.0.0.1"
		p.at += 2
		if op == "or" {
			return ""
		}
		return "both"
	}
	return first
}

func (p *parser) vlan() (node, error) {
	t := vlanTest{kernel: p.kernel && p.shift == 0, id: -1}
	if n, err := strconv.ParseUint(p.peek(), 10, 16); err == nil {
		if n > 4095 {
			return nil, fmt.Errorf("VLAN %d: the largest id is 4095", n)
		}
		t.id = int(n)
		p.at++
	}
	p.some = false
	n := leaf{t, p.shift}
	if p.kernel && p.shift > 0 {
		return nil, fmt.Errorf("vlan may occur once only in a filter for an interface")
	}
	if t.kernel {
		p.kernel = false // a further tag is in the packet
		return n, nil
	}
	p.shift += 4
	return n, nil
}

func (p *parser) number(most uint64) (uint32, error) {
	word := p.next()
	n, err := strconv.ParseUint(word, 10, 32)
	if err != nil || n > most {
		return 0, fmt.Errorf("%q is no number up to %d", word, most)
	}
	return uint32(n), nil
}

// id reads what the qualifiers are about.
func (p *parser) id(q qualifiers) (test, error) {
	switch q.kind {
	case "port", "portrange":
		return p.port(q)
	case "proto":
		n, err := p.number(255)
		if q.proto != "ip" && q.proto != "ip6" {
			return nil, fmt.Errorf("write ip proto or ip6 proto")
		}
		return protoTest{v6: q.proto == "ip6", n: n}, err
	}
	word := p.next()
	if q.proto == "ether" {
		mac, err := net.ParseMAC(word)
		if err != nil || len(mac) != 6 || q.kind != "host" {
			return nil, fmt.Errorf("%q is no Ethernet address, as in ether host 00:11:22:33:44:55",
				word)
		}
		return etherTest{[6]byte(mac), q.dir}, nil
	}
	var prefix netip.Prefix
	addr, err := netip.ParseAddr(word)
	switch {
	case err == nil && addr.Zone() == "":
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	case q.kind == "net":
		if prefix, err = netip.ParsePrefix(word); err != nil {
			return nil, fmt.Errorf("%q is no network, as in net 10.0.0.0/8", word)
		}
		if prefix != prefix.Masked() {
			return nil, fmt.Errorf("%s has bits set beyond its prefix length: write %s", word,
				prefix.Masked())
		}
	default:
		return nil, fmt.Errorf("%q is no IP address; names are not resolved", word)
	}
	switch q.proto {
	case "", "ip", "arp", "rarp", "ip6":
	default:
		return nil, fmt.Errorf("%s cannot be combined with %s", q.proto, q.kind)
	}
	if prefix.Addr().Is6() == (q.proto == "ip" || q.proto == "arp" || q.proto == "rarp") ||
		prefix.Addr().Is4() && q.proto == "ip6" {
		if q.proto != "" {
			return nil, fmt.Errorf("%s is no address of %s", word, q.proto)
		}
	}
	return hostTest{prefix, q.dir, q.proto}, nil
}

func (p *parser) port(q qualifiers) (test, error) {
	word := p.next()
	first, last, isRange := strings.Cut(word, "-")
	if isRange != (q.kind == "portrange") {
		return nil, fmt.Errorf("%q is no %s", word, q.kind)
	}
	if !isRange {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil {
		return nil, fmt.Errorf("%q is no port; names of services are not known", word)
	}
	if a > b {
		a, b = b, a
	}
	var protos []uint32
	switch q.proto {
	case "":
		protos = []uint32{protoSCTP, protoTCP, protoUDP}
	case "tcp":
		protos = []uint32{protoTCP}
	case "udp":
		protos = []uint32{protoUDP}
	case "sctp":
		protos = []uint32{protoSCTP}
	default:
		return nil, fmt.Errorf("%s has no ports", q.proto)
	}
	return portTest{protos, uint32(a), uint32(b), q.dir}, nil
}
