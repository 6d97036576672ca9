package doctor

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/statusapi"
)

// Input says what to examine. Files and URLs are optional.
type Input struct {
	NodeCfg, ZeekctlCfg string   // of zeekctl
	ZeekConf            string   // zeek.conf of zeek-systemd-generator
	Layout              string   // cluster-layout.zeek
	Scripts             []string // Zeek scripts with redefs
	Zeek                string   // the zeek executable
	// Daemon is the configuration of zmtpd, nil if there is none or if it has a fault, DaemonErr.
	Daemon    *Daemon
	DaemonErr error
	// Status are URLs of /status of running daemons. A daemon on this host that listens at the
	// address of Daemon.HTTP is found without it.
	Status  []string
	Offline bool          // look at files only
	Timeout time.Duration // of one connection
	Version string        // of this binary
	Getenv  func(string) string
	Machine Machine
}

// Daemon is the configuration of a daemon.
type Daemon struct {
	Command string
	// The endpoints at which it listens, with their flags.
	XSub, XPub, Pull []Listener
	Others           []Listener // further ones, such as the tap
	HTTP             string     // address, "" for none
	Keys             *daemon.Keys
	SecretFiles      []string // files with secret keys
	Folders          []Folder
	Memory           int64 // --memory, 0 for the default or none
	MaxMessageSize   int64 // 0 for no limit
	ClusterNode      string
	Stores           Stores
}

// Listener is an endpoint of a flag.
type Listener struct{ Flag, Endpoint string }

// Folder is a folder into which a daemon writes.
type Folder struct {
	Flag, Path string
	Made       bool  // zmtpd makes it if it does not exist
	Spool      int64 // size of the spool in it, 0 for other folders
}

// doctor is one examination.
type doctor struct {
	in    *Input
	found findings
}

// Examine looks for faults. It blocks until all is examined or ctx ends: a connection takes at most
// Timeout.
func Examine(ctx context.Context, in Input) *Report {
	if in.Timeout == 0 {
		in.Timeout = probeTimeout
	}
	d := &doctor{in: &in}
	if in.DaemonErr != nil {
		d.found.add("zmtpd-configuration", "zmtpd", "%v", in.DaemonErr)
	} else if in.Daemon != nil {
		d.found.examined("configuration of zmtpd %s", in.Daemon.Command)
	}
	z := d.readZeek()
	d.compareKeys(&z)
	d.checkPlan(&z)
	d.checkLimits(&z)
	d.checkFolders()
	d.checkStores()
	d.checkClock(ctx)
	d.checkVersions(ctx)
	if !in.Offline {
		running := d.askDaemons(ctx)
		d.checkListening(ctx, running)
		d.checkNATS(ctx)
		d.checkRunning(ctx, &z, running)
		d.checkEndpoints(ctx, &z, running)
	}
	return d.found.report()
}

// checkPlan compares what Zeek's nodes will do with what zmtpd will do.
func (d *doctor) checkPlan(z *zeek) {
	z4 := d.in.Daemon
	if z.multiHost() {
		for _, t := range append([]target{z.publish, z.subscribe}, z.logs...) {
			if t.endpoint != "" && isLoopback(t.endpoint) {
				d.found.add("loopback-only", t.origin, "%s, and the nodes run on several hosts",
					t.endpoint)
			}
		}
	}
	if !z.ipv6 {
		for _, t := range append([]target{z.publish, z.subscribe}, z.logs...) {
			if host, _, _ := splitTCP(t.endpoint); strings.Contains(host, ":") {
				d.found.add("ipv6-off", t.origin, "%s", t.endpoint)
			}
		}
	}
	if len(z.nodes) > 0 && len(z.logs) == 0 && z.managerIsLogger == "" && z.scripts {
		d.found.add("logs-nowhere", d.in.Layout+d.in.NodeCfg+d.in.ZeekConf, "no node gets the address of a logger")
	}
	if z4 == nil {
		return
	}
	d.checkConflicts(z)
	if len(z4.XSub) > 0 {
		if z.runProxy != "" {
			d.found.add("broker-twice", z.runProxy, "zmtpd %s is a broker too", z4.Command)
		}
		d.compareBroker(z)
	}
	if len(z4.Pull) > 0 {
		d.compareLogger(z)
	}
	if z4.ClusterNode != "" && len(z.nodes) > 0 {
		i := slices.IndexFunc(z.nodes, func(n zeekNode) bool { return n.name == z4.ClusterNode })
		if i < 0 {
			d.found.add("cluster-node", "--cluster-node", "%s is not in the layout",
				z4.ClusterNode)
		} else if kind := z.nodes[i].kind.String(); kind != "logger" {
			d.found.add("cluster-node", "--cluster-node", "%s is a %s", z4.ClusterNode, kind)
		}
	}
	if z4.Keys == nil {
		for _, l := range slices.Concat(z4.XSub, z4.XPub, z4.Pull) {
			if !isLoopback(l.Endpoint) && strings.HasPrefix(l.Endpoint, "tcp://") {
				d.found.add("not-encrypted", l.Flag, "%s has no keys", l.Endpoint)
			}
		}
	}
}

// leads reports whether nodes that connect to an endpoint reach one of the listeners.
func (d *doctor) leads(endpoint string, listeners []Listener) bool {
	for _, l := range listeners {
		if l.Endpoint == endpoint || d.in.Machine.LeadsTo(endpoint, bound(l.Endpoint)) {
			return true
		}
	}
	return false
}

// bound returns an endpoint in the form in which a socket that listens there tells its address.
func bound(endpoint string) string {
	if host, port, ok := splitTCP(endpoint); ok && (host == "*" || host == "localhost") {
		host = map[string]string{"*": "0.0.0.0", "localhost": "127.0.0.1"}[host]
		return "tcp://" + host + ":" + port
	}
	return endpoint
}

// ephemeral reports whether a listener's port is known only when it listens.
func ephemeral(all []Listener) bool {
	return slices.ContainsFunc(all, func(l Listener) bool {
		_, port, ok := splitTCP(l.Endpoint)
		return ok && (port == "*" || port == "0")
	})
}

// compareBroker compares the endpoints of the nodes with those of the broker.
func (d *doctor) compareBroker(z *zeek) {
	z4 := d.in.Daemon
	if z.publish.endpoint == "" || ephemeral(z4.XSub) || ephemeral(z4.XPub) {
		return
	}
	if d.leads(z.publish.endpoint, z4.XPub) && d.leads(z.subscribe.endpoint, z4.XSub) {
		d.found.add("ports-swapped", z.publish.origin, "nodes connect their XPUB to %s, which is "+
			"--xpub of zmtpd, and their XSUB to %s, which is --xsub", z.publish.endpoint,
			z.subscribe.endpoint)
		return
	}
	for _, c := range []struct {
		t         target
		option    string
		listeners []Listener
	}{
		{z.publish, "connect_xpub_endpoint", z4.XSub},
		{z.subscribe, "connect_xsub_endpoint", z4.XPub},
	} {
		if !d.leads(c.t.endpoint, c.listeners) {
			d.found.add("endpoint-mismatch", c.t.origin, "%s is %s, and zmtpd has %s %s", c.option,
				c.t.endpoint, c.listeners[0].Flag, c.listeners[0].Endpoint)
		}
	}
}

// compareLogger compares the endpoints for logs.
func (d *doctor) compareLogger(z *zeek) {
	z4 := d.in.Daemon
	if len(z.nodes) == 0 && !z.scripts || ephemeral(z4.Pull) {
		return
	}
	if z.managerIsLogger != "" && !d.found.has("manager-is-logger-late") {
		d.found.add("manager-is-logger", z.managerIsLogger, "zmtpd %s is a logger too", z4.Command)
	}
	reached := false
	for _, t := range z.logs {
		reached = reached || d.leads(t.endpoint, z4.Pull)
	}
	if !reached && len(z.logs) > 0 {
		d.found.add("endpoint-mismatch", z.logs[0].origin, "logs go to %s, and zmtpd has %s %s",
			z.logs[0].endpoint, z4.Pull[0].Flag, z4.Pull[0].Endpoint)
	}
	for _, n := range z.nodes {
		if n.logs != "" && n.name != z4.ClusterNode && d.leads(n.logs, z4.Pull) {
			d.found.add("layout-blocks-start", n.origin, "zmtpd listens at %s, the address of "+
				"LOGGER %s, without --cluster-node %s", n.logs, n.name, n.name)
		}
	}
}

// checkConflicts finds ports that two sockets want.
func (d *doctor) checkConflicts(z *zeek) {
	z4 := d.in.Daemon
	all := slices.Concat(z4.XSub, z4.XPub, z4.Pull, z4.Others)
	if z4.HTTP != "" {
		all = append(all, Listener{"--http", "tcp://" + z4.HTTP})
	}
	for i, l := range all {
		host, port, ok := splitTCP(l.Endpoint)
		if !ok || port == "*" || port == "0" {
			continue
		}
		for _, other := range all[:i] {
			h, p, ok := splitTCP(other.Endpoint)
			if ok && p == port && (h == host || anyHost(h) || anyHost(host)) {
				d.found.add("port-conflict", l.Flag, "%s and %s both want port %s", other.Flag,
					l.Flag, port)
			}
		}
		for _, used := range z.ports {
			if port == itoa(used.port) {
				d.found.add("port-conflict", l.Flag, "port %s is that of %s", port, used.what)
			}
		}
	}
}

// owns reports whether the own daemon is to listen at an endpoint.
func (d *doctor) owns(endpoint string) bool {
	z := d.in.Daemon
	return z != nil && d.leads(endpoint, slices.Concat(z.XSub, z.XPub, z.Pull))
}

func anyHost(host string) bool {
	return host == "" || host == "*" || host == "0.0.0.0" || host == "::"
}

// checkEndpoints connects to all endpoints, and looks at what listens there.
func (d *doctor) checkEndpoints(ctx context.Context, z *zeek, running []*statusapi.Status) {
	type check struct {
		target
		want string
		answer
	}
	var checks []*check
	add := func(t target, want string) {
		if _, port, ok := splitTCP(t.endpoint); ok && port != "*" && port != "0" ||
			strings.HasPrefix(t.endpoint, "ipc://") {
			for _, c := range checks {
				if c.endpoint == t.endpoint && c.want == want {
					return
				}
			}
			checks = append(checks, &check{target: t, want: want})
		}
	}
	if z.publish.endpoint != "" {
		add(z.publish, "XSUB")
		add(z.subscribe, "XPUB")
	}
	for _, t := range z.logs {
		add(t, "PULL")
	}
	if z4 := d.in.Daemon; z4 != nil && z4.Stores.XSub != "" {
		add(target{z4.Stores.XSub, "--store-xsub"}, "XSUB")
	}
	if z4 := d.in.Daemon; z4 != nil && z4.Stores.XPub != "" {
		add(target{z4.Stores.XPub, "--store-xpub"}, "XPUB")
	}
	// What a running zmtpd says of its endpoints is in its status.
	if z4 := d.in.Daemon; z4 != nil && len(running) == 0 {
		for want, all := range map[string][]Listener{"XSUB": z4.XSub, "XPUB": z4.XPub,
			"PULL": z4.Pull} {
			for _, l := range all {
				covered := slices.ContainsFunc(checks, func(c *check) bool {
					return d.leads(c.endpoint, []Listener{l})
				})
				if !covered {
					add(target{l.Endpoint, l.Flag}, want)
				}
			}
		}
	}
	keys := z.clientKeys()
	var probes sync.WaitGroup
	turns := make(chan struct{}, 16) // bounds the connections at a time
	for _, c := range checks {
		probes.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			c.answer = d.probe(ctx, c.endpoint, c.want, keys)
		})
	}
	probes.Wait()
	events := []string{z.publish.endpoint, z.subscribe.endpoint}
	types := map[string]string{} // of events, by wanted type
	var silent []string          // endpoints of the own daemon, which does not run
	for _, c := range checks {
		d.found.examined("%s, %s", c.endpoint, c.origin)
		switch {
		case c.fault == "nobody-listens" && len(running) == 0 && d.owns(c.endpoint):
			silent = append(silent, c.endpoint)
		case c.fault != "":
			d.found.add(c.fault, c.endpoint, "%s (%s)", c.what, c.origin)
		case len(z.keys) > 0 && c.mechanism != "CURVE", c.mechanism == "CURVE" && len(z.keys) == 0 &&
			(z.scripts || d.in.NodeCfg != "" || d.in.ZeekConf != ""):
			d.found.add("encryption-differs", c.endpoint, "the mechanism there is %s (%s)",
				c.mechanism, c.origin)
		case c.socket != "" && c.socket != c.want && slices.Contains(events, c.endpoint):
			types[c.want] = c.socket
		}
	}
	if len(silent) > 0 {
		d.found.add("nobody-listens", "zmtpd "+d.in.Daemon.Command,
			"it does not run: nobody listens at %s", strings.Join(silent, ", "))
	}
	if types["XSUB"] == "XPUB" && types["XPUB"] == "XSUB" {
		d.found.add("ports-swapped", z.publish.endpoint, "an XPUB socket listens at %s and an XSUB "+
			"at %s (%s)", z.publish.endpoint, z.subscribe.endpoint, z.publish.origin)
		return
	}
	for _, c := range checks {
		if c.fault == "" && c.socket != "" && c.socket != c.want {
			d.found.add("wrong-socket", c.endpoint, "a socket of type %s, want %s (%s)", c.socket,
				c.want, c.origin)
		}
	}
}
