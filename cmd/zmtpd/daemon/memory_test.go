package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"zmtpd/zmtp/memory"
)

func TestMemoryLimit(t *testing.T) {
	const gib = 1 << 30
	given := budgetSize(5)
	for name, c := range map[string]struct {
		flag      *budgetSize
		available int64
		source    string
		want      int64
	}{
		"flag":           {&given, gib, "host", 5},
		"host":           {nil, 16 * gib, "host", 4 * gib},
		"small host":     {nil, gib / 16, "host", minMemory},
		"cgroup":         {nil, 4 * gib, "cgroup", 3 * gib},
		"small cgroup":   {nil, gib / 4, "cgroup", gib/4 - process},
		"tiny cgroup":    {nil, gib / 8, "cgroup", minMemory},
		"nothing to ask": {nil, 0, "", unknownMemory},
	} {
		f := Flags{Memory: c.flag}
		if got, source := f.memoryLimit(func() (int64, string) {
			return c.available,
				c.source
		}); got != c.want || source == "" {
			t.Errorf("%s: %d from %q, want %d", name, got, source, c.want)
		}
	}
}

// A running daemon can neither get nor lose a memory budget, and the log says so.
func TestReloadMemoryToOrFromNone(t *testing.T) {
	none, some := budgetSize(0), budgetSize(leastMemory)
	for _, c := range []struct {
		name   string
		budget *memory.Budget
		now    *budgetSize
		warned bool
	}{
		{"to none", memory.New(leastMemory, slog.New(slog.DiscardHandler)), &none, true},
		{"from none", nil, &some, true},
		{"none as before", nil, &none, false},
	} {
		var out bytes.Buffer
		(&Flags{Memory: c.now}).reloadMemory(c.budget, slog.New(slog.NewTextHandler(&out, nil)))
		if got := strings.Contains(out.String(), "only after a restart"); got != c.warned {
			t.Errorf("%s: warned %v: %s", c.name, got, out.String())
		}
	}
}
