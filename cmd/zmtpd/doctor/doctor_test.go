package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/statusapi"
	"zmtpd/curve"
	"zmtpd/curve/access"
	"zmtpd/curve/zeekkeys"
	"zmtpd/zmtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup is a cluster: files, a host, and what listens. A test damages it before it is examined.
type setup struct {
	t        *testing.T
	dir      string
	files    map[string]string // by name in dir
	in       Input
	network  map[string]string // real address by the one that the files have
	taken    map[string]bool   // addresses at which zmtpd cannot listen
	programs map[string]string // output by command line
	disk     Disk
	status   *statusapi.Status // of the running daemon, nil if none runs
	ahead    time.Duration     // by which the clock of the daemon's host differs
	keys     zeekkeys.Keys
	env      map[string]string
	serverOK bool // what listens speaks CURVE
}

const (
	layoutText = `redef Cluster::nodes = {
	["manager"] = [$node_type=Cluster::MANAGER, $ip=127.0.0.1, $p=0/tcp],
	["proxy-1"] = [$node_type=Cluster::PROXY, $ip=127.0.0.1, $p=0/tcp],
	["worker-1"] = [$node_type=Cluster::WORKER, $ip=127.0.0.1],
};
redef Cluster::manager_is_logger = F;
`
	scriptText = `@load frameworks/cluster/backend/zeromq
redef Cluster::Backend::ZeroMQ::run_proxy_thread = F;
redef Cluster::Backend::ZeroMQ::connect_xpub_endpoint = "tcp://127.0.0.1:5556";
redef Cluster::Backend::ZeroMQ::connect_xsub_endpoint = "tcp://127.0.0.1:5555";
redef Cluster::Backend::ZeroMQ::connect_log_endpoints += vector("tcp://127.0.0.1:5557");
`
	nodeText = `[manager]
type=manager
host=127.0.0.1
[logger-1]
type=logger
host=127.0.0.1
[proxy-1]
type=proxy
host=127.0.0.1
# a comment
[worker-1]
type=worker
host=127.0.0.1
interface=eth0
lb_method=af_packet
lb_procs=2
pin_cpus=0,1
`
)

// newSetup returns a healthy host with a running zmtpd and no files.
func newSetup(t *testing.T) *setup {
	s := &setup{t: t, dir: t.TempDir(), files: map[string]string{}, network: map[string]string{},
		taken: map[string]bool{}, programs: map[string]string{}, env: map[string]string{},
		disk: Disk{Free: 80 << 30, Size: 100 << 30, Written: 4 << 20,
			WriteTime: 10 * time.Millisecond, SyncTime: time.Millisecond},
		keys: zeekkeys.Generate(),
	}
	s.in = Input{
		Version: "1.2.3", Timeout: 500 * time.Millisecond,
		Getenv: func(name string) string { return s.env[name] },
		Machine: Machine{
			Now:                 time.Now,
			ClockUnsynchronized: func() bool { return false },
			Descriptors:         func() uint64 { return 1 << 20 },
			Memory:              func() (int64, string) { return 8 << 30, "host" },
			Disk:                func(string) (Disk, error) { return s.disk, nil },
			ModTime:             NewMachine().ModTime,
			LeadsTo:             NewMachine().LeadsTo,
			Run: func(_ context.Context, name string, args ...string) (string, error) {
				if out, ok := s.programs[strings.Join(append([]string{filepath.Base(name)},
					args...), " ")]; ok {
					return out, nil
				}
				return "", errors.New("not found")
			},
			Resolve: func(path string) string { return path },
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				address, ok := s.network[address]
				switch {
				case !ok:
					return nil, syscall.ECONNREFUSED
				case address == "":
					return nil, context.DeadlineExceeded
				case address == "?":
					return nil, &net.DNSError{Err: "no such host", Name: "nowhere"}
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			},
			Listen: func(ctx context.Context, network, address string) (net.Listener, error) {
				if s.taken[address] {
					return nil, syscall.EADDRINUSE
				} else if strings.HasPrefix(address, "192.0.2.") {
					return nil, syscall.EADDRNOTAVAIL
				}
				return (&net.ListenConfig{}).Listen(ctx, network, "127.0.0.1:0")
			},
		},
	}
	return s
}

// scripted is zmtpd up with a hand-written layout.
func scripted(t *testing.T) *setup {
	s := newSetup(t)
	s.files["cluster-layout.zeek"], s.files["zmtpd.zeek"] = layoutText, scriptText
	s.in.Daemon = &Daemon{Command: "up",
		XSub:    []Listener{{"--xsub", "tcp://127.0.0.1:5556"}},
		XPub:    []Listener{{"--xpub", "tcp://127.0.0.1:5555"}},
		Pull:    []Listener{{"--listen", "tcp://127.0.0.1:5557"}},
		Folders: []Folder{{Flag: "--dir", Path: s.dir}},
	}
	s.serve("127.0.0.1", 5556, 5555, 5557)
	s.run("manager", "proxy-1", "worker-1")
	return s
}

// zeekctl is zmtpd's broker for a cluster of zeekctl on one host, with Zeek's logger.
func zeekctl(t *testing.T) *setup {
	s := newSetup(t)
	s.files["node.cfg"], s.files["zeekctl.cfg"] = nodeText, "# Options\nMetricsPort = 9991\n"
	s.files["local.zeek"] = "redef Cluster::Backend::ZeroMQ::run_proxy_thread = F;\n"
	s.in.Daemon = &Daemon{Command: "forwarder",
		XSub: []Listener{{"--xsub", "tcp://127.0.0.1:27761"}},
		XPub: []Listener{{"--xpub", "tcp://127.0.0.1:27760"}},
	}
	s.serve("127.0.0.1", 27761, 27760, 27764)
	s.run("manager", "logger-1", "proxy-1", "worker-1-1", "worker-1-2")
	return s
}

// stored is zmtpd store-server at a broker. It has a file and a server of NATS, which no
// configuration has at the same time.
func stored(t *testing.T) *setup {
	s := newSetup(t)
	redis := Listener{"--store-redis", "tcp://127.0.0.1:6379"}
	s.files["zeek.sqlite"] = sqliteMagic
	s.in.Daemon = &Daemon{Command: "store-server", Others: []Listener{redis},
		Folders: []Folder{{Flag: "--store-dir", Path: s.dir, Made: true}},
		Stores: Stores{Files: []string{filepath.Join(s.dir, "zeek.sqlite")},
			Doors: []Door{{Listener: redis}}, NATS: []string{"nats://127.0.0.1:4222"},
			XSub: "tcp://127.0.0.1:5556", XPub: "tcp://127.0.0.1:5555"},
	}
	s.serve("127.0.0.1", 5556, 5555, 5557)
	s.plain("127.0.0.1:4222", `INFO {"version":"2.12.0","jetstream":true}`+"\r\n")
	s.run()
	s.status.Forwarder, s.status.Logger = nil, nil
	return s
}

// generated is the broker of a cluster of zeek-systemd-generator on one host.
func generated(t *testing.T) *setup {
	s := newSetup(t)
	s.files["zeek.conf"] = "# one host\nmanager = 1\nloggers = 1\nproxies = 1\nargs = local\n" +
		"  policy/x\ninterface = af_packet::eth0\nworkers = 2\nworkers_cpu_list = 4-5\n"
	s.files["local.zeek"] = "redef Cluster::Backend::ZeroMQ::run_proxy_thread = F;\n"
	s.in.Daemon = &Daemon{Command: "forwarder",
		XSub: []Listener{{"--xsub", "tcp://127.0.0.1:5556"}},
		XPub: []Listener{{"--xpub", "tcp://127.0.0.1:5555"}},
	}
	s.serve("127.0.0.1", 5556, 5555, 27761)
	s.run("manager", "logger-1", "proxy-1", "worker-1", "worker-2")
	return s
}

// encrypted is the broker of a cluster of zeekctl on two hosts, with CURVE.
func encrypted(t *testing.T) *setup {
	s := zeekctl(t)
	hosts := strings.ReplaceAll(nodeText, "host=127.0.0.1", "host=10.0.0.1")
	s.files["node.cfg"] = strings.Replace(hosts, "type=worker\nhost=10.0.0.1",
		"type=worker\nhost=10.0.0.2", 1)
	dir := filepath.Join(s.dir, "curve")
	s.files["zeekctl.cfg"] = "cluster_backend_zeromq.curve_dir = " + dir + "\n"
	for name, value := range map[string]string{
		"server_publickey": s.keys.Server.Public().String(),
		"server_secretkey": s.keys.Server.Text(),
		"client_publickey": s.keys.Client.Public().String(),
		"client_secretkey": s.keys.Client.Text(),
	} {
		s.files["curve/"+name] = value + "\n"
	}
	s.in.Daemon.XSub[0].Endpoint = "tcp://10.0.0.1:27761"
	s.in.Daemon.XPub[0].Endpoint = "tcp://10.0.0.1:27760"
	s.in.Daemon.Keys = &daemon.Keys{Server: []curve.Key{s.keys.Server.Public()}, Listed: true,
		Clients: []*access.Client{{Name: "zeek", Key: s.keys.Client.Public()}}}
	s.serverOK = true
	s.serve("10.0.0.1", 27761, 27760, 27764)
	s.run("manager", "logger-1", "proxy-1", "worker-1-1", "worker-1-2")
	return s
}

// socket listens with a socket at an address of the network. The test closes it.
func (s *setup) socket(address string, make func(zmtp.Config) *zmtp.Socket) {
	s.t.Helper()
	config := zmtp.Config{}
	if s.serverOK {
		server, err := curve.NewServer(zmtp.Auth{Handler: onlyKey(s.keys.Client.Public())},
			s.keys.Server)
		if err != nil {
			s.t.Fatal(err)
		}
		config.Mechanism = server.Mechanism
	}
	socket := make(config)
	s.t.Cleanup(func() { socket.Close() })
	at, err := socket.Listen("tcp://127.0.0.1:*")
	if err != nil {
		s.t.Fatal(err)
	}
	s.network[address] = strings.TrimPrefix(at, "tcp://")
}

func xsub(c zmtp.Config) *zmtp.Socket { return zmtp.NewXSub(c).Socket }
func xpub(c zmtp.Config) *zmtp.Socket { return zmtp.NewXPub(c, zmtp.XPubOptions{}).Socket }
func pull(c zmtp.Config) *zmtp.Socket { return zmtp.NewPull(c).Socket }

// serve listens with the sockets of a cluster.
func (s *setup) serve(host string, xsubPort, xpubPort, pullPort int) {
	at := func(port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
	s.socket(at(xsubPort), xsub)
	s.socket(at(xpubPort), xpub)
	s.socket(at(pullPort), pull)
}

// plain listens with something that answers every connection with text.
func (s *setup) plain(address, text string) {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte(text))
			c.Close()
		}
	}()
	s.t.Cleanup(func() { l.Close(); <-done })
	s.network[address] = l.Addr().String()
}

// run makes /status of a running daemon with the nodes connected.
func (s *setup) run(nodes ...string) {
	s.status = &statusapi.Status{Forwarder: &statusapi.Forwarder{}, Logger: &statusapi.Logger{}}
	s.status.Version, s.status.Started, s.status.Ready = s.in.Version, time.Now(), true
	for _, l := range slices.Concat(s.in.Daemon.XSub, s.in.Daemon.XPub, s.in.Daemon.Pull) {
		s.status.Endpoints = append(s.status.Endpoints,
			daemon.Endpoint{Flag: l.Flag, Endpoint: l.Endpoint})
	}
	for _, n := range nodes {
		s.status.Forwarder.XPub.Peers = append(s.status.Forwarder.XPub.Peers,
			daemon.PeerStatus{Node: "zeromq_" + n + "_host_123_ABCDEF"})
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.status == nil {
			http.NotFound(w, nil)
			return
		}
		w.Header().Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat))
		json.NewEncoder(w).Encode(s.status)
	}))
	s.t.Cleanup(server.Close)
	s.in.Daemon.HTTP = strings.TrimPrefix(server.URL, "http://")
}

// examine writes the files and examines the set-up.
func (s *setup) examine() *Report {
	s.t.Helper()
	for name, text := range s.files {
		path := filepath.Join(s.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
			os.WriteFile(path, []byte(text), 0o600)); err != nil {
			s.t.Fatal(err)
		}
		switch name {
		case "node.cfg":
			s.in.NodeCfg = path
		case "zeekctl.cfg":
			s.in.ZeekctlCfg = path
		case "zeek.conf":
			s.in.ZeekConf = path
		case "cluster-layout.zeek":
			s.in.Layout = path
		default:
			if strings.HasSuffix(name, ".zeek") {
				s.in.Scripts = append(s.in.Scripts, path)
			}
		}
	}
	return Examine(s.t.Context(), s.in)
}

// replace changes a file.
func (s *setup) replace(name, from, to string) {
	s.t.Helper()
	if !strings.Contains(s.files[name], from) {
		s.t.Fatalf("%s has no %q", name, from)
	}
	s.files[name] = strings.Replace(s.files[name], from, to, 1)
}

// stop makes the set-up one whose zmtpd does not run.
func (s *setup) stop() {
	s.status = nil
	s.in.Daemon.HTTP = ""
	clear(s.network)
}

func TestHealthy(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *setup{"layout and script": scripted,
		"zeekctl on one host": zeekctl, "zeek-systemd-generator": generated,
		"zeek-systemd-generator with interfaces": func(t *testing.T) *setup {
			s := generated(t)
			s.files["zeek.conf"] = "[zeek]\nMANAGER = 1\nloggers = 1\nproxies = 1\n" +
				"cluster_node_prefix = a\nlogger_nice = 5\n[interface tap1]\ninterface = eth0\n" +
				"workers = 1\n[interface tap2]\ninterface = eth1\nworkers = 1\n"
			s.run("manager", "a-logger-1", "a-proxy-1", "a-worker-tap1-1", "a-worker-tap2-1")
			return s
		}, "zeekctl on two hosts with CURVE": encrypted,
		"zmtpd up alone": func(t *testing.T) *setup {
			s := scripted(t)
			clear(s.files)
			return s
		}, "zmtpd up as a node": func(t *testing.T) *setup {
			s := scripted(t)
			s.replace("cluster-layout.zeek", `["proxy-1"]`, `["logger-1"] = [`+
				`$node_type=Cluster::LOGGER, $ip=127.0.0.1, $p=5557/tcp],`+"\n"+`["proxy-1"]`)
			s.in.Daemon.ClusterNode = "logger-1"
			return s
		}, "stores": stored, "stores before the start": func(t *testing.T) *setup {
			s := stored(t)
			s.in.Offline = true
			s.in.Daemon.Folders[0].Path = filepath.Join(s.dir, "is", "made")
			s.in.Machine.Disk = func(path string) (Disk, error) {
				if _, err := os.Stat(path); err != nil {
					return Disk{Missing: true}, err
				}
				return s.disk, nil
			}
			return s
		}, "before the start": func(t *testing.T) *setup {
			s := scripted(t)
			s.stop()
			s.in.Offline = true
			return s
		}} {
		t.Run(name, func(t *testing.T) {
			r := make(t).examine()
			if !r.Healthy {
				var text strings.Builder
				r.WriteText(&text)
				t.Error(text.String())
			}
		})
	}
}

// damages is a way to get each fault.
var damages = []struct {
	fault  string
	what   string // a part of the finding
	begin  func(*testing.T) *setup
	damage func(*setup)
}{
	{"zmtpd-configuration", "no flag", scripted, func(s *setup) {
		s.in.DaemonErr, s.in.Daemon = errors.New(`zmtpd.yaml:1: "sndhw" is no flag`), nil
	}},
	{"file-unreadable", "no such file", scripted, func(s *setup) {
		s.in.Scripts = []string{filepath.Join(s.dir, "missing.zeek")}
	}},
	{"node-cfg", "unknown type", zeekctl, func(s *setup) {
		s.replace("node.cfg", "type=proxy", "type=proxi")
	}},
	{"node-cfg", "no setting", zeekctl, func(s *setup) {
		s.replace("node.cfg", "interface=eth0", "interface eth0")
	}},
	{"node-cfg", "exists already", zeekctl, func(s *setup) {
		s.replace("node.cfg", "[proxy-1]", "[manager]")
	}},
	{"node-cfg", "need each other", zeekctl, func(s *setup) {
		s.replace("node.cfg", "lb_method=af_packet\n", "")
	}},
	{"node-cfg-roles", "no proxy", zeekctl, func(s *setup) {
		s.replace("node.cfg", "type=proxy", "type=worker")
	}},
	{"node-cfg-roles", "2 managers", zeekctl, func(s *setup) {
		s.replace("node.cfg", "type=proxy", "type=manager")
	}},
	{"zeekctl-cfg", "no port", zeekctl, func(s *setup) {
		s.files["zeekctl.cfg"] = "ZeekPort = 99999\n"
	}},
	{"zeek-conf", "is no key", generated, func(s *setup) {
		s.replace("zeek.conf", "proxies", "proxys")
	}},
	{"zeek-conf", "proxies is \"many\"", generated, func(s *setup) {
		s.replace("zeek.conf", "proxies = 1", "proxies = many")
	}},
	{"zeek-conf", "workers is \"-1\"", generated, func(s *setup) {
		s.replace("zeek.conf", "workers = 2", "workers = -1")
	}},
	{"zeek-conf", "set twice", generated, func(s *setup) {
		s.replace("zeek.conf", "proxies = 1", "loggers = 2")
	}},
	{"zeek-conf", "zeek.conf:10 section [interface a] after settings", generated, func(s *setup) {
		s.files["zeek.conf"] += "[interface a]\ninterface = b\nworkers = 1\n"
	}},
	{"zeek-conf", "need each other", generated, func(s *setup) {
		s.replace("zeek.conf", "workers = 2\n", "")
	}},
	{"zeek-conf", "neither [zeek] nor", generated, func(s *setup) {
		s.files["zeek.conf"] = "[zeek]\nmanager = 1\n[worker]\n"
	}},
	{"zeek-conf", "several values", generated, func(s *setup) {
		s.replace("zeek.conf", "manager = 1\n", "manager = 1\n  2\n")
	}},
	{"backend", "cluster_backend_args", generated, func(s *setup) {
		s.files["zeek.conf"] += "cluster_backend_args = frameworks/cluster/backend/broker\n"
	}},
	{"endpoint-mismatch", "5556", generated, func(s *setup) {
		s.in.Daemon.XSub[0].Endpoint = "tcp://127.0.0.1:27761"
	}},
	{"layout", "no nodes", scripted, func(s *setup) { s.files["cluster-layout.zeek"] = "# none\n" }},
	{"layout-field", "$interface", scripted, func(s *setup) {
		s.replace("cluster-layout.zeek", "$p=0/tcp", `$p=0/tcp, $interface="eth0"`)
	}},
	{"backend", "Broker", zeekctl, func(s *setup) {
		s.files["zeekctl.cfg"] = "ClusterBackend = Broker\n"
	}},
	{"ports-swapped", "is --xpub of zmtpd", scripted, func(s *setup) {
		s.replace("zmtpd.zeek", "5556", "x")
		s.replace("zmtpd.zeek", "5555", "5556")
		s.replace("zmtpd.zeek", "x\"", "5555\"")
	}},
	{"ports-swapped", "an XPUB socket listens at", zeekctl, func(s *setup) {
		n := s.network
		n["127.0.0.1:27760"], n["127.0.0.1:27761"] = n["127.0.0.1:27761"], n["127.0.0.1:27760"]
	}},
	{"ports-swapped", "an XPUB socket listens at", encrypted, func(s *setup) {
		n := s.network
		n["10.0.0.1:27760"], n["10.0.0.1:27761"] = n["10.0.0.1:27761"], n["10.0.0.1:27760"]
	}},
	{"endpoint-mismatch", "5566", scripted, func(s *setup) {
		s.replace("zmtpd.zeek", "5556", "5566")
	}},
	{"endpoint-mismatch", "logs go to", scripted, func(s *setup) {
		s.replace("zmtpd.zeek", "5557", "5558")
	}},
	{"loopback-only", "several hosts", scripted, func(s *setup) {
		s.replace("cluster-layout.zeek", "WORKER, $ip=127.0.0.1", "WORKER, $ip=10.0.0.2")
	}},
	{"address-not-local", "192.0.2.1", scripted, func(s *setup) {
		s.stop()
		s.in.Daemon.XSub[0].Endpoint = "tcp://192.0.2.1:5556"
	}},
	{"port-taken", "another process", scripted, func(s *setup) {
		s.stop()
		s.taken["127.0.0.1:5555"] = true
		s.plain("127.0.0.1:5555", "HTTP/1.0 400 Bad Request\r\n")
	}},
	{"port-conflict", "both want", scripted, func(s *setup) {
		s.in.Daemon.Others = []Listener{{"--tap", "tcp://*:5556"}}
	}},
	{"port-conflict", "WebSocketPort", zeekctl, func(s *setup) {
		s.in.Daemon.Others = []Listener{{"--websocket", "tcp://127.0.0.1:27759"}}
	}},
	{"nobody-listens", "it does not run", scripted, func(s *setup) { s.stop() }},
	{"nobody-listens", "[logger-1]", zeekctl, func(s *setup) {
		delete(s.network, "127.0.0.1:27764")
	}},
	{"no-answer", "deadline", encrypted, func(s *setup) { s.network["10.0.0.1:27764"] = "" }},
	{"name-unresolved", "no such host", scripted, func(s *setup) {
		s.replace("zmtpd.zeek", `vector("`, `vector("tcp://nowhere:5557", "`)
		s.network["nowhere:5557"] = "?"
	}},
	{"not-zmtp", "first byte", scripted, func(s *setup) {
		s.plain("127.0.0.1:5557", "HTTP/1.0 400 Bad Request\r\n")
	}},
	{"wrong-socket", "type PULL, want XSUB", scripted, func(s *setup) {
		s.network["127.0.0.1:5556"] = s.network["127.0.0.1:5557"]
	}},
	{"connection-refused-by-peer", "before the greeting", scripted, func(s *setup) {
		s.plain("127.0.0.1:5556", "")
	}},
	{"encryption-differs", "the mechanism there is NULL", encrypted, func(s *setup) {
		s.serverOK = false
		s.serve("10.0.0.1", 27761, 27760, 27764)
	}},
	{"encryption-differs", "zmtpd has none", encrypted, func(s *setup) { s.in.Daemon.Keys = nil }},
	{"keys-incomplete", "server_publickey", encrypted, func(s *setup) {
		delete(s.files, "curve/server_publickey")
	}},
	{"keys-incomplete", "CLIENT_SECRETKEY is missing", scripted, func(s *setup) {
		s.env[zeekkeys.ServerPublic] = s.keys.Server.Public().String()
		s.env[zeekkeys.ClientPublic] = s.keys.Client.Public().String()
	}},
	{"key-invalid", "CLIENT_PUBLICKEY", encrypted, func(s *setup) {
		s.files["curve/client_publickey"] = "short\n"
	}},
	{"keys-mixed", "in the script, and", scripted, func(s *setup) {
		s.files["zmtpd.zeek"] += `redef Cluster::Backend::ZeroMQ::curve_server_publickey = "` +
			s.keys.Server.Public().String() + "\";\n"
		s.env[zeekkeys.ServerPublic] = s.keys.Server.Public().String()
	}},
	{"keys-not-a-pair", "not a pair", encrypted, func(s *setup) {
		s.files["curve/client_publickey"] = zeekkeys.Generate().Client.Public().String()
	}},
	{"keys-differ", "zmtpd's public key", encrypted, func(s *setup) {
		s.in.Daemon.Keys.Server[0] = zeekkeys.Generate().Server.Public()
	}},
	{"keys-differ", "does not admit", encrypted, func(s *setup) {
		s.in.Daemon.Keys.Clients[0].Key = zeekkeys.Generate().Client.Public()
	}},
	{"keys-refused", "does not have the secret key", encrypted, func(s *setup) {
		s.keys.Server = zeekkeys.Generate().Server
		s.serve("10.0.0.1", 27761, 27760, 27764)
	}},
	{"keys-refused", "does not admit the client key", encrypted, func(s *setup) {
		s.keys.Client = zeekkeys.Generate().Client
		s.serve("10.0.0.1", 27761, 27760, 27764)
	}},
	{"broker-twice", "is a broker too", zeekctl, func(s *setup) { s.files["local.zeek"] = "" }},
	{"layout-blocks-start", "logger-1", scripted, func(s *setup) {
		s.replace("cluster-layout.zeek", `["proxy-1"]`, `["logger-1"] = [`+
			`$node_type=Cluster::LOGGER, $ip=127.0.0.1, $p=5557/tcp],`+"\n"+`["proxy-1"]`)
	}},
	{"cluster-node", "is a proxy", scripted, func(s *setup) {
		s.in.Daemon.ClusterNode = "proxy-1"
	}},
	{"cluster-node", "not in the layout", scripted, func(s *setup) {
		s.in.Daemon.ClusterNode = "logger-7"
	}},
	{"logs-nowhere", "no node", scripted, func(s *setup) {
		s.replace("zmtpd.zeek", "redef Cluster::Backend::ZeroMQ::connect_log", "# ")
	}},
	{"manager-is-logger", "is a logger too", scripted, func(s *setup) {
		s.replace("cluster-layout.zeek", "redef Cluster::manager_is_logger = F;", "")
	}},
	{"manager-is-logger-late", "outside", scripted, func(s *setup) {
		s.replace("cluster-layout.zeek", "redef Cluster::manager_is_logger = F;", "")
		s.files["zmtpd.zeek"] += "redef Cluster::manager_is_logger = F;\n"
	}},
	{"ipv6-off", "[::1]", scripted, func(s *setup) {
		s.replace("zmtpd.zeek", "127.0.0.1:5557", "[::1]:5557")
	}},
	{"folder-missing", "missing", scripted, func(s *setup) {
		s.in.Machine.Disk = examineDisk
		s.in.Daemon.Folders[0].Path = filepath.Join(s.dir, "missing")
	}},
	{"folder-not-writable", "no folder", scripted, func(s *setup) {
		s.in.Machine.Disk = examineDisk
		s.in.Daemon.Folders[0].Path = filepath.Join(s.dir, "zmtpd.zeek")
	}},
	{"disk-full", "512 MiB of 102400", scripted, func(s *setup) { s.disk.Free = 512 << 20 }},
	{"disk-full", "inodes", scripted, func(s *setup) { s.disk.InodesUsedUp = true }},
	{"folder-not-writable", "--store-dir", scripted, func(s *setup) {
		s.in.Machine.Disk = examineDisk
		s.in.Daemon.Folders[0] = Folder{Flag: "--store-dir", Made: true,
			Path: filepath.Join(s.dir, "zmtpd.zeek", "stores")}
	}},
	{"store-file", "no database of SQLite", stored, func(s *setup) {
		s.files["zeek.sqlite"] = "*2\r\n"
	}},
	{"store-file", "is a directory", stored, func(s *setup) {
		delete(s.files, "zeek.sqlite")
		s.in.Daemon.Stores.Files = []string{s.dir}
	}},
	{"disk-full", "--store-dir", stored, func(s *setup) { s.disk.Free = 512 << 20 }},
	{"port-taken", "--store-redis another process", stored, func(s *setup) {
		s.stop()
		s.taken["127.0.0.1:6379"] = true
		s.plain("127.0.0.1:6379", "-ERR\r\n")
	}},
	{"nobody-listens", "zmtpd store-server it does not run", stored, func(s *setup) {
		s.stop()
		s.in.Daemon.Stores.XSub, s.in.Daemon.Stores.XPub = "", ""
	}},
	{"store-open", "not encrypted", stored, func(s *setup) {
		s.in.Daemon.Stores.Doors[0].Endpoint = "tcp://10.0.0.1:6379"
		s.in.Daemon.Stores.Doors[0].Guarded = true
	}},
	{"store-open", "nobody for a token", stored, func(s *setup) {
		s.in.Daemon.Stores.Doors[0].Endpoint = "tcp://*:6379"
		s.in.Daemon.Stores.Doors[0].Encrypted = true
	}},
	{"wrong-socket", "type XPUB, want XSUB (--store-xsub)", stored, func(s *setup) {
		stores := &s.in.Daemon.Stores
		stores.XSub, stores.XPub = stores.XPub, stores.XSub
	}},
	{"nobody-listens", "(--store-xpub)", stored, func(s *setup) {
		s.in.Daemon.Stores.XPub = "tcp://127.0.0.1:1"
	}},
	{"nats-unreachable", "refused", stored, func(s *setup) {
		delete(s.network, "127.0.0.1:4222")
	}},
	{"nats-unreachable", "no such host", stored, func(s *setup) {
		s.in.Daemon.Stores.NATS = []string{"nats://nowhere:4222"}
		s.network["nowhere:4222"] = "?"
	}},
	{"nats-unreachable", "no server of NATS", stored, func(s *setup) {
		s.plain("127.0.0.1:4222", "HTTP/1.0 400 Bad Request\r\n")
	}},
	{"nats-unsuitable", "no JetStream", stored, func(s *setup) {
		s.plain("127.0.0.1:4222", `INFO {"version":"2.12.0"}`+"\r\n")
	}},
	{"nats-unsuitable", "version 2.10.29", stored, func(s *setup) {
		s.plain("127.0.0.1:4222", `INFO {"version":"2.10.29","jetstream":true}`+"\r\n")
	}},
	{"nats-unsuitable", "demands credentials", stored, func(s *setup) {
		s.plain("127.0.0.1:4222", `INFO {"version":"2.12.0","jetstream":true,"auth_required":true}`+
			"\r\n")
	}},
	{"nats-unsuitable", "not tls://", stored, func(s *setup) {
		s.plain("127.0.0.1:4222", `INFO {"version":"2.12.0","jetstream":true,"tls_required":true}`+
			"\r\n")
	}},
	{"not-ready", "nodes wait", scripted, func(s *setup) {
		s.status.Ready, s.status.NotReady = false, "logger: nodes wait for sink kafka"
	}},
	{"nodes-missing", "worker-1", scripted, func(s *setup) {
		s.status.Forwarder.XPub.Peers = s.status.Forwarder.XPub.Peers[:2]
	}},
	{"slow-subscriber", "1000 messages wait", scripted, func(s *setup) {
		since := time.Now()
		s.status.Forwarder.XPub.Peers[1].SlowSince = &since
		s.status.Forwarder.XPub.Peers[1].Queue = 1000
	}},
	{"losses", "7 events", scripted, func(s *setup) {
		s.status.Forwarder.Account.Dropped = map[string]uint64{"slow": 7}
	}},
	{"losses", "9 records", scripted, func(s *setup) {
		s.status.Logger.Sinks = []statusapi.Sink{{Sink: "files", Account: statusapi.Account{
			Dropped: map[string]statusapi.Counts{"many_files": {Records: 9}}}}}
	}},
	{"memory-exhausted", "2 peers wait", scripted, func(s *setup) {
		s.status.Memory = &daemon.MemoryStatus{Limit: 1, Waiting: 2}
	}},
	{"configuration-not-applied", "--xsub", scripted, func(s *setup) {
		s.status.Endpoints = s.status.Endpoints[1:]
	}},
	{"version-differs", "1.2.3", scripted, func(s *setup) { s.status.Version = "1.2.2" }},
	{"clock-differs", "by", scripted, func(s *setup) { s.ahead = -time.Hour }},
	{"clock-differs", "by", scripted, func(s *setup) { s.ahead = 10 * time.Second }},
	{"clock-wrong", "it was written", scripted, func(s *setup) {
		s.in.Machine.Now = func() time.Time { return time.Unix(1e9, 0) }
	}},
	{"clock-not-synchronized", "STA_UNSYNC", scripted, func(s *setup) {
		s.in.Machine.ClockUnsynchronized = func() bool { return true }
	}},
	{"descriptors-low", "256", scripted, func(s *setup) {
		s.in.Machine.Descriptors = func() uint64 { return 256 }
	}},
	{"memory-low", "16384 MiB", scripted, func(s *setup) { s.in.Daemon.Memory = 16 << 30 }},
	{"memory-low", "128 MiB", scripted, func(s *setup) {
		s.in.Machine.Memory = func() (int64, string) { return 128 << 20, "cgroup" }
	}},
	{"message-size-low", "64 MiB", scripted, func(s *setup) {
		s.in.Daemon.MaxMessageSize = 64 << 20
	}},
	{"spool-too-large", "81920 MiB are free", scripted, func(s *setup) {
		s.in.Daemon.Folders[0].Spool = 90 << 30
	}},
	{"spool-in-memory", "--spool", scripted, func(s *setup) {
		s.in.Daemon.Folders[0] = Folder{Flag: "--spool", Path: s.dir, Spool: 1 << 30}
		s.disk.InMemory = true
	}},
	{"disk-slow", "MB/s", scripted, func(s *setup) { s.disk.WriteTime = 4 * time.Second }},
	{"disk-slow", "a sync takes", scripted, func(s *setup) { s.disk.SyncTime = 2 * time.Second }},
	{"key-file-open", "-rw-r--r--", scripted, func(s *setup) {
		path := filepath.Join(s.dir, "server.key_secret")
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o644)); err != nil {
			s.t.Fatal(err)
		}
		s.in.Daemon.SecretFiles = []string{path}
	}},
	{"not-encrypted", "--xsub", scripted, func(s *setup) {
		s.in.Daemon.XSub[0].Endpoint = "tcp://*:5556"
		s.status.Endpoints[0].Endpoint = "tcp://0.0.0.0:5556"
	}},
	{"zeek-version", "7.2", scripted, func(s *setup) {
		s.zeek("zeek version 7.2.1\n", "Zeek::Cluster_Backend_ZeroMQ", "libzmq.so.5.2.4")
	}},
	{"zeek-broken", "not found", scripted, func(s *setup) { s.in.Zeek = "/opt/zeek/bin/zeek" }},
	{"zeek-without-zeromq", "zeek -N", scripted, func(s *setup) {
		s.zeek("zeek version 8.1.0\n", "Zeek::ARP - ARP Parsing", "libzmq.so.5.2.4")
	}},
	{"libzmq-version", "libzmq.so.5.1.5", scripted, func(s *setup) {
		s.zeek("zeek version 8.1.0\n", "Zeek::Cluster_Backend_ZeroMQ", "libzmq.so.5.1.5")
	}},
}

// zeek installs a Zeek.
func (s *setup) zeek(version, plugins, libzmq string) {
	s.in.Zeek = "/opt/zeek/bin/zeek"
	s.programs["zeek --version"], s.programs["zeek -N"] = version, plugins
	s.programs["ldd /opt/zeek/bin/zeek"] = "\tlibzmq.so.5 => /usr/lib/" + libzmq + " (0x7f00)\n"
}

func TestFaults(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range damages {
		tested[c.fault] = true
		t.Run(c.fault+"/"+c.what, func(t *testing.T) {
			t.Parallel()
			s := c.begin(t)
			c.damage(s)
			r := s.examine()
			i := slices.IndexFunc(r.Faults, func(f Finding) bool {
				return f.Fault == c.fault && strings.Contains(f.Where+" "+f.What, c.what)
			})
			if i < 0 || r.Healthy {
				t.Fatalf("no %s with %q in %+v", c.fault, c.what, r.Faults)
			}
			if r.Faults[i].Remedy == "" {
				t.Error("nothing to do")
			}
		})
	}
	for _, f := range Faults {
		if !tested[f.Name] {
			t.Errorf("no test damages a cluster so that it has %s", f.Name)
		}
	}
}
