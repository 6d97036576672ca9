package redis

import (
	"bytes"
	"fmt"
	"strconv"
)

// limits bound one request of a client.
type limits struct {
	arguments int // number of arguments
	bulk      int // bytes of one argument
	total     int // bytes of the whole request
}

const (
	// maxLine bounds an inline command and the lines with lengths (PROTO_INLINE_MAX_SIZE in
	// Redis's server.h), in bytes.
	maxLine = 64 << 10
	// maxLength bounds the line with a length: more digits than any valid length has.
	maxLength = 32
)

// unauthenticated are the limits of a client that has yet to authenticate
// (processMultibulkBuffer in Redis's networking.c).
var unauthenticated = limits{arguments: 10, bulk: 16 << 10, total: 64 << 10}

// protocolError says how a request violates the protocol. The connection ends behind it.
type protocolError struct {
	reason Reason
	text   string
}

// Error returns the text of Redis.
func (e *protocolError) Error() string { return "Protocol error: " + e.text }

func malformed(format string, args ...any) error {
	return &protocolError{BadRequest, fmt.Sprintf(format, args...)}
}

// parser finds requests in what a client has sent: arrays of bulk strings, or inline commands. It
// does no I/O. While a request is incomplete, it remembers how far it has come, so that each byte
// is looked at once.
type parser struct {
	pos  int    // how much of the request was read
	left int    // arguments that are missing; 0 before the header was read
	bulk int    // length of the argument at pos, -1 before its length was read
	ends []span // of the arguments that were read
	args [][]byte
}

// span is the place of an argument in the request.
type span struct{ from, to int }

// next returns the arguments of the request at the beginning of b, and its length. The arguments
// refer to b, and the slice is valid until the next call. An incomplete request has length 0: call
// next again with more behind the same bytes. A request may have no arguments.
func (p *parser) next(b []byte, lim limits) (args [][]byte, n int, err error) {
	if len(b) == 0 {
		return nil, 0, nil
	}
	if p.left == 0 {
		if b[0] != '*' {
			return p.inline(b)
		}
		count, end, err := length(b, 1, "mbulk count", "invalid multibulk length")
		if end == 0 {
			return nil, 0, err
		}
		switch {
		case count > int64(lim.arguments) && lim == unauthenticated:
			return nil, 0, &protocolError{NotAuthenticated, "unauthenticated multibulk length"}
		case count > int64(lim.arguments):
			return nil, 0, &protocolError{TooManyArguments, "invalid multibulk length"}
		case count <= 0:
			return nil, end, nil
		}
		p.left, p.pos, p.bulk, p.ends = int(count), end, -1, p.ends[:0]
	}
	for p.left > 0 {
		if p.bulk < 0 {
			if p.pos == len(b) {
				return nil, 0, nil
			}
			if b[p.pos] != '$' {
				return nil, 0, malformed("expected '$', got '%c'", b[p.pos])
			}
			size, end, err := length(b, p.pos+1, "bulk count", "invalid bulk length")
			if end == 0 {
				return nil, 0, err
			}
			switch {
			case size < 0:
				return nil, 0, malformed("invalid bulk length")
			case size > int64(lim.bulk) && lim == unauthenticated:
				return nil, 0, &protocolError{NotAuthenticated, "unauthenticated bulk length"}
			case size > int64(lim.bulk), size > int64(lim.total-end):
				return nil, 0, &protocolError{TooBig, "invalid bulk length"}
			}
			p.bulk, p.pos = int(size), end
		}
		if len(b)-p.pos < p.bulk+2 {
			return nil, 0, nil
		}
		end := p.pos + p.bulk
		if b[end] != '\r' || b[end+1] != '\n' {
			return nil, 0, malformed("expected CRLF behind a bulk string")
		}
		p.ends = append(p.ends, span{p.pos, end})
		p.pos, p.bulk = end+2, -1
		p.left--
	}
	p.args = p.args[:0]
	for _, s := range p.ends {
		p.args = append(p.args, b[s.from:s.to:s.to])
	}
	n = p.pos
	p.pos = 0
	return p.args, n, nil
}

// keptArguments bounds what the parser keeps for the next request.
const keptArguments = 1024

// trim gives memory back that only a request with very many arguments needs.
func (p *parser) trim() {
	if cap(p.args) > keptArguments && p.left == 0 {
		p.args, p.ends = nil, nil
	}
}

// length reads a decimal number and CRLF at b[from]. end is 0 if the line is incomplete or wrong.
func length(b []byte, from int, what, invalid string) (n int64, end int, err error) {
	line := b[from:]
	cr := bytes.IndexByte(line[:min(len(line), maxLength)], '\r')
	switch {
	case cr < 0 && len(line) >= maxLength:
		return 0, 0, malformed("too big %s string", what)
	case cr < 0, cr+1 == len(line):
		return 0, 0, nil
	case line[cr+1] != '\n':
		return 0, 0, malformed("%s", invalid)
	}
	n, ok := integer(line[:cr])
	if !ok {
		return 0, 0, malformed("%s", invalid)
	}
	return n, from + cr + 2, nil
}

// integer reads a number as Redis's string2ll does: decimal, without plus sign, leading zeros or
// space.
func integer(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	digits := b
	if b[0] == '-' {
		digits = b[1:]
	}
	if len(digits) == 0 || digits[0] == '0' && len(b) > 1 || digits[0] < '0' || digits[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// inline reads an inline command: words in one line (processInlineBuffer in Redis).
func (p *parser) inline(b []byte) ([][]byte, int, error) {
	i := bytes.IndexByte(b[p.pos:], '\n')
	if i < 0 && len(b) <= maxLine {
		p.pos = len(b)
		return nil, 0, nil
	}
	end := p.pos + i
	p.pos = 0
	if i < 0 || end > maxLine {
		return nil, 0, &protocolError{TooBig, "too big inline request"}
	}
	args, ok := splitLine(p.args[:0], bytes.TrimSuffix(b[:end], []byte{'\r'}))
	if !ok {
		return nil, 0, malformed("unbalanced quotes in request")
	}
	p.args = args
	return args, end + 1, nil
}

// splitLine splits an inline command into words. A word in double quotes may have escapes, one in
// single quotes only \' (sdssplitargs in Redis's sds.c).
func splitLine(args [][]byte, line []byte) ([][]byte, bool) {
	for i := 0; ; {
		for i < len(line) && space(line[i]) {
			i++
		}
		if i == len(line) {
			return args, true
		}
		word := []byte{}
		for quote := byte(0); ; {
			if i == len(line) {
				if quote != 0 {
					return nil, false
				}
				break
			}
			c := line[i]
			if quote == 0 && space(c) {
				break
			}
			i++
			switch {
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
				continue
			case quote != 0 && c == quote:
				if i < len(line) && !space(line[i]) {
					return nil, false
				}
				quote = 0
				continue
			case quote == '\'' && c == '\\' && i < len(line) && line[i] == '\'':
				c = '\''
				i++
			case quote == '"' && c == '\\' && i < len(line):
				c, i = escape(line, i)
			}
			word = append(word, c)
		}
		args = append(args, word)
	}
}

// escape returns what the escape behind a backslash at line[i] stands for, and its end.
func escape(line []byte, i int) (byte, int) {
	if line[i] == 'x' && i+2 < len(line) {
		if v, err := strconv.ParseUint(string(line[i+1:i+3]), 16, 8); err == nil {
			return byte(v), i + 3
		}
	}
	c := line[i]
	switch c {
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'b':
		c = '\b'
	case 'a':
		c = '\a'
	}
	return c, i + 1
}

// space reports what isspace does in C.
func space(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
