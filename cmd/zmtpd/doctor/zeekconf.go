package doctor

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"zmtpd/forwarder/cluster"
)

// The keys of zeek.conf (Zeek, tools/systemd-generator).
var (
	keysOfZeekConf = []string{"manager", "loggers", "proxies", "user", "group", "args",
		"manager_args", "logger_args", "proxy_args", "env", "manager_env", "logger_env", "proxy_env",
		"archiver_env", "base_dir", "path", "ext_path", "ext_zeek_path", "cluster_backend_args",
		"cluster_layout", "cluster_node_prefix", "port", "cluster_port", "address",
		"cluster_address", "metrics_port", "archiver", "archiver_args", "restart_interval_sec"}
	keysOfInterface = []string{"interface", "workers", "worker_args", "worker_env",
		"workers_cpu_list", "worker_numa_policy", "workers_numa_policy", "worker_nice",
		"worker_memory_max"}
	// limitOfZeekConf is a key such as logger_nice.
	limitOfZeekConf = regexp.MustCompile(`^[a-z]+_(nice|memory_max|cpu_set)$`)
	// interfaceSection is the name of a section for an interface.
	interfaceSection = regexp.MustCompile(`^interface [-_a-z0-9]+$`)
)

// readZeekConf reads zeek.conf as zeek-systemd-generator does.
func (d *doctor) readZeekConf(z *zeek) {
	name := d.in.ZeekConf
	text, ok := d.readText(name)
	if !ok {
		return
	}
	fault := func(line int, what string) { d.found.add("zeek-conf", place(name, line), "%s", what) }
	main, interfaces := parseZeekConf(text, fault)
	number := func(key string, fallback, most int) int {
		n, err := strconv.Atoi(main.get(key))
		if main.get(key) == "" {
			return fallback
		}
		if err != nil || n < 0 || n > most {
			fault(main.lineOf(key), fmt.Sprintf("%s is %q, want a number from 0 to %d", key,
				main.get(key), most))
			return fallback
		}
		return n
	}
	manager, loggers := number("manager", 0, 1), number("loggers", 0, maxNodes)
	proxies := number("proxies", 0, maxNodes)
	port := number("cluster_port", number("port", 27760, 65535), 65535)
	metrics := number("metrics_port", 9991, 65535)
	if args := main.get("cluster_backend_args"); args != "" && !strings.Contains(args, "zeromq") {
		d.found.add("backend", name, "cluster_backend_args is %s", args)
	}
	// Without a manager here, the cluster has several hosts, each with a file. With its own layout,
	// the nodes are in that.
	if manager == 0 || main.get("cluster_layout") != "" {
		return
	}
	host := cmp.Or(main.get("cluster_address"), main.get("address"), "127.0.0.1")
	add := func(kind cluster.NodeType, name string, listens bool) {
		n := zeekNode{name: name, kind: kind, host: host, origin: d.in.ZeekConf}
		if listens {
			if kind == cluster.Logger {
				n.logs = "tcp://" + net.JoinHostPort(host, strconv.Itoa(port))
			}
			port++
		}
		z.ports = append(z.ports, usedPort{metrics, "metrics of " + name})
		metrics++
		z.nodes = append(z.nodes, n)
	}
	prefix := main.get("cluster_node_prefix")
	if prefix != "" {
		prefix += "-"
	}
	add(cluster.Manager, "manager", true)
	for i := range loggers {
		add(cluster.Logger, fmt.Sprintf("%slogger-%d", prefix, i+1), true)
	}
	for i := range proxies {
		add(cluster.Proxy, fmt.Sprintf("%sproxy-%d", prefix, i+1), true)
	}
	for _, s := range interfaces {
		workers, _ := strconv.Atoi(s.get("workers")) // parseZeekConf has checked it
		_, of, _ := strings.Cut(s.name, " ")         // "" without sections
		if of != "" {
			of += "-"
		}
		for i := range min(workers, maxNodes) {
			add(cluster.Worker, fmt.Sprintf("%sworker-%s%d", prefix, of, i+1), false)
		}
	}
	if loggers == 0 {
		z.managerIsLogger = name + ", which has no loggers"
	}
}

// parseZeekConf parses zeek.conf. All keys may stand outside of sections, with those of at most one
// interface; else they are in [zeek] and in [interface NAME]. interfaces are those with workers.
func parseZeekConf(text string, fault func(line int, what string)) (main section,
	interfaces []section) {
	plain := true // no sections
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			plain = line[0] != '['
			break
		}
	}
	var sections []section
	if plain {
		sections = parseINI("[zeek]\n"+text, func(line int, what string) { fault(line-1, what) })
		for i := range sections {
			sections[i].line--
			for j := range sections[i].keys {
				sections[i].keys[j].line--
			}
		}
	} else {
		sections = parseINI(text, fault)
	}
	for i, s := range sections {
		known := keysOfZeekConf
		switch {
		case plain && i > 0:
			fault(s.line, fmt.Sprintf("section [%s] after settings outside of sections; move those "+
				"to [zeek]", s.name))
			continue
		case s.name == "zeek":
			main = s
		case !interfaceSection.MatchString(s.name):
			fault(s.line, fmt.Sprintf("[%s] is neither [zeek] nor [interface NAME], with a name of "+
				"small letters, digits, - and _", s.name))
			continue
		default:
			known = keysOfInterface
		}
		if plain {
			known = slices.Concat(known, keysOfInterface)
		}
		for _, k := range s.keys {
			if !slices.Contains(known, k.key) && !limitOfZeekConf.MatchString(k.key) {
				fault(k.line, fmt.Sprintf("%q is no key of this section", k.key))
			}
			if strings.Contains(k.value, "\n") && !strings.HasSuffix(k.key, "env") &&
				!strings.HasSuffix(k.key, "args") {
				fault(k.line, k.key+" has several values; only keys that end in env or args may")
			}
		}
		if s.name == "zeek" && !plain {
			continue
		}
		workers := s.get("workers")
		if (workers == "") != (s.get("interface") == "") {
			fault(s.line, fmt.Sprintf("[%s]: interface and workers need each other", s.name))
		} else if workers != "" {
			if n, err := strconv.Atoi(workers); err != nil || n < 0 || n > maxNodes {
				fault(s.lineOf("workers"), fmt.Sprintf("workers is %q, want a number from 0 to %d", workers,
					maxNodes))
			}
			interfaces = append(interfaces, s)
		}
	}
	return main, interfaces
}
