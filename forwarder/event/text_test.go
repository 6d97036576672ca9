package event

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestParseArgument(t *testing.T) {
	for text, want := range map[string]string{
		"bool:T":                     "T",
		"bool:false":                 "F",
		"count:5":                    "5",
		"count:18446744073709551615": "18446744073709551615",
		"int:-5":                     "-5",
		"int:5":                      "+5",
		"double:1":                   "1.0",
		"double:1e300":               "1e+300",
		"double:inf":                 "+Inf",
		"string:":                    `""`,
		"string:a,b=]":               `"a,b=]"`,
		`string:"a\tb"`:              `"a\tb"`,
		`string:"\xff"`:              `"\xff"`,
		"enum:Notice::LOG":           "Notice::LOG",
		"none:":                      "-",
		"addr:10.0.0.1":              "10.0.0.1",
		"addr:::1":                   "::1",
		"subnet:10.0.0.0/8":          "10.0.0.0/8",
		"port:53/udp":                "53/udp",
		"time:2006-01-02T15:04:05Z":  "2006-01-02T15:04:05Z",
		"time:1700000000.25":         "2023-11-14T22:13:20.25Z",
		"interval:90s":               "1m30s",
		"interval:1h30m":             "1h30m0s",
		"interval:-5min":             "-5m0s",
		"vector[count]:1,2":          "[1, 2]",
		"vector[count]:":             "[]",
		"set[string]:b,a":            `{"a", "b"}`,
		`vector[string]:"a,b",""`:    `["a,b", ""]`,
		"set[addr,port]:[10.0.0.1,53/udp],[::1,80/tcp]": "{[::1, 80/tcp], " +
			"[10.0.0.1, 53/udp]}",
		"table[string,count]:a=1,b=2":                            `{"a": 1, "b": 2}`,
		"table[count,set[string]]:1=[a,b],2=[]":                  `{1: {"a", "b"}, 2: {}}`,
		"table[record[addr,port],string]:[::1,1/tcp]=a=b":        `{[::1, 1/tcp]: "a=b"}`,
		"record[count,string,none]:1,a,":                         `[1, "a", -]`,
		"record[string]:":                                        `[""]`,
		"vector[vector[vector[int]]]:[[1,2],[]],[]":              "[[[+1, +2], []], []]",
		`{"@data-type":"count","data":5}`:                        "5",
		`{"@data-type":"vector","data":[{"@data-type":"none"}]}`: "[-]",
	} {
		v, err := ParseArgument(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		b, err := Append(nil, v)
		if got := string(AppendText(nil, b)); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for text, fault := range map[string]string{
		"":                                       `"" is no type`,
		"5":                                      `no type of Zeek; write a type and a value, as in count:5`,
		"count":                                  "no colon",
		"counts:5":                               `"counts" is no type`,
		"count:-5":                               "invalid syntax",
		"count:18446744073709551616":             "out of range",
		"bool:maybe":                             "write T or F",
		"addr:x":                                 "no addr",
		"port:53":                                "53/udp",
		"port:53/sctp":                           "53/udp",
		"port:70000/tcp":                         "no port",
		"time:today":                             "seconds",
		"interval:5":                             "units",
		"none:5":                                 "no value",
		"set:a":                                  "set[addr]",
		"set[]:":                                 "no type",
		"set[addr:":                              "bracket",
		"table[count]:1":                         "2 types",
		"table[count,count]:1":                   "no =",
		"vector[vector[int]]:1":                  "brackets",
		"vector[vector[int]]:[1":                 "end in a bracket",
		"record[count]:1,2":                      "more values",
		"record[count,count]:1":                  "1 values",
		"vector[count]:1]":                       "follows",
		`string:"a`:                              "do not end",
		`string:"a"b`:                            "follows",
		"vector[count,count]:1":                  "1 types",
		"{}":                                     "event: ",
		strings.Repeat("vector[", 100) + "count": "in one another",
	} {
		if v, err := ParseArgument(text); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%.60s: %v, %v; want %q", text, v, err, fault)
		}
	}
	if v, err := ParseArgument("set[count]:1,1"); err != nil {
		t.Error(err)
	} else if _, err := Append(nil, v); err == nil {
		t.Error("a set has an element twice")
	}
}

func FuzzParseArgument(f *testing.F) {
	for _, text := range []string{"table[record[addr,port],set[string]]:[::1,1/tcp]=[a,\"b\"]",
		"time:1.5", "record[none,none]:,", `{"@data-type":"count","data":5}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := ParseArgument(text); err == nil {
			Append(nil, v) // a set may have an element twice
		}
	})
}

// Everything that Zeek has sent has a text without control characters, and valid JSON.
func TestTextAndPlainJSON(t *testing.T) {
	for _, m := range recorded(t, "bin.bin") {
		e, err := ParseEvent(m)
		if err != nil {
			t.Fatal(err)
		}
		if text := AppendText(nil, e.Args); strings.ContainsFunc(string(text),
			func(c rune) bool { return c < ' ' || c == 0x7f }) {
			t.Errorf("%q", text)
		}
		if text := AppendPlainJSON(nil, e.Args); !json.Valid(text) {
			t.Errorf("%s", text)
		}
	}
	v := Vector{nil, true, uint64(1), int64(-1), 0.5, math.Inf(-1), "a\"\xff\x1b\u0085é",
		Enum("A::B"), Set{}, Table{{"k", Vector{}}}, Port{80, ProtoTCP}}
	b, err := Append(nil, v)
	const text = `[-, T, 1, -1, 0.5, -Inf, "a\"\xff\x1b\u0085é", A::B, {}, {"k": []}, 80/tcp]`
	const plain = `[null,true,1,-1,0.5,"-inf","a\"` + "\ufffd" +
		`\u001b\u0085é","A::B",[],[["k",[]]],"80/tcp"]`
	if got := string(AppendText(nil, b)); got != text || err != nil {
		t.Errorf("%s, %v; want %s", got, err, text)
	}
	if got := string(AppendPlainJSON(nil, b)); got != plain || !json.Valid([]byte(got)) {
		t.Errorf("%s, want %s", got, plain)
	}
}
