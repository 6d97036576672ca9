//go:build !linux

package pipeline

import "testing"

func mountTmpfs(t *testing.T, _ int) string {
	t.Skip("only Linux has tmpfs")
	return ""
}
