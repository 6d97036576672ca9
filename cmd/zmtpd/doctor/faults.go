package doctor

// Severity is how bad a fault is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // a part of the cluster does not work, or loses data
	Warning Severity = "warning" // something may fail later, or under load
)

// Fault is a kind of fault.
type Fault struct {
	Name     string // unique, for people and scripts
	Severity Severity
	Meaning  string // what is wrong, and its effect
	Remedy   string // what to do
}

// Faults are all kinds of faults, in order of importance.
var Faults = []Fault{
	{"zmtpd-configuration", Error,
		"zmtpd's command line, variables or configuration file have a fault, so zmtpd does not " +
			"start.",
		"Correct it. `zmtpd config check FILE` prints all faults of a file, and `zmtpd config " +
			"show` every value with its origin."},
	{"file-unreadable", Error,
		"A file that the doctor was told to read is missing, too large or not readable.",
		"Correct the name or the permissions, or do not name the file."},
	{"node-cfg", Error,
		"node.cfg has a line that zeekctl cannot read, an unknown type of node, or a set of keys " +
			"that do not fit together.",
		"Correct the line; `zeekctl check` reads the same file."},
	{"node-cfg-roles", Error,
		"node.cfg describes no cluster that zeekctl accepts: it needs one manager, at least one " +
			"proxy, or a single standalone node.",
		"Add or remove sections until there is one manager and a proxy."},
	{"zeekctl-cfg", Error,
		"zeekctl.cfg has a line or a value that zeekctl cannot use.",
		"Write `Option = value`, and a number from 1 to 65534 for a port."},
	{"zeek-conf", Error,
		"zeek.conf has a line, a key or a value that zeek-systemd-generator does not take.",
		"Correct the line. Keys are either all outside of sections, or in [zeek] and in one " +
			"[interface NAME] for each interface."},
	{"layout", Error,
		"cluster-layout.zeek lists no nodes or cannot be parsed, so no node knows the cluster.",
		"Correct the script; README.md has an example."},
	{"layout-field", Error,
		"A node's record in cluster-layout.zeek has a field that Cluster::Node does not have. " +
			"Zeek stops at the start.",
		"Remove the field; the interface of a worker is an argument of zeek (-i)."},
	{"backend", Error,
		"The cluster does not use ZeroMQ, so its nodes never connect to zmtpd.",
		"Set ClusterBackend = ZeroMQ in zeekctl.cfg. In zeek.conf, remove cluster_backend_args: " +
			"its default is ZeroMQ."},
	{"ports-swapped", Error,
		"The ports of the broker's XSUB and XPUB are swapped. No event passes. " +
			"connect_xpub_endpoint is the address for the node's own XPUB socket: it must be that " +
			"of the broker's XSUB, and the other way round.",
		"Exchange the two endpoints, either of Zeek or of zmtpd's --xsub and --xpub."},
	{"endpoint-mismatch", Error,
		"Zeek's nodes connect to an address at which this zmtpd does not listen.",
		"Give zmtpd and Zeek the same endpoint, and run zmtpd on the host of that address."},
	{"loopback-only", Error,
		"Nodes run on several hosts, and an endpoint is at a loopback address. The nodes of other " +
			"hosts connect to their own host, where nobody listens.",
		"Use an address of this host that the others can reach, and encrypt: zmtpd keygen --zeek."},
	{"address-not-local", Error,
		"zmtpd is to listen at an address that this host does not have.",
		"Use an address of this host, or * for all of them."},
	{"port-taken", Error,
		"zmtpd does not run, and another process listens at its address. zmtpd will not start.",
		"Stop the other process, or choose another port; `ss -ltnp` shows which one it is. If it " +
			"is a Zeek manager, set run_proxy_thread = F."},
	{"port-conflict", Error,
		"Two sockets are to listen at the same port of this host.",
		"Give each its own port."},
	{"nobody-listens", Error,
		"Nobody listens at an endpoint to which nodes connect.",
		"Start the process that should listen there, or correct the endpoint."},
	{"no-answer", Error,
		"The host of an endpoint does not answer within the timeout.",
		"Check that the host is up, the route, and the firewall."},
	{"name-unresolved", Error,
		"The name of a host cannot be resolved.",
		"Correct the name, or add it to DNS or /etc/hosts."},
	{"not-zmtp", Error,
		"What listens at an endpoint does not speak ZeroMQ's protocol, ZMTP 3.",
		"Correct the port; `ss -ltnp` shows the process."},
	{"wrong-socket", Error,
		"A ZeroMQ socket of the wrong type listens at an endpoint.",
		"Correct the port: publishers need an XSUB, subscribers an XPUB, logs a PULL."},
	{"connection-refused-by-peer", Error,
		"The process at an endpoint accepts the connection and closes it at once: it does not " +
			"admit this address, or it has reached its limit on connections.",
		"Look at --allow, --deny, --max-connections and --max-connections-per-address, and at its " +
			"log."},
	{"encryption-differs", Error,
		"One side of a connection encrypts with CURVE and the other does not. A Zeek node with " +
			"keys that meets a server without keys ends itself.",
		"Give both sides keys from one run of `zmtpd keygen --zeek`, or neither."},
	{"keys-incomplete", Error,
		"Some of the CURVE keys of a side are set and others are missing. Zeek then does not " +
			"encrypt at all, without a word; zmtpd does not start.",
		"Set all keys that the side needs, or none."},
	{"key-invalid", Error,
		"A CURVE key has not 40 characters of Z85. Zeek aborts at the start.",
		"Copy the key again; beware of quotes and backslashes in shells."},
	{"keys-mixed", Error,
		"CURVE keys are set both in script variables and in the environment. Zeek refuses the " +
			"mixture.",
		"Remove one of the two."},
	{"keys-not-a-pair", Error,
		"A public key does not belong to the secret key beside it, so every handshake fails.",
		"Take both keys from one run of `zmtpd keygen`."},
	{"keys-differ", Error,
		"Zeek's nodes and zmtpd have different keys: the nodes know another server, or zmtpd does " +
			"not admit the nodes' key. Every connection fails.",
		"Give both the keys of one run of `zmtpd keygen --zeek`."},
	{"keys-refused", Error,
		"The running process at an endpoint refused the handshake with the keys of Zeek's nodes.",
		"Compare the keys on both sides. zmtpd reads its key files again on SIGHUP."},
	{"broker-twice", Error,
		"Zeek's manager runs a broker of its own (run_proxy_thread), beside zmtpd's. One of them " +
			"finds its ports taken.",
		"Set `redef Cluster::Backend::ZeroMQ::run_proxy_thread = F;` on every node."},
	{"layout-blocks-start", Error,
		"The layout has a LOGGER whose part zmtpd plays, but zmtpd does not say hello for it. No " +
			"node ever raises cluster_started.",
		"Start zmtpd with --cluster-node NAME, or take the LOGGER out of the layout."},
	{"cluster-node", Error,
		"--cluster-node names a node that is missing in the layout, or is no LOGGER.",
		"Use the name of a LOGGER of Cluster::nodes."},
	{"logs-nowhere", Error,
		"Zeek's nodes are given no logger: the layout has none, and connect_log_endpoints is " +
			"empty.",
		"Add `redef Cluster::Backend::ZeroMQ::connect_log_endpoints += " +
			"vector(\"tcp://HOST:5557\");` with the address of --listen."},
	{"manager-is-logger", Error,
		"Cluster::manager_is_logger is T, so the manager writes logs itself beside zmtpd's logger.",
		"Put `redef Cluster::manager_is_logger = F;` into cluster-layout.zeek."},
	{"manager-is-logger-late", Error,
		"Cluster::manager_is_logger is set in a script other than cluster-layout.zeek. Zeek reads " +
			"it too late, and the manager goes on writing its own logs.",
		"Move the line into cluster-layout.zeek."},
	{"ipv6-off", Error,
		"An endpoint has an IPv6 address, and IPv6 is off in Zeek.",
		"Add `redef Cluster::Backend::ZeroMQ::ipv6 = T;`."},
	{"folder-missing", Error,
		"A folder of zmtpd does not exist. zmtpd makes those of --spool, --archive and " +
			"--store-dir only.",
		"Make the folder, for the user of zmtpd."},
	{"folder-not-writable", Error,
		"A folder of zmtpd cannot be written by this user.",
		"Change its owner, or run the doctor as zmtpd's user. A hardened systemd unit needs " +
			"ReadWritePaths= for it."},
	{"disk-full", Error,
		"Less than 5 % or 1 GiB of the file system of a folder is free, or no inodes are left.",
		"Make room, or limit what is kept with --archive-max-bytes or --archive-max-age."},
	{"store-file", Error,
		"The file of a store cannot be written by this user, or is no database of SQLite. zmtpd " +
			"does not start.",
		"Give the file to zmtpd's user, or move a file that is no database elsewhere."},
	{"nats-unreachable", Error,
		"A server of --store-nats does not answer, or is no server of NATS. Without any server, " +
			"zmtpd does not start, or refuses writes.",
		"Start the server, or correct the URL, the route or the firewall."},
	{"nats-unsuitable", Error,
		"A server of --store-nats cannot keep stores as it is configured, or as zmtpd is.",
		"Use NATS 2.12 or later with JetStream turned on, and give zmtpd the credentials and the " +
			"TLS that it demands."},
	{"not-ready", Error,
		"The running zmtpd cannot do its work now; /readyz has the same reason.",
		"Follow the reason, and look at the log of zmtpd."},
	{"nodes-missing", Error,
		"Nodes of the layout are not connected to the running broker.",
		"Start them, and look at their stderr.log and reporter.log."},
	{"slow-subscriber", Error,
		"A node does not read its events as fast as they come. Its queue is full, and it loses " +
			"events or holds others up.",
		"Look at the node: is it stopped, out of memory, or without CPU time? `zmtpd top` shows " +
			"its queue."},
	{"losses", Warning,
		"The running zmtpd has lost messages or records since its start.",
		"/status has the numbers by reason; README.md explains the reasons."},
	{"memory-exhausted", Warning,
		"The memory budget of the running zmtpd is used up: peers wait, or were closed for it.",
		"Raise --memory, or find the peer that holds most with `zmtpd top`."},
	{"configuration-not-applied", Warning,
		"The running zmtpd listens elsewhere than its configuration says.",
		"Restart it: endpoints do not change on SIGHUP."},
	{"version-differs", Warning,
		"The running zmtpd is another version than this binary.",
		"Restart zmtpd to use the new version."},
	{"clock-differs", Error,
		"The clock of another host differs from this one by more than 2 s. Times in logs do not " +
			"fit together, and timers of the cluster fail.",
		"Run chrony or ntpd on all hosts."},
	{"clock-wrong", Error,
		"The clock of this host is behind the time at which its own files were written.",
		"Set the clock, and run chrony or ntpd."},
	{"clock-not-synchronized", Warning,
		"The kernel says that nothing keeps this host's clock right.",
		"Run chrony or ntpd."},
	{"descriptors-low", Error,
		"The limit on file descriptors is too low for the nodes of the cluster: each takes 3.",
		"Raise it with LimitNOFILE= of systemd or ulimit -n."},
	{"memory-low", Warning,
		"--memory is more than this host or its cgroup has, or less than 64 MiB is left for it. " +
			"The kernel may kill zmtpd.",
		"Lower --memory, or give the host or cgroup more."},
	{"message-size-low", Warning,
		"--max-message-size is less than a batch of logs that Zeek may send (256 MB). A larger " +
			"batch is lost and its connection closed.",
		"Remove --max-message-size; its default is large enough."},
	{"spool-too-large", Warning,
		"--spool-bytes is more than the free space of its file system.",
		"Lower --spool-bytes, or put --spool on a larger disk."},
	{"spool-in-memory", Warning,
		"The spool is on a file system in memory: a restart of the host loses it.",
		"Put --spool on a disk."},
	{"disk-slow", Warning,
		"The disk of a folder writes less than 5 MB/s, or a sync takes more than 1 s.",
		"Use another disk, or find what else writes to it."},
	{"key-file-open", Error,
		"Others than its owner can read a file with a secret key.",
		"chmod 600 the file. If others could read it for long, make new keys."},
	{"not-encrypted", Warning,
		"An endpoint can be reached by other hosts, and has no encryption: everybody who reaches " +
			"it can read and send events and logs.",
		"Make keys with `zmtpd keygen --zeek`, or use a loopback address."},
	{"store-open", Warning,
		"Other hosts can reach the stores, without encryption or without a token.",
		"Give --store-clients and a certificate, or use a loopback address."},
	{"zeek-version", Error,
		"The Zeek that was found is older than 8.0, the first whose ZeroMQ cluster zmtpd knows.",
		"Install Zeek 8.1 or later."},
	{"zeek-broken", Error,
		"The Zeek that was found cannot be run.",
		"Run `zeek --version` by hand, and correct --zeek."},
	{"zeek-without-zeromq", Error,
		"The Zeek that was found was built without the ZeroMQ cluster backend.",
		"Use a build with it: libzmq and cppzmq have to be there when Zeek is built."},
	{"libzmq-version", Warning,
		"The libzmq that Zeek uses is older than 4.3.0, which Zeek asks for.",
		"Install libzmq 4.3.0 or later."},
}

// find returns a kind of fault. An unknown name is a mistake in the program.
func find(name string) (order int, f Fault) {
	for i, f := range Faults {
		if f.Name == name {
			return i, f
		}
	}
	panic("no fault " + name)
}
