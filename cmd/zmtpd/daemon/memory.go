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
	// garbage is what the Go runtime may take beyond the budget before it collects harder: memory
	// that the budget does not count, and memory that is free but not collected.
	garbage = 64 << 20
	// process is what the process takes beyond the budget at most: garbage, and the program.
	process = 128 << 20
	// minMemory is the smallest default, in bytes.
	minMemory = 64 << 20
	// leastMemory is the smallest --memory. A few connections and messages of the usual size fit.
	leastMemory = 16 << 20
	// unknownMemory is the default if the system does not tell how much memory there is.
	unknownMemory = 1 << 30
)

// budgetSize is a size of the memory budget on the command line, 0 for none.
type budgetSize ByteSize

// UnmarshalText parses it.
func (s *budgetSize) UnmarshalText(text []byte) error {
	var n ByteSize
	if err := n.UnmarshalText(text); err != nil {
		return err
	}
	if n != 0 && n < leastMemory {
		return fmt.Errorf("%s is too little to work with; give %s or more, or 0 for no limit", text,
			ByteSize(leastMemory))
	}
	*s = budgetSize(n)
	return nil
}

func (s budgetSize) String() string { return ByteSize(s).String() }

// memoryLimit returns the size of the memory budget in bytes, 0 for none, and its origin.
func (f *Flags) memoryLimit(available func() (int64, string)) (limit int64, source string) {
	if f.Memory != nil {
		return int64(*f.Memory), "--memory"
	}
	switch n, source := available(); source {
	case "cgroup": // its limit is for this process, perhaps with a few small ones
		return max(min(n/4*3, n-process), minMemory), "three quarters of the cgroup's limit"
	case "host": // other processes need most of the memory
		return max(n/4, minMemory), "a quarter of the host's memory"
	}
	return unknownMemory, "default"
}

// openMemory makes the memory budget, nil for none.
func (f *Flags) openMemory(log *slog.Logger) *memory.Budget {
	limit, _ := f.memoryLimit(memory.Available)
	limitRuntime(limit)
	if limit == 0 {
		return nil
	}
	return memory.New(limit, log)
}

// describeMemory logs the size of the memory budget.
func (f *Flags) describeMemory(log *slog.Logger) {
	limit, source := f.memoryLimit(memory.Available)
	if limit == 0 {
		log.Warn("memory has no limit, since --memory is 0")
		return
	}
	log.Info("memory budget", "limit", size(limit), "from", source)
}

// reloadMemory changes the size of the budget, nil for none. A running daemon cannot get or lose a
// budget.
func (f *Flags) reloadMemory(budget *memory.Budget, log *slog.Logger) {
	limit, _ := f.memoryLimit(memory.Available)
	switch {
	case (budget == nil) != (limit == 0):
		log.Warn("SIGHUP: --memory changes between a limit and none only after a restart; the "+
			"earlier setting stays in effect", "limit", size(limit))
	case budget != nil:
		budget.SetLimit(limit)
		limitRuntime(limit)
	}
}

// limitRuntime makes the garbage collector keep the process near the budget. GOMEMLIMIT has
// precedence.
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
		"Bytes reserved in the memory budget, by kind: connections, messages, sinks.", "kind")
	memoryWaiting = Gauge("zmtpd_memory_waiting",
		"Reservations of memory that wait now. zmtpd does not read from these peers meanwhile.")
	memoryWaits = Counter("zmtpd_memory_waits_total",
		"Reservations of memory that have waited.")
	memoryRefused = Counter("zmtpd_memory_refused_total",
		"Reservations of memory that were refused, so that a queue counted as full.")
	memoryClosed = Counter("zmtpd_memory_closed_total",
		"Connections closed because they held most when memory was exhausted.")
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

// MemoryStatus is the part of /status about the memory budget.
type MemoryStatus struct {
	Limit   int64            `json:"limit_bytes"`
	Used    int64            `json:"used_bytes"`
	Peak    int64            `json:"peak_bytes"`
	ByKind  map[string]int64 `json:"by_kind"` // bytes
	Waiting int              `json:"waiting"` // peers that wait for memory
	Closed  uint64           `json:"closed"`  // connections closed for lack of memory
}

func newMemoryStatus(st memory.Stats) *MemoryStatus {
	if st.Limit == 0 {
		return nil
	}
	return &MemoryStatus{st.Limit, st.Used, st.Peak, st.ByKind, st.Waiting, st.Evicted}
}

// GivenMemory returns --memory in bytes, 0 if it is not given or is without limit.
func (f *Flags) GivenMemory() int64 {
	if f.Memory == nil {
		return 0
	}
	return int64(*f.Memory)
}
