package daemon

import (
	"log/slog"
	"math"
)

const (
	// descriptorsOfNode is what a node of the cluster takes: two connections to the broker and one
	// to the logger.
	descriptorsOfNode = 3
	// maxSpare bounds spareDescriptors.
	maxSpare = 1024
	// wantedDescriptors is enough for a cluster of a thousand nodes and spareDescriptors.
	wantedDescriptors = 1000 * descriptorsOfNode * 4 / 3
)

// spareDescriptors returns how many of limit file descriptors are kept from connections, for log
// files, listeners and HTTP.
func spareDescriptors(limit uint64) uint64 { return min(maxSpare, limit/4) }

// defaultConnections returns how many connections a socket may accept under a limit on file
// descriptors, 0 for no limit.
func defaultConnections(limit uint64) int {
	if limit == 0 {
		return 0
	}
	return int(min(max((limit-spareDescriptors(limit))/descriptorsOfNode, 1), math.MaxInt32))
}

// warnDescriptors warns if the limit is too low for a large cluster.
func warnDescriptors(log *slog.Logger, limit uint64) {
	if limit == 0 || limit >= wantedDescriptors {
		return
	}
	log.Warn("the limit on file descriptors is low: each node takes 3; raise it with ulimit -n or "+
		"LimitNOFILE= of systemd", "limit", limit, "enough_for_nodes", defaultConnections(limit),
		"needed_for_1000_nodes", wantedDescriptors)
}
