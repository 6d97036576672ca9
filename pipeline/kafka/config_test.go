package kafka

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"zmtpd/pipeline"
	"zmtpd/pipeline/zeek"
)

// Errors in a configuration say what is wrong and what to do.
func TestConfigErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	valid := Config{Brokers: []string{"localhost", "127.0.0.1:1", "[::1]:9092"}}
	s, err := New(valid)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"Config.Brokers":       func(c *Config) { c.Brokers = nil },
		"one broker each":      func(c *Config) { c.Brokers = []string{"a,b"} },
		"is not a host":        func(c *Config) { c.Brokers = []string{":9092"} },
		"1 to 65535":           func(c *Config) { c.Brokers = []string{"a:kafka"} },
		"[host]:port":          func(c *Config) { c.Brokers = []string{"::1:9092"} },
		"letters, digits":      func(c *Config) { c.Topic = "zeek/{path}" },
		"may stand in it once": func(c *Config) { c.Topic = "{path}{path}" },
		"at most 249":          func(c *Config) { c.Topic = strings.Repeat("x", 250) },
		"at most 199": func(c *Config) {
			c.Topic = strings.Repeat("x", 200) +
				"{path}"
		},
		`is not "."`:            func(c *Config) { c.Topic = ".." },
		"choose 1ms to 1s":      func(c *Config) { c.Linger = time.Minute },
		"Config.Linger: 1ns":    func(c *Config) { c.Linger = 1 },
		"max.message.bytes":     func(c *Config) { c.MaxBatchBytes = 10 },
		"is negative":           func(c *Config) { c.MaxBuffered = -1 },
		"Acks constants":        func(c *Config) { c.Acks = 3 },
		"Compression constants": func(c *Config) { c.Compression = 9 },
		"field without a name":  func(c *Config) { c.Key = KeyField("") },
		"json_timestamps":       func(c *Config) { c.Format = &zeek.Options{JSONTimestamps: 9} },
		"user and a password":   func(c *Config) { c.SASL = &SASL{User: "u"} },
		"Mechanism constants": func(c *Config) {
			c.SASL = &SASL{User: "u", Password: "p",
				Mechanism: 7}
		},
		"no such file":               func(c *Config) { c.TLS = &TLS{CAFile: file + "x"} },
		"no certificate in PEM form": func(c *Config) { c.TLS = &TLS{CAFile: file} },
		"give both files":            func(c *Config) { c.TLS = &TLS{CertFile: file} },
		"Config.TLS.CertFile: client certificate: tls": func(c *Config) {
			c.TLS = &TLS{CertFile: file,
				KeyFile: file}
		},
	} {
		cfg := valid
		change(&cfg)
		s, err := New(cfg)
		if err == nil {
			s.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), want) ||
			!strings.HasPrefix(err.Error(), "kafka: ") {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// The text of every option reads back as the same value.
func TestValues(t *testing.T) {
	for _, a := range []Acks{AcksAll, AcksLeader, AcksNone} {
		var got Acks
		if err := got.UnmarshalText([]byte(a.String())); err != nil || got != a {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
	for c := range CompressionNone + 1 {
		var got Compression
		if err := got.UnmarshalText([]byte(c.String())); err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	for m := range Plain + 1 {
		var got Mechanism
		if err := got.UnmarshalText([]byte(strings.ToLower(m.String()))); err != nil || got != m {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
	for _, k := range []Key{KeyNone, KeyNode, KeyPath, KeyField("id.orig_h")} {
		var got Key
		if err := got.UnmarshalText([]byte(k.String())); err != nil || got != k {
			t.Errorf("%v: %v, %v", k, got, err)
		}
	}
	var a Acks
	var k Key
	for _, err := range []error{
		a.UnmarshalText([]byte("some")),
		k.UnmarshalText([]byte("uid")),
		k.UnmarshalText([]byte("field:")),
	} {
		if err == nil {
			t.Error("an unknown value is accepted")
		}
	}
}

func TestTopicNames(t *testing.T) {
	one, err := newTopics("{path}")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"conn": "conn", "": "_", ".": "_", "..": "_", "...": "...",
		"a/b c": "a_b_c", "é\xff": "__",
	} {
		if got, e := one.of([]byte(path)); e != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", path, got, e, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		names, err := newTopics(rapid.SampledFrom([]string{"{path}", "zeek-{path}", "{path}.v1",
			strings.Repeat("x", 199) + "{path}"}).Draw(t, "template"))
		if err != nil {
			t.Fatal(err)
		}
		path := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 300),
			rapid.Map(rapid.StringN(0, 300, 300),
				func(s string) []byte { return []byte(s) })).Draw(t, "path")
		name, e := names.of(path)
		again, _ := names.of(path)
		if e != nil || name == "" || len(name) > 249 ||
			strings.Trim(name,
				"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" ||
			again != name {
			t.Fatalf("%q: %q, %q, %v", path, name, again, e)
		}
	})
}

// A node cannot create any number of topics by inventing log paths.
func TestManyTopics(t *testing.T) {
	names, err := newTopics("{path}")
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxTopics {
		if _, e := names.of([]byte{byte(i), byte(i >> 8)}); e != nil {
			t.Fatal(e)
		}
	}
	if _, e := names.of([]byte("one more")); e == nil || e.Reason != pipeline.ReasonManyFiles {
		t.Errorf("the error for one topic too many is %v", e)
	}
	if _, e := names.of([]byte{0, 0}); e != nil {
		t.Errorf("a known topic: %v", e)
	}
}

// fieldValue returns what a JSON parser returns, for any values of the other fields.
func TestFieldValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{`uid`, `"uid":`, `,"uid":"x"`, `\`, `"`, `,`, `{`, `}`,
			`[`, `]`, `:`, `a`, `1`, "\n", "é", " "})
		text := rapid.Map(rapid.SliceOfN(piece, 0, 6),
			func(p []string) string { return strings.Join(p, "") })
		// The names are as Zeek escapes them, in any order, each once.
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{`uid`, `uidx`, `xuid`, `x"uid`,
			`\`, `a`, `,`, `n,"uid`}), 1, 6, rapid.ID[string]).Draw(t, "names")
		wanted := rapid.SampledFrom(names).Draw(t, "wanted")
		var object bytes.Buffer
		var want *string
		object.WriteByte('{')
		for _, name := range names {
			var value any
			raw := ""
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				continue // unset
			case 1:
				value = text.Draw(t, "string")
			case 2:
				value = rapid.Int().Draw(t, "int")
			case 3:
				value = rapid.SliceOf(text).Draw(t, "array")
			case 4:
				value = nil
			}
			if object.Len() > 1 {
				object.WriteByte(',')
			}
			quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
			b, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			raw = string(b)
			object.WriteString(quoted + ":" + raw)
			if name == wanted {
				switch v := value.(type) {
				case string:
					raw = raw[1 : len(raw)-1]
					want = &raw
				case int:
					want = &raw
				default:
					_ = v
				}
			}
		}
		object.WriteByte('}')
		k := newKeys(KeyField(wanted))
		got := fieldValue(object.Bytes(), k.pattern)
		if want == nil && got != nil || want != nil && (got == nil || string(got) != *want) {
			t.Fatalf("field %q of %s: %q, want %v", wanted, object.Bytes(), got, want)
		}
	})
}
