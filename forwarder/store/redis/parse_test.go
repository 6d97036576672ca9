package redis

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var wide = limits{arguments: 1000, bulk: 1 << 20, total: 2 << 20}

// parseAll parses b as it comes in pieces of the given sizes, and returns the requests.
func parseAll(b []byte, lim limits, piece func() int) (requests []string, err error) {
	var p parser
	for have := 0; ; {
		args, n, err := p.next(b[:have], lim)
		if err != nil {
			return requests, err
		}
		if n > 0 {
			requests = append(requests, fmt.Sprintf("%q", args))
			b, have = b[n:], have-n
			continue
		}
		if have == len(b) {
			return requests, nil
		}
		have = min(have+max(piece(), 1), len(b))
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n":                `["GET" "k"]`,
		"*1\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n":          `[""]["PING"]`,
		"*0\r\n*-1\r\nPING\r\n":                         `[][]["PING"]`,
		"set a 'b c' \"d\\x41\\n\"\r\n\r\n  x\n":        `["set" "a" "b c" "dA\n"][]["x"]`,
		`a "b"c` + "\n":                                 `error: unbalanced quotes in request`,
		"a 'b\n":                                        `error: unbalanced quotes in request`,
		`'it\'s' ""` + "\n":                             `["it's" ""]`,
		"*1\r\n+PING\r\n":                               `error: expected '$', got '+'`,
		"*x\r\n":                                        `error: invalid multibulk length`,
		"*1\rx":                                         `error: invalid multibulk length`,
		"*01\r\n":                                       `error: invalid multibulk length`,
		"*1001\r\n":                                     `error: invalid multibulk length`,
		"*4611686018427387904\r\n":                      `error: invalid multibulk length`,
		"*9223372036854775808\r\n":                      `error: invalid multibulk length`,
		"*1\r\n$4611686018427387904\r\n":                `error: invalid bulk length`,
		"*1\r\n$9223372036854775807\r\n":                `error: invalid bulk length`,
		"*1\r\n$-1\r\n":                                 `error: invalid bulk length`,
		"*1\r\n$1048577\r\n":                            `error: invalid bulk length`,
		"*1\r\n$1\r\nabc":                               `error: expected CRLF behind a bulk string`,
		"*" + strings.Repeat("1", 40):                   `error: too big mbulk count string`,
		"*1\r\n$" + strings.Repeat("1", 40):             `error: too big bulk count string`,
		strings.Repeat("x", maxLine+1):                  `error: too big inline request`,
		strings.Repeat("x", 2*maxLine) + "\r\n":         `error: too big inline request`,
		"*2\r\n$1\r\na\r\n$1048576\r\n":                 ``,
		"*3\r\n$1048576\r\n" + big + "\r\n$1048576":     ``,
		"*3\r\n$1048576\r\n" + big + "\r\n$1048576\r\n": `error: invalid bulk length`,
	} {
		for _, size := range []int{1 << 30, 1, 7} {
			got, err := parseAll([]byte(in), wide, func() int { return size })
			text := strings.Join(got, "")
			if err != nil {
				text += strings.Replace(err.Error(), "Protocol error", "error", 1)
			}
			if text != want {
				t.Errorf("%.60q in pieces of %d: %s, want %s", in, size, text, want)
			}
		}
	}
}

var big = strings.Repeat("y", 1<<20)

// The limits before authentication are Redis's.
func TestParseUnauthenticated(t *testing.T) {
	for in, want := range map[string]string{
		"*11\r\n":           "Protocol error: unauthenticated multibulk length",
		"*1\r\n$16385\r\n":  "Protocol error: unauthenticated bulk length",
		"*10\r\n$16384\r\n": "<nil>",
	} {
		var p parser
		if _, _, err := p.next([]byte(in), unauthenticated); fmt.Sprint(err) != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

// Requests are the same however they are cut into pieces.
func TestParsePieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var stream []byte
		var want []string
		for range 1 + r.IntN(5) {
			var args [][]byte
			for range 1 + r.IntN(5) {
				args = append(args, bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(100)))
			}
			stream = append(stream, fmt.Sprintf("*%d\r\n", len(args))...)
			for _, a := range args {
				stream = append(append(fmt.Appendf(stream, "$%d\r\n", len(a)), a...), "\r\n"...)
			}
			want = append(want, fmt.Sprintf("%q", args))
		}
		got, err := parseAll(stream, wide, func() int { return r.IntN(40) })
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q: %v %v, want %v", stream, got, err, want)
		}
	}
}
