package pipeline

import (
	"strings"
	"testing"
)

func TestReasonLabels(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if s := r.String(); s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") != "" ||
			seen[s] {
			t.Errorf("reason %d has the label %q", r, s)
		}
		seen[r.String()] = true
		if r >= 64 {
			t.Errorf("%v has no bit in sender.warned", r)
		}
	}
	if len(seen) < int(reasonBatch)+5 {
		t.Errorf("only %d reasons", len(seen))
	}
}
