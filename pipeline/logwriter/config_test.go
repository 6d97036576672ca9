package logwriter

import (
	"strings"
	"testing"
	"time"
)

func TestConfigIsChecked(t *testing.T) {
	minimal := Config{Node: "n", Stream: "S::LOG", Path: "p"}
	got, err := minimal.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if want := (Config{"n", "S::LOG", "p", "default", "Log::WRITER_ASCII", 1000, 1 << 20,
		time.Second}); got != want {
		t.Errorf("defaults %+v, want %+v", got, want)
	}
	for want, change := range map[string]func(*Config){
		"Config.Node is empty":        func(c *Config) { c.Node = "" },
		"Config.Stream is empty":      func(c *Config) { c.Stream = "" },
		"Config.Path is empty":        func(c *Config) { c.Path = "" },
		"is negative":                 func(c *Config) { c.BatchSize = -1 },
		"BatchBytes or FlushInterval": func(c *Config) { c.FlushInterval = -1 },
		"at most 67108864":            func(c *Config) { c.BatchBytes = 64<<20 + 1 },
		"names in Config have":        func(c *Config) { c.Node = strings.Repeat("n", 64<<20) },
	} {
		c := minimal
		change(&c)
		w, err := New[numbered](discard{}, c)
		if err == nil {
			w.Close(t.Context())
		}
		if err == nil || !strings.HasPrefix(err.Error(), "logwriter: ") ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	if _, err := New[int](discard{}, minimal); err == nil ||
		!strings.HasPrefix(err.Error(), "logwriter: int is not a record") {
		t.Errorf("a Writer of int: %v", err)
	}
}
