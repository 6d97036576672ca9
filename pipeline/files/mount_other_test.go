//go:build !linux

package files

import "testing"

func mountTmpfs(t *testing.T, _ int) string {
	t.Skip("only Linux has tmpfs")
	return ""
}
