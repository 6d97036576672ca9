package testkit

import (
	"fmt"
	"syscall"
	"testing"
)

// Tmpfs returns an empty folder that is a file system of size bytes. It ends with the test. The
// test is skipped where the user may not mount one.
func Tmpfs(t testing.TB, size int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("cannot mount a tmpfs, run as root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
