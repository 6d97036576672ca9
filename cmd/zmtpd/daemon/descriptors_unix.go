//go:build unix

package daemon

import (
	"log/slog"
	"syscall"
)

// raiseDescriptors raises the limit on file descriptors as far as it may, and warns if a large
// cluster would meet it.
func raiseDescriptors(log *slog.Logger) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("the limit on file descriptors cannot be told", "err", err)
		return
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // what is in effect is read below
	}
	warnDescriptors(log, descriptorLimit())
}

// descriptorLimit returns how many file descriptors the process may have, 0 if that cannot be told.
func descriptorLimit() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
