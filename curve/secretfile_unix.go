//go:build unix

package curve

import (
	"io/fs"
	"os"
	"syscall"
)

// OpenToOthers reports whether others may read or change a file with secrets: others than its owner,
// or, for a file of root that another user reads, others than root and the file's group. Kubernetes
// mounts secrets in that form. It is false on systems without file modes.
func OpenToOthers(info fs.FileInfo) bool {
	owner := os.Geteuid()
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = int(s.Uid)
	}
	return openToOthers(info.Mode().Perm(), owner, os.Geteuid())
}

func openToOthers(mode fs.FileMode, owner, user int) bool {
	if owner == 0 && user != 0 {
		return mode&0o037 != 0
	}
	return mode&0o077 != 0
}
