package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"zmtpd/curve/zeekkeys"
	"zmtpd/forwarder/cluster"
)

// target is an endpoint to which Zeek's nodes connect, and the place that says so.
type target struct{ endpoint, origin string }

// zeek is what the nodes of the cluster will do, as far as files tell.
type zeek struct {
	nodes []zeekNode
	// publish and subscribe are where nodes connect their XPUB and XSUB; empty if unknown.
	publish, subscribe target
	logs               []target
	managerIsLogger    string // the place that says so, "" for no
	runProxy           string // likewise
	ipv6               bool
	keys               zeekkeys.Variables
	keysFrom           string
	ports              []usedPort // other ports on which Zeek listens
	// scripts are known, so that an option without a redef has its default.
	scripts bool
}

type zeekNode struct {
	name string
	kind cluster.NodeType
	host string
	// logs is where a LOGGER listens.
	logs   string
	origin string
}

// usedPort is a port on which something listens on this host.
type usedPort struct {
	port int
	what string
}

// module of the options of Zeek's backend.
const module = "Cluster::Backend::ZeroMQ"

// Defaults of Zeek (policy/frameworks/cluster/backend/zeromq/options.zeek).
const (
	defaultPublish   = "tcp://127.0.0.1:5556"
	defaultSubscribe = "tcp://127.0.0.1:5555"
)

// readZeek reads the files about Zeek's nodes.
func (d *doctor) readZeek() (z zeek) {
	if d.in.NodeCfg != "" || d.in.ZeekctlCfg != "" {
		d.readZeekctl(&z)
	}
	if d.in.ZeekConf != "" {
		d.readZeekConf(&z)
	}
	if d.in.Layout != "" {
		d.readLayout(&z)
	}
	redefs := d.readScripts(&z)
	d.readKeys(&z, redefs)
	if z.scripts {
		if z.publish.endpoint == "" {
			z.publish = target{defaultPublish, "Zeek's default of connect_xpub_endpoint"}
		}
		if z.subscribe.endpoint == "" {
			z.subscribe = target{defaultSubscribe, "Zeek's default of connect_xsub_endpoint"}
		}
	}
	for _, n := range z.nodes {
		if n.kind == cluster.Logger && n.logs != "" {
			z.logs = append(z.logs, target{n.logs, n.origin})
		}
	}
	return z
}

// readText reads a file, or reports that it cannot.
func (d *doctor) readText(name string) (string, bool) {
	text, err := readFile(name)
	if err != nil {
		d.found.add("file-unreadable", name, "%v", err)
		return "", false
	}
	d.found.examined("%s", name)
	return text, true
}

// keysOfNode are zeekctl's keys of a section (ZeekControl/node.py and its plugins).
var keysOfNode = []string{"type", "host", "interface", "aux_scripts", "zone_id", "env_vars",
	"lb_method", "lb_procs", "lb_interfaces", "pin_cpus", "count", "ether"}

// readZeekctl reads node.cfg and zeekctl.cfg as zeekctl does.
func (d *doctor) readZeekctl(z *zeek) {
	options := map[string]setting{}
	if name := d.in.ZeekctlCfg; name != "" {
		if text, ok := d.readText(name); ok {
			options = parseOptions(text, func(line int, what string) {
				d.found.add("zeekctl-cfg", place(name, line), "%s", what)
			})
		}
	}
	port := d.portOption(options, "zeekport", 27760)
	metrics := d.portOption(options, "metricsport", 9991)
	if b, ok := options["clusterbackend"]; ok && !strings.EqualFold(b.value, "zeromq") {
		d.found.add("backend", place(d.in.ZeekctlCfg, b.line), "ClusterBackend is %s", b.value)
	}
	sections := d.readNodeCfg()
	manager := ""
	for _, s := range sections {
		kind := s.get("type")
		if kind == "standalone" {
			return // it has no cluster
		}
		if kind == "manager" {
			manager = s.get("host")
		}
	}
	if manager == "" {
		return // node-cfg-roles was found
	}
	order := []cluster.NodeType{cluster.Manager, cluster.Logger, cluster.Proxy, cluster.Worker}
	next := port + 3 // behind XPUB, XSUB and control
	for _, kind := range order {
		for _, s := range sections {
			if s.get("type") != kind.String() {
				continue
			}
			for _, name := range expand(s) {
				n := zeekNode{name: name, kind: kind, host: s.get("host"),
					origin: fmt.Sprintf("%s, [%s]", place(d.in.NodeCfg, s.line), s.name)}
				if kind == cluster.Logger {
					n.logs = "tcp://" + net.JoinHostPort(n.host, strconv.Itoa(next))
				}
				next++
				if metrics > 0 {
					z.ports = append(z.ports, usedPort{metrics, "metrics of " + name})
					metrics++
				}
				z.nodes = append(z.nodes, n)
			}
		}
	}
	if !slices.ContainsFunc(z.nodes, func(n zeekNode) bool { return n.kind == cluster.Logger }) {
		z.managerIsLogger = d.in.NodeCfg + ", which has no logger"
	}
	if v := options["usewebsocket"].value; v == "" || v == "1" {
		z.ports = append(z.ports, usedPort{d.portOption(options, "websocketport", 27759),
			"zeekctl's WebSocketPort"})
	}
	origin := "zeekctl: ZeekPort, and the manager of node.cfg"
	z.publish = target{"tcp://" + net.JoinHostPort(manager, strconv.Itoa(port+1)), origin}
	z.subscribe = target{"tcp://" + net.JoinHostPort(manager, strconv.Itoa(port)), origin}
	z.ipv6 = slices.ContainsFunc(z.nodes, func(n zeekNode) bool {
		return strings.Contains(n.host, ":")
	})
	d.zeekctlKeys(z, options)
}

// portOption returns a port of zeekctl.cfg.
func (d *doctor) portOption(options map[string]setting, name string, fallback int) int {
	o, ok := options[name]
	if !ok {
		return fallback
	}
	n, err := strconv.Atoi(o.value)
	if err != nil || n < 0 || n > 65534 || n == 0 && name != "metricsport" {
		d.found.add("zeekctl-cfg", place(d.in.ZeekctlCfg, o.line), "%s: %q is no port", o.key,
			o.value)
		return fallback
	}
	return n
}

// maxNodes bounds the nodes of a cluster.
const maxNodes = 10000

// expand returns the names of the nodes of a section: lb_procs workers, or one.
func expand(s section) (names []string) {
	n, err := strconv.Atoi(s.get("lb_procs"))
	if err != nil || s.get("lb_method") == "" {
		return []string{s.name}
	}
	for i := 1; i <= min(n, maxNodes); i++ {
		names = append(names, fmt.Sprintf("%s-%d", s.name, i))
	}
	return names
}

// readNodeCfg reads node.cfg and checks it by zeekctl's rules.
func (d *doctor) readNodeCfg() []section {
	name := d.in.NodeCfg
	if name == "" {
		return nil
	}
	text, ok := d.readText(name)
	if !ok {
		return nil
	}
	fault := func(line int, what string) { d.found.add("node-cfg", place(name, line), "%s", what) }
	sections := parseINI(text, fault)
	count := map[string]int{}
	for _, s := range sections {
		kind := s.get("type")
		count[kind]++
		switch kind {
		case "standalone", "manager", "logger", "proxy", "worker":
		case "":
			fault(s.line, fmt.Sprintf("section [%s] has no type", s.name))
		default:
			fault(s.line, fmt.Sprintf("section [%s] has the unknown type %q; zeekctl knows "+
				"standalone, manager, logger, proxy and worker", s.name, kind))
		}
		if s.get("host") == "" {
			fault(s.line, fmt.Sprintf("section [%s] has no host", s.name))
		}
		for _, k := range s.keys {
			if !slices.Contains(keysOfNode, k.key) && !strings.HasPrefix(k.key, "af_packet") {
				fault(k.line, fmt.Sprintf("%q is no key of a node; zeekctl ignores it", k.key))
			}
		}
		d.checkBalancing(s, kind, fault)
	}
	if count["standalone"] > 0 && len(sections) == 1 {
		return sections
	}
	switch {
	case count["standalone"] > 0:
		d.found.add("node-cfg-roles", name, "a standalone node beside other nodes")
	case count["manager"] != 1:
		d.found.add("node-cfg-roles", name, "%d managers", count["manager"])
	case count["proxy"] == 0:
		d.found.add("node-cfg-roles", name, "no proxy")
	}
	return sections
}

// checkBalancing checks the keys that make several workers of one section.
func (d *doctor) checkBalancing(s section, kind string, fault func(int, string)) {
	procs, method := s.get("lb_procs"), s.get("lb_method")
	if procs == "" && method == "" {
		return
	}
	n, err := strconv.Atoi(procs)
	switch {
	case kind != "worker":
		fault(s.line, fmt.Sprintf("section [%s]: lb_method and lb_procs are for workers", s.name))
	case procs == "" || method == "":
		fault(s.line, fmt.Sprintf("section [%s]: lb_method and lb_procs need each other", s.name))
	case err != nil || n < 1 || n > maxNodes:
		fault(s.line, fmt.Sprintf("section [%s]: lb_procs is %q, want a number of processes",
			s.name, procs))
	case s.get("lb_interfaces") != "" && len(strings.Split(s.get("lb_interfaces"), ",")) != n:
		fault(s.line, fmt.Sprintf("section [%s]: lb_interfaces has not %d interfaces, one for each "+
			"process", s.name, n))
	}
}

// readLayout reads cluster-layout.zeek. Its nodes count, not those of node.cfg, from which zeekctl
// makes it.
func (d *doctor) readLayout(z *zeek) {
	name := d.in.Layout
	text, ok := d.readText(name)
	if !ok {
		return
	}
	l, err := cluster.ParseLayout(strings.NewReader(text))
	if err != nil {
		d.found.add("layout", name, "%v", err)
		return
	}
	for _, field := range l.Fields {
		if !slices.Contains(fieldsOfNode, field) {
			d.found.add("layout-field", name, "Cluster::Node has no field $%s", field)
		}
	}
	z.nodes = nil
	for _, kind := range []cluster.NodeType{cluster.Manager, cluster.Logger, cluster.Proxy,
		cluster.Worker} {
		for _, node := range l.Names(kind) {
			n := zeekNode{name: node, kind: kind, origin: fmt.Sprintf("%s, [%q]", name, node)}
			if a, ok := l.Addresses[node]; ok {
				n.host = a.Addr().String()
				if kind == cluster.Logger && a.Port() > 0 {
					n.logs = "tcp://" + a.String()
				}
			}
			z.nodes = append(z.nodes, n)
		}
	}
	z.managerIsLogger = ""
	if l.ManagerIsLogger {
		z.managerIsLogger = name
	}
}

// fieldsOfNode are the fields of Cluster::Node (base/frameworks/cluster/main.zeek). Those of
// layouts that zeekctl makes include manager.
var fieldsOfNode = []string{"node_type", "ip", "zone_id", "p", "manager", "id", "metrics_port"}

// readScripts reads the options of the backend in scripts.
func (d *doctor) readScripts(z *zeek) map[string]target {
	found := map[string]target{}
	for _, name := range d.in.Scripts {
		text, ok := d.readText(name)
		if !ok {
			continue
		}
		z.scripts = true
		options, err := cluster.ParseRedefs(strings.NewReader(text), module)
		if err != nil {
			d.found.add("file-unreadable", name, "%v", err)
			continue
		}
		others, _ := cluster.ParseRedefs(strings.NewReader(text), "Cluster")
		if r, ok := others["manager_is_logger"]; ok &&
			filepath.Base(name) != "cluster-layout.zeek" && slices.Contains(r.Values, "F") {
			d.found.add("manager-is-logger-late", place(name, r.Line),
				"manager_is_logger = F stands outside of cluster-layout.zeek")
		}
		for option, r := range options {
			if len(r.Values) > 0 && len(r.Values) < maxNodes {
				found[option] = target{r.Values[0], place(name, r.Line)}
			}
		}
		for _, e := range options["connect_log_endpoints"].Values {
			z.logs = append(z.logs, target{e, place(name, options["connect_log_endpoints"].Line)})
		}
	}
	if t, ok := found["connect_xpub_endpoint"]; ok {
		z.publish = t
	}
	if t, ok := found["connect_xsub_endpoint"]; ok {
		z.subscribe = t
	}
	if t, ok := found["ipv6"]; ok {
		z.ipv6 = t.endpoint == "T"
	}
	if t, ok := found["run_proxy_thread"]; z.scripts && !ok {
		z.runProxy = "Zeek's default: the scripts have no redef of run_proxy_thread"
	} else if ok && t.endpoint == "T" {
		z.runProxy = t.origin
	}
	return found
}

// place returns a place in a file.
func place(name string, line int) string { return fmt.Sprintf("%s:%d", name, line) }

// multiHost reports whether nodes run on more than one host.
func (z *zeek) multiHost() bool {
	hosts := map[string]bool{}
	for _, n := range z.nodes {
		if n.host != "" {
			hosts[n.host] = true
		}
	}
	return len(hosts) > 1
}

// isLoopback reports whether an endpoint is at a loopback address.
func isLoopback(endpoint string) bool {
	host, _, ok := splitTCP(endpoint)
	if !ok {
		return strings.HasPrefix(endpoint, "ipc://")
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// splitTCP splits tcp://[SOURCE;]HOST:PORT.
func splitTCP(endpoint string) (host, port string, ok bool) {
	address, ok := strings.CutPrefix(endpoint, "tcp://")
	if !ok {
		return "", "", false
	}
	if _, after, found := strings.Cut(address, ";"); found {
		address = after
	}
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return address, "", true
	}
	return strings.Trim(address[:i], "[]"), address[i+1:], true
}
