//go:build unix

package daemon

import (
	"log/slog"
	"syscall"
)

const (
	// descriptorsOfNode is how many a node of the cluster takes: two connections to the broker, one to the logger.
	descriptorsOfNode = 3
	// spareDescriptors is what is left for log files, listeners, HTTP and connections whose handshake is not complete.
	spareDescriptors = 1024
	// wantedDescriptors is enough for a cluster of a thousand nodes.
	wantedDescriptors = 1000*descriptorsOfNode + spareDescriptors
)

// raiseDescriptors raises the limit on file descriptors as far as it may, and warns if a large cluster would meet it.
func raiseDescriptors(log *slog.Logger) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("the limit on file descriptors cannot be told", "err", err)
		return
	}
	if limit.Cur < limit.Max {
		raised := limit
		raised.Cur = raised.Max
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	warnDescriptors(log, uint64(limit.Cur))
}

// warnDescriptors says for how many nodes the limit is enough if that is not many.
func warnDescriptors(log *slog.Logger, limit uint64) {
	if limit >= wantedDescriptors {
		return
	}
	nodes := (max(limit, spareDescriptors) - spareDescriptors) / descriptorsOfNode
	log.Warn("the limit on file descriptors is low: a node takes 3; raise it with ulimit -n or LimitNOFILE of systemd",
		"limit", limit, "enough_for_nodes", nodes, "needed_for_1000_nodes", wantedDescriptors)
}
