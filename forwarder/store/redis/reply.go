package redis

import (
	"math"
	"strconv"
)

// reply is the answers to a client, in RESP2 or RESP3
// (https://redis.io/docs/latest/develop/reference/protocol-spec/).
type reply struct {
	b     []byte
	resp3 bool
}

func (r *reply) head(kind byte, n int64) {
	r.b = append(r.b, kind)
	r.b = strconv.AppendInt(r.b, n, 10)
	r.b = append(r.b, '\r', '\n')
}

func (r *reply) line(kind byte, text string) {
	r.b = append(r.b, kind)
	r.b = append(r.b, text...)
	r.b = append(r.b, '\r', '\n')
}

func (r *reply) simple(text string) { r.line('+', text) }

// ok answers a command that has nothing else to say.
func (r *reply) ok() { r.simple("OK") }

// fail answers with an error. The text begins with a code such as ERR; lines in it become spaces.
func (r *reply) fail(text string) {
	r.b = append(r.b, '-')
	for i := range len(text) {
		c := text[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		r.b = append(r.b, c)
	}
	r.b = append(r.b, '\r', '\n')
}

func (r *reply) int(n int64) { r.head(':', n) }

func (r *reply) bool(v bool) {
	if v {
		r.int(1)
	} else {
		r.int(0)
	}
}

func (r *reply) null() {
	if r.resp3 {
		r.line('_', "")
	} else {
		r.b = append(r.b, "$-1\r\n"...)
	}
}

// nullArray is null in place of an array.
func (r *reply) nullArray() {
	if r.resp3 {
		r.null()
	} else {
		r.b = append(r.b, "*-1\r\n"...)
	}
}

// array begins an array of n elements; append them behind it.
func (r *reply) array(n int) { r.head('*', int64(n)) }

// pairs begins a map of n keys and values; in RESP2 it is an array.
func (r *reply) pairs(n int) {
	if r.resp3 {
		r.head('%', int64(n))
	} else {
		r.array(2 * n)
	}
}

// set begins a set of n elements; in RESP2 it is an array.
func (r *reply) set(n int) {
	if r.resp3 {
		r.head('~', int64(n))
	} else {
		r.array(n)
	}
}

// push begins a message that answers no command; in RESP2 it is an array.
func (r *reply) push(n int) {
	if r.resp3 {
		r.head('>', int64(n))
	} else {
		r.array(n)
	}
}

// text appends a bulk string.
func (r *reply) text(s string) {
	r.head('$', int64(len(s)))
	r.b = append(r.b, s...)
	r.b = append(r.b, '\r', '\n')
}

// bytes appends a bulk string.
func (r *reply) bytes(s []byte) {
	r.head('$', int64(len(s)))
	r.b = append(r.b, s...)
	r.b = append(r.b, '\r', '\n')
}

// verbatim appends a text for people.
func (r *reply) verbatim(s string) {
	if !r.resp3 {
		r.text(s)
		return
	}
	r.head('=', int64(len(s)+4))
	r.b = append(r.b, "txt:"...)
	r.b = append(r.b, s...)
	r.b = append(r.b, '\r', '\n')
}

// double appends a number; in RESP2 it is a bulk string.
func (r *reply) double(v float64) {
	if r.resp3 {
		r.line(',', formatDouble(v))
	} else {
		r.text(formatDouble(v))
	}
}

// formatDouble returns the shortest text that stands for v, as Redis does from 7.2 on.
func formatDouble(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	case v == math.Trunc(v) && math.Abs(v) < 1e17:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
