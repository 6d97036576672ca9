//go:build !linux

package testkit

import "testing"

// Tmpfs skips the test: only Linux has tmpfs.
func Tmpfs(t testing.TB, _ int) (dir string) {
	t.Helper()
	t.Skip("only Linux has tmpfs")
	return ""
}
