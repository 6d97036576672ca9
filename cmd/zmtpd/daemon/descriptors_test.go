//go:build unix

package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestWarnDescriptors(t *testing.T) {
	for limit, want := range map[uint64]string{
		wantedDescriptors:     "",
		wantedDescriptors - 4: "enough_for_nodes=999 needed_for_1000_nodes=4000",
		1024:                  "enough_for_nodes=256 ",
		10:                    "enough_for_nodes=2 ",
	} {
		var out bytes.Buffer
		warnDescriptors(slog.New(slog.NewTextHandler(&out, nil)), limit)
		if !strings.Contains(out.String(), want) || (want == "") != (out.Len() == 0) {
			t.Errorf("limit %d: %q, want %q", limit, out.String(), want)
		}
	}
}
