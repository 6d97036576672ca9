package memory

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// Available returns the amount of memory that the process may use, in bytes, and its source:
// "cgroup" or "host". It reads the limits of cgroup v2 and v1 and /proc/meminfo. Without any of
// them it returns 0 and "".
func Available() (bytes int64, source string) { return available(os.DirFS("/")) }

func available(root fs.FS) (bytes int64, source string) {
	for _, line := range lines(root, "proc/meminfo") {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 && kib > 0 && kib < 1<<50 {
			bytes, source = kib<<10, "host"
		}
	}
	for _, line := range lines(root, "proc/self/cgroup") {
		// hierarchy-ID:controller-list:cgroup-path, see cgroups(7).
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 {
			continue
		}
		limit := int64(0)
		switch {
		case fields[0] == "0" && fields[1] == "":
			limit = cgroupLimit(root, "sys/fs/cgroup", fields[2], "memory.max")
		case strings.Contains(","+fields[1]+",", ",memory,"):
			limit = cgroupLimit(root, "sys/fs/cgroup/memory", fields[2], "memory.limit_in_bytes")
		}
		if limit > 0 && (bytes == 0 || limit < bytes) {
			bytes, source = limit, "cgroup"
		}
	}
	return bytes, source
}

// cgroupLimit returns the smallest limit of a cgroup and those above it, 0 for none. In a
// container, mount shows the container's cgroup as its root, and path may not exist.
func cgroupLimit(root fs.FS, mount, group, file string) (limit int64) {
	for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
		if b, err := fs.ReadFile(root, mount+path.Join(dir, "/", file)); err == nil {
			// Without a limit, memory.max is "max", and v1 has a number that no machine reaches.
			n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
			if err == nil && n > 0 && n < 1<<60 && (limit == 0 || n < limit) {
				limit = n
			}
		}
		if dir == "/" {
			return limit
		}
	}
}

func lines(root fs.FS, name string) []string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return nil
	}
	return strings.Split(string(b), "\n")
}
