//go:build !unix

package testkit

import "testing"

// StartChromium skips the test: nothing here ends all processes of a browser.
func StartChromium(t testing.TB, _ ...string) (devTools string) {
	t.Helper()
	t.Skip("a browser is used on Unix only")
	return ""
}
