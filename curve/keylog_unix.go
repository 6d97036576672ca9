//go:build unix

package curve

import (
	"os"
	"syscall"
)

// ownFile reports whether a file belongs to the user of the process.
func ownFile(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(st.Uid) == os.Geteuid()
}
