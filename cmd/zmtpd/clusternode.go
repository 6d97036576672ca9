package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/cluster"
)

// clusterFlags make the logger a node of the cluster.
type clusterFlags struct {
	ClusterNode   string             `group:"cluster" placeholder:"NAME" help:"Take part in the cluster as the LOGGER with this name in Cluster::nodes: say hello to all nodes, so that they raise cluster_started. Default: nodes know of the logger's address only."`
	ClusterLayout string             `group:"cluster" placeholder:"FILE" help:"cluster-layout.zeek of the cluster: only its nodes may say hello, and all are awaited. Default: every node may."`
	ClusterXSub   string             `name:"cluster-xsub" group:"cluster" placeholder:"ENDPOINT" help:"XSUB of the cluster's broker. Default: zmtpd's own, else tcp://127.0.0.1:5556."`
	ClusterXPub   string             `name:"cluster-xpub" group:"cluster" placeholder:"ENDPOINT" help:"XPUB of the cluster's broker. Default: zmtpd's own, else tcp://127.0.0.1:5555."`
	Cluster       daemon.ClientFlags `embed:"" prefix:"cluster-"`
}

// clusterJob is the logger as a node of a cluster, as a job of a daemon.
type clusterJob struct {
	flags  *clusterFlags
	config cluster.Config
	broker *forwarderJob                // of this process, nil for none
	node   atomic.Pointer[cluster.Node] // nil until Connect
}

// newClusterJob returns the job, nil if the logger is no node. broker is the broker of this
// process, nil for none.
func newClusterJob(flags *clusterFlags, env *daemon.Env, broker *forwarderJob) (*clusterJob,
	error) {
	if flags.ClusterNode == "" {
		if flags.ClusterLayout != "" || flags.ClusterXSub != "" || flags.ClusterXPub != "" {
			return nil, daemon.Usagef("--cluster-layout, --cluster-xsub or --cluster-xpub " +
				"without --cluster-node: name the logger as Cluster::nodes does, as in " +
				"--cluster-node logger-1")
		}
		return nil, nil
	}
	layout, err := readLayout("--cluster-layout", flags.ClusterLayout)
	if err != nil {
		return nil, err
	}
	socket := env.Socket()
	socket.RetryAlways = true
	if socket.Mechanism, err = flags.Cluster.Mechanism("cluster-"); err != nil {
		return nil, err
	}
	if !flags.Cluster.Encrypted() && broker != nil && env.Access.Keys() != nil {
		return nil, daemon.Usagef("--cluster-node %s: the broker is encrypted, and the node has "+
			"no keys; give --cluster-curve-server-key and --cluster-curve-secret-key-file",
			flags.ClusterNode)
	}
	if flags.Cluster.PlainUsername == "" && broker != nil && env.Access.Users() != nil {
		return nil, daemon.Usagef("--cluster-node %s: the broker demands PLAIN, and the node has "+
			"no user; give --cluster-plain-username and --cluster-plain-password-file",
			flags.ClusterNode)
	}
	j := &clusterJob{flags: flags, broker: broker, config: cluster.Config{
		Name: flags.ClusterNode, Layout: layout, Type: cluster.Logger,
		XSub: flags.ClusterXSub, XPub: flags.ClusterXPub, Socket: socket, Logger: env.Log}}
	if layout != nil {
		if t, ok := layout.Nodes[flags.ClusterNode]; ok && t != cluster.Logger {
			return nil, daemon.Usagef("--cluster-node %s: the node is a %v in --cluster-layout "+
				"%s; name a LOGGER", flags.ClusterNode, t, flags.ClusterLayout)
		}
	}
	return j, nil
}

// with returns jobs, and the node if there is one.
func (j *clusterJob) with(jobs ...daemon.Job) []daemon.Job {
	if j == nil {
		return jobs
	}
	return append(jobs, j)
}

// readLayout reads the file of a flag, nil if there is none.
func readLayout(flag, name string) (*cluster.Layout, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	defer f.Close()
	layout, err := cluster.ParseLayout(f)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, name, err)
	}
	return layout, nil
}

// Describe implements [daemon.Describer].
func (j *clusterJob) Describe() []any { return []any{"cluster_node", j.config.Name} }

func (j *clusterJob) Name() string { return "cluster" }

// Listen implements [daemon.Job]. A node binds nothing.
func (j *clusterJob) Listen() ([]daemon.Endpoint, error) { return nil, nil }

// Reload implements [daemon.Job]. No flag of a node can change.
func (j *clusterJob) Reload(daemon.Command) {}

// Targets implements [daemon.Connecter]. A connection to the broker of this process is no loop.
func (j *clusterJob) Targets() (all []daemon.Target) {
	if j.broker == nil {
		for flag, endpoint := range map[string]string{"--cluster-xsub": j.config.XSub,
			"--cluster-xpub": j.config.XPub} {
			if endpoint != "" {
				all = append(all, daemon.Target{Flag: flag, Endpoint: endpoint})
			}
		}
	}
	return all
}

// Connect implements [daemon.Connecter].
func (j *clusterJob) Connect() error {
	if j.broker != nil {
		if j.config.XSub == "" {
			j.config.XSub = loopback(j.broker.bound.xsub)
		}
		if j.config.XPub == "" {
			j.config.XPub = loopback(j.broker.bound.xpub)
		}
	}
	node, err := cluster.Join(j.config)
	if err != nil {
		return daemon.Usagef("--cluster-node %s: %w", j.config.Name, err)
	}
	j.node.Store(node)
	return nil
}

// loopback returns the endpoint at which this host reaches a bound one.
func loopback(bound string) string {
	address, ok := strings.CutPrefix(bound, "tcp://")
	if !ok {
		return bound
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return bound
	}
	switch ip := net.ParseIP(host); {
	case ip == nil || !ip.IsUnspecified():
		return bound
	case ip.To4() != nil:
		host = "127.0.0.1"
	default:
		host = "::1"
	}
	return "tcp://" + net.JoinHostPort(host, port)
}

// Ready implements [daemon.Readier].
func (j *clusterJob) Ready() error {
	if node := j.node.Load(); node == nil || !nodeConnected(node.Stats()) {
		return errors.New("the broker is not connected; other nodes do not see the logger")
	}
	return nil
}

// nodeConnected reports whether both sockets of a node are connected.
func nodeConnected(st cluster.Stats) bool { return st.XPub.Peers > 0 && st.XSub.Peers > 0 }

// Shutdown implements [daemon.Job].
func (j *clusterJob) Shutdown(ctx context.Context) error {
	node := j.node.Load()
	if node == nil {
		return nil
	}
	if err := node.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Summary implements [daemon.Job].
func (j *clusterJob) Summary() []any {
	node := j.node.Load()
	if node == nil {
		return nil
	}
	st := node.Stats()
	return []any{"received", st.Received, "published", st.Published, "dropped", st.Dropped.Total()}
}
