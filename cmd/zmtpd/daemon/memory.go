package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/zmtp/memory"
)

const (
	// garbage is how much more than the budget the Go runtime may take before it works hard to free
	// memory: what the budget does not count, and what was freed and not yet collected.
	garbage = 64 << 20
	// process is how much more than the budget the process takes at most: garbage, and the program.
	process = 128 << 20
	// minMemory is the smallest default, in bytes.
	minMemory = 64 << 20
	// unknownMemory is the default if nobody tells how much memory there is.
	unknownMemory = 1 << 30
)

// memoryLimit returns the size of the memory budget in bytes, 0 for none, and where it comes from.
func (f *Flags) memoryLimit(available func() (int64, string)) (limit int64, source string) {
	if f.Memory != nil {
		return int64(*f.Memory), "--memory"
	}
	switch n, source := available(); source {
	case "cgroup": // it is for this process, perhaps with a few small ones
		return max(min(n/4*3, n-process), minMemory), "three quarters of the cgroup's limit"
	case "host": // others need most of it
		return max(n/4, minMemory), "a quarter of the host's memory"
	}
	return unknownMemory, "default"
}

// openMemory makes the memory budget, nil for no limit.
func (f *Flags) openMemory(log *slog.Logger) *memory.Budget {
	limit, _ := f.memoryLimit(memory.Available)
	limitRuntime(limit)
	if limit == 0 {
		return nil
	}
	return memory.New(limit, log)
}

// describeMemory says in the log how large the memory budget is.
func (f *Flags) describeMemory(log *slog.Logger) {
	limit, source := f.memoryLimit(memory.Available)
	if limit == 0 {
		log.Warn("memory is not limited: --memory is 0")
		return
	}
	log.Info("memory budget", "limit", size(limit), "from", source)
}

// reloadMemory changes the size of the budget. One cannot come or go while the daemon runs.
func (f *Flags) reloadMemory(budget *memory.Budget) {
	limit, _ := f.memoryLimit(memory.Available)
	if budget != nil && limit > 0 {
		budget.SetLimit(limit)
		limitRuntime(limit)
	}
}

// limitRuntime lets the garbage collector keep the process near the budget. It works harder for
// that in a burst. GOMEMLIMIT has precedence.
func limitRuntime(budget int64) {
	if os.Getenv("GOMEMLIMIT") == "" && budget > 0 {
		debug.SetMemoryLimit(budget + garbage)
	}
}

// size is a number of bytes for the log.
func size(n int64) string { return fmt.Sprintf("%dMiB", n>>20) }

var (
	memorySize = Gauge("zmtpd_memory_limit_bytes",
		"Size of the memory budget, 0 for none.")
	memoryUsed = Gauge("zmtpd_memory_used_bytes",
		"Bytes of the memory budget that are reserved, by what for: connections, messages, sinks.",
		"kind")
	memoryWaiting = Gauge("zmtpd_memory_waiting",
		"Reservations of memory that wait now: as many peers are not read.")
	memoryWaits = Counter("zmtpd_memory_waits_total",
		"Reservations of memory that had to wait.")
	memoryRefused = Counter("zmtpd_memory_refused_total",
		"Reservations of memory that were refused: queues that counted as full.")
	memoryClosed = Counter("zmtpd_memory_closed_total",
		"Connections that were closed because they held most when memory was exhausted.")
)

// collectMemory sends the metrics of the memory budget.
func collectMemory(ch chan<- prometheus.Metric, st memory.Stats) {
	Send(ch, memorySize, st.Limit)
	for kind, n := range st.ByKind {
		Send(ch, memoryUsed, n, kind)
	}
	Send(ch, memoryWaiting, st.Waiting)
	Send(ch, memoryWaits, st.Waits)
	Send(ch, memoryRefused, st.Refused)
	Send(ch, memoryClosed, st.Evicted)
}

// MemoryStatus is about the memory budget.
type MemoryStatus struct {
	Limit   int64            `json:"limit_bytes"`
	Used    int64            `json:"used_bytes"`
	Peak    int64            `json:"peak_bytes"`
	ByKind  map[string]int64 `json:"by_kind"` // bytes
	Waiting int              `json:"waiting"` // peers that are not read for lack of memory
	Closed  uint64           `json:"closed"`  // peers that were closed for it
}

func newMemoryStatus(st memory.Stats) *MemoryStatus {
	if st.Limit == 0 {
		return nil
	}
	return &MemoryStatus{st.Limit, st.Used, st.Peak, st.ByKind, st.Waiting, st.Evicted}
}
