//go:build unix

package curve

import (
	"io/fs"
	"testing"
)

// A file of root may be readable by the group of the user who reads it, and no other file.
func TestOpenToOthers(t *testing.T) {
	for _, c := range []struct {
		mode        fs.FileMode
		owner, user int
		open        bool
	}{
		{0o600, 1000, 1000, false}, {0o400, 1000, 1000, false}, {0o640, 1000, 1000, true},
		{0o440, 0, 1000, false}, {0o640, 0, 1000, false}, {0o660, 0, 1000, true},
		{0o444, 0, 1000, true}, {0o450, 0, 1000, true}, {0o440, 0, 0, true}, {0o440, 7, 1000, true},
		{0o600, 0, 0, false},
	} {
		if got := openToOthers(c.mode, c.owner, c.user); got != c.open {
			t.Errorf("mode %04o of %d, read by %d: %t", c.mode, c.owner, c.user, got)
		}
	}
}
