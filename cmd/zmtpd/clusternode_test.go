package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/forwarder/cluster"
	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

const layoutScript = `
redef Cluster::manager_is_logger = F;
redef Cluster::nodes = {
	["manager"] = [$node_type=Cluster::MANAGER, $ip=127.0.0.1, $p=0/tcp],
	["logger-1"] = [$node_type=Cluster::LOGGER, $ip=127.0.0.1, $p=5557/tcp],
	["worker-1"] = [$node_type=Cluster::WORKER, $ip=127.0.0.1],
};
`

// joinCluster makes a node at a broker of zmtpd. It waits for nothing.
func joinCluster(t *testing.T, broker *process, name string, socket zmtp.Config) *cluster.Node {
	t.Helper()
	layout, err := cluster.ParseLayout(strings.NewReader(layoutScript))
	if err != nil {
		t.Fatal(err)
	}
	n, err := cluster.Join(cluster.Config{Name: name, Layout: layout, Socket: socket,
		XSub: broker.Endpoint("XSUB"), XPub: broker.Endpoint("XPUB")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		n.Shutdown(ctx)
	})
	return n
}

// awaitPeers waits until exactly the nodes with these names are up.
func awaitPeers(t *testing.T, n *cluster.Node, names ...string) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%q sees %q", n.Self().Name, names), func() bool {
		peers := n.Peers()
		return slices.EqualFunc(peers, names,
			func(p cluster.Peer, name string) bool { return p.Name == name })
	})
}

// startManager makes a manager that announces the start of the cluster when all three nodes have
// said that they see each other, as Zeek's does
// (scripts/policy/frameworks/cluster/nodes-experimental/manager.zeek). It counts its announcements.
func startManager(t *testing.T, broker *process, socket zmtp.Config) (*cluster.Node,
	*atomic.Int32) {
	t.Helper()
	manager := joinCluster(t, broker, "manager", socket)
	connected, announced := map[string]bool{"manager": true}, new(atomic.Int32)
	cluster.Handle(manager, "Cluster::Experimental::node_fully_connected",
		func(ctx context.Context, _ cluster.Event, args struct {
			Name, ID string
			Again    bool
		}) {
			connected[args.Name] = true
			if len(connected) == 3 && announced.CompareAndSwap(0, 1) {
				if err := manager.Publish(ctx, "zeek/cluster/experimental/started",
					"Cluster::Experimental::cluster_started"); err != nil {
					t.Error(err)
				}
			}
		})
	if err := manager.Subscribe("zeek/cluster/experimental/started"); err != nil {
		t.Fatal(err)
	}
	return manager, announced
}

// The hello matrix with a logger that is a process: a manager, a worker and it see each other, the
// cluster starts, and when it is killed it is down everywhere. Its successor is up.
func TestLoggerIsANode(t *testing.T) {
	t.Parallel()
	broker := startDaemon(t, "forwarder")
	layout := filepath.Join(t.TempDir(), "cluster-layout.zeek")
	writeFile(t, layout, layoutScript)
	startLogger := func() *process {
		return startListening(t, "logger", "--dir", t.TempDir(), "--cluster-node", "logger-1",
			"--cluster-layout", layout, "--cluster-xsub", broker.Endpoint("XSUB"),
			"--cluster-xpub", broker.Endpoint("XPUB"))
	}
	logger := startLogger()
	manager, announced := startManager(t, broker, zmtp.Config{})
	testkit.Eventually(t, "the logger misses the worker", func() bool {
		s := logger.status().Cluster
		return len(s.Peers) == 1 && slices.Equal(s.Missing, []string{"worker-1"})
	})
	worker := joinCluster(t, broker, "worker-1", zmtp.Config{})
	passive := joinCluster(t, broker, "", zmtp.Config{})
	awaitPeers(t, manager, "logger-1", "worker-1")
	awaitPeers(t, worker, "logger-1", "manager")
	awaitPeers(t, passive, "logger-1", "manager", "worker-1")
	testkit.Eventually(t, "the cluster has started everywhere", func() bool {
		s := logger.status().Cluster
		return announced.Load() == 1 && worker.Stats().Started && s.Started
	})
	s := logger.status()
	if c := s.Cluster; !s.Ready || !c.Connected || len(c.Peers) != 2 || len(c.Missing) != 0 ||
		c.Node.Name != "logger-1" || c.Published < 5 ||
		c.Received != c.Hellos+c.Ignored+sumOf(c.Dropped) {
		t.Errorf("%+v", c)
	}
	if n := logger.Metric("zmtpd_cluster_peers"); n != 2 {
		t.Errorf("zmtpd_cluster_peers is %v", n)
	}
	if n := logger.Metric(`zmtpd_cluster_refused_hellos_total{reason="unknown_name"}`); n != 0 {
		t.Errorf("%v hellos of unknown nodes", n)
	}

	logger.Cmd.Process.Kill()
	awaitPeers(t, manager, "worker-1")
	awaitPeers(t, worker, "manager")
	awaitPeers(t, passive, "manager", "worker-1")
	startLogger()
	awaitPeers(t, manager, "logger-1", "worker-1")
	awaitPeers(t, worker, "logger-1", "manager")
}

func sumOf(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// "up" as a node at its own broker, encrypted, without a layout.
func TestUpIsANode(t *testing.T) {
	t.Parallel()
	keys := newKeyFolder(t)
	server := keys.addServer("server")
	public, secret := curve.GenerateKeyPair()
	keys.add("nodes", public)
	own := filepath.Join(t.TempDir(), "nodes.key")
	c := curve.Certificate{Public: public, Secret: &secret}
	if err := c.WriteFiles(own, time.Now()); err != nil {
		t.Fatal(err)
	}
	config := client(t, server, secret)
	up := startUp(t, t.TempDir(), append(keys.flags(), "--cluster-node", "logger-1",
		"--cluster-curve-server-key="+server.String(),
		"--cluster-curve-secret-key-file", own+"_secret")...)
	manager, announced := startManager(t, up, config)
	worker := joinCluster(t, up, "worker-1", config)
	awaitPeers(t, manager, "logger-1", "worker-1")
	awaitPeers(t, worker, "logger-1", "manager")
	testkit.Eventually(t, "the cluster has started", func() bool {
		return announced.Load() == 1 && up.status().Cluster.Started
	})
	up.Terminate()
}

func TestLoopback(t *testing.T) {
	for bound, want := range map[string]string{
		"tcp://0.0.0.0:5": "tcp://127.0.0.1:5", "tcp://[::]:5": "tcp://[::1]:5",
		"tcp://10.0.0.1:5": "tcp://10.0.0.1:5", "ipc:///x": "ipc:///x", "tcp://x": "tcp://x",
	} {
		if got := loopback(bound); got != want {
			t.Errorf("%s: %s, want %s", bound, got, want)
		}
	}
}
