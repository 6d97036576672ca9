package files

import (
	"errors"
	"syscall"
	"testing"

	"zmtpd/zmtp/testkit"
)

// A folder that cannot be written is an error at the start.
func TestFolderReadOnly(t *testing.T) {
	dir := testkit.Tmpfs(t, 1<<20)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	l, err := New(Config{Dir: dir})
	if err == nil {
		l.Close(t.Context())
	}
	if !errors.Is(err, syscall.EROFS) {
		t.Errorf("got %v, want %v", err, syscall.EROFS)
	}
}
