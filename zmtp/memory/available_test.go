package memory

import (
	"testing"
	"testing/fstest"
)

func TestAvailable(t *testing.T) {
	const host = "MemTotal:        4194304 kB\nMemFree: 1 kB\n"
	for name, c := range map[string]struct {
		files  map[string]string
		bytes  int64
		source string
	}{
		"nothing": {nil, 0, ""},
		"host":    {map[string]string{"proc/meminfo": host}, 4 << 30, "host"},
		"v2 without a limit": {map[string]string{
			"proc/meminfo": host, "proc/self/cgroup": "0::/a.slice/b.service\n",
			"sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
		}, 4 << 30, "host"},
		"v2, a group above has the limit": {map[string]string{
			"proc/meminfo": host, "proc/self/cgroup": "0::/a.slice/b.service\n",
			"sys/fs/cgroup/a.slice/b.service/memory.max": "2147483648\n",
			"sys/fs/cgroup/a.slice/memory.max":           "1073741824\n",
		}, 1 << 30, "cgroup"},
		"v2 in a container": {map[string]string{
			"proc/meminfo": host, "proc/self/cgroup": "0::/../x\n",
			"sys/fs/cgroup/memory.max": "536870912\n",
		}, 512 << 20, "cgroup"},
		"v1": {map[string]string{
			"proc/meminfo": host, "proc/self/cgroup": "9:cpu,memory:/docker/1\n0::/\n",
			"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "268435456\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":          "9223372036854771712\n",
		}, 256 << 20, "cgroup"},
		"v1 without a limit": {map[string]string{
			"proc/meminfo": host, "proc/self/cgroup": "9:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 4 << 30, "host"},
		"a cgroup with more than the host": {map[string]string{
			"proc/meminfo": host, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "1099511627776\n",
		}, 4 << 30, "host"},
		"nonsense": {map[string]string{
			"proc/meminfo": "MemTotal: -1 kB\nMemTotal: x\n", "proc/self/cgroup": "0:\n::\n0::/\n",
			"sys/fs/cgroup/memory.max": "-5\n",
		}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, content := range c.files {
				root[name] = &fstest.MapFile{Data: []byte(content)}
			}
			if bytes, source := available(root); bytes != c.bytes || source != c.source {
				t.Errorf("got %d, %q, want %d, %q", bytes, source, c.bytes, c.source)
			}
		})
	}
}
