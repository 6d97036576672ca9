package zmtptest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestVectors(t *testing.T) {
	outcomes := map[string]int{}
	for name, v := range Vectors(t) {
		word, _ := v.Outcome()
		outcomes[word]++
		if len(v.Bytes(0, Client))+len(v.Bytes(0, Server)) == 0 {
			t.Errorf("%s: nobody says anything", name)
		}
	}
	want := map[string]int{"accept": 84, "closed": 71, "error": 6, "ignored": 5, "malformed": 2}
	if !maps.Equal(outcomes, want) {
		t.Errorf("outcomes are %v, want %v", outcomes, want)
	}
}

// TestVectorsAreComplete reads every line of the files in a second, cruder way.
func TestVectorsAreComplete(t *testing.T) {
	for name, v := range Vectors(t) {
		b, err := files.ReadFile("testdata/vectors/" + name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		header, body, _ := strings.Cut(string(b), "\n\n")
		if got, want := len(v.Headers), strings.Count(header, "\n")+1; got != want {
			t.Errorf("%s: %d headers, want %d", name, got, want)
		}
		lines, steps := 0, 0
		for _, line := range strings.Split(strings.TrimSuffix(body, "\n"), "\n") {
			if !strings.HasPrefix(line, "# ===") {
				lines++
			}
		}
		for _, c := range v.Connections {
			steps += len(c)
		}
		if steps != lines {
			t.Errorf("%s: %d steps, want %d", name, steps, lines)
		}
	}
}

func TestParseVector(t *testing.T) {
	v, err := ParseVector([]byte("title: a: b\nexpect: error 400, then closed\nours: close at " +
		"once; really\nclient-public: 0aff\nconnections: 2\n\n" +
		"# hello\nC> 0102\nS> -\n# plaintext HELLO: ff\nC> 03\n# plaintext READY:\n# === " +
		"connection 2 ===\nS> 04\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := [][]Step{{
		{Comment, nil, "hello", 7},
		{Client, []byte{1, 2}, "", 8},
		{Server, []byte{}, "", 9},
		{Plaintext, []byte{255}, "HELLO", 10},
		{Client, []byte{3}, "", 11},
		{Plaintext, []byte{}, "READY", 12},
	}, {{Server, []byte{4}, "", 14}}}
	same := func(a, b Step) bool {
		return a.Kind == b.Kind && a.Text == b.Text && a.Line == b.Line &&
			bytes.Equal(a.Data, b.Data) && (a.Data == nil) == (b.Data == nil)
	}
	if len(v.Connections) != 2 || !slices.EqualFunc(v.Connections[0], want[0], same) ||
		!slices.EqualFunc(v.Connections[1], want[1], same) {
		t.Errorf("steps are %+v", v.Connections)
	}
	if v.Headers["title"] != "a: b" {
		t.Errorf("title is %q", v.Headers["title"])
	}
	if got := v.Bytes(0, Client); !bytes.Equal(got, []byte{1, 2, 3}) {
		t.Errorf("client sent % x", got)
	}
	if word, rest := v.Outcome(); word != "closed" || rest != "at once; really" {
		t.Errorf("outcome %q %q", word, rest)
	}
	if got := v.Key(t, "client-public"); !bytes.Equal(got, []byte{10, 255}) {
		t.Errorf("key % x", got)
	}

	const head = "title: a\nexpect: accept\n"
	for name, bad := range map[string]string{
		"empty":                  "",
		"no title":               "expect: accept\n\nC> 01\n",
		"no expect":              "title: a\n\nC> 01\n",
		"header without value":   "title\nexpect: accept\n\n",
		"header twice":           head + "title: b\n\n",
		"odd digits":             head + "\nC> 012\n",
		"no digits":              head + "\nC> xx\n",
		"nothing sent":           head + "\nC> \n",
		"other mark":             head + "\nX> 01\n",
		"no mark":                head + "\n01\n",
		"empty line":             head + "\n\nC> 01\n",
		"plaintext without name": head + "\n# plaintext 01\n",
		"connection 3 first":     head + "\n# === connection 3 ===\n",
		"connections missing":    head + "connections: 2\n\nC> 01\n",
	} {
		if _, err := ParseVector([]byte(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
