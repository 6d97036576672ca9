package testkit

import (
	"os/exec"
	"testing"
)

// Chromium returns the path of a Chromium that can run without a screen. It skips the test on a
// machine that has none: a browser is large.
func Chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium-headless-shell", "chromium", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium; on Debian: apt-get install chromium-headless-shell")
	return ""
}
