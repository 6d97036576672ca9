package main

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder/cluster"
)

// The metrics of the logger as a node of a cluster.
var (
	clusterPeers = daemon.Gauge("zmtpd_cluster_peers",
		"Other nodes that are up.")
	clusterStarted = daemon.Gauge("zmtpd_cluster_started",
		"1 once the manager has announced that the cluster has started.")
	clusterReceived = daemon.Counter("zmtpd_cluster_received_messages_total",
		"Messages received from the broker.")
	clusterPublished = daemon.Counter("zmtpd_cluster_published_events_total",
		"Events published, those of the handshake included.")
	clusterHellos = daemon.Counter("zmtpd_cluster_received_hellos_total",
		"Events of the handshake received, and announcements that the cluster has started.")
	clusterIgnored = daemon.Counter("zmtpd_cluster_ignored_events_total",
		"Events received that are not for the logger.")
	clusterDropped = daemon.Counter("zmtpd_cluster_dropped_events_total",
		"Messages received that were dropped.", "reason")
	clusterRefused = daemon.Counter("zmtpd_cluster_refused_hellos_total",
		"Hellos of the handshake that were not taken.", "reason")
)

// Collect implements [daemon.Job].
func (j *clusterJob) Collect(ch chan<- prometheus.Metric) {
	node := j.node.Load()
	if node == nil {
		return
	}
	st := node.Stats()
	daemon.Send(ch, clusterPeers, st.Peers)
	started := 0
	if st.Started {
		started = 1
	}
	daemon.Send(ch, clusterStarted, started)
	daemon.Send(ch, clusterReceived, st.Received)
	daemon.Send(ch, clusterPublished, st.Published)
	daemon.Send(ch, clusterHellos, st.Hellos)
	daemon.Send(ch, clusterIgnored, st.Own+st.Unhandled)
	for r, n := range st.Dropped {
		daemon.Send(ch, clusterDropped, n, cluster.DropReason(r).String())
	}
	for r, n := range st.Refused {
		daemon.Send(ch, clusterRefused, n, cluster.Refusal(r).String())
	}
	daemon.CollectSocket(ch, "cluster_xpub", st.XPub, nil)
	daemon.CollectSocket(ch, "cluster_xsub", st.XSub, nil)
}

// clusterStatus is the part of /status about the logger as a node of a cluster. At every moment
// received = hellos + ignored + dropped.
type clusterStatus struct {
	Node      namedNode         `json:"node"` // the logger
	Connected bool              `json:"connected"`
	Started   bool              `json:"started"` // as the manager has announced
	Peers     []namedNode       `json:"peers"`   // that are up
	Missing   []string          `json:"missing"` // names of --cluster-layout that are not up
	Received  uint64            `json:"received"`
	Hellos    uint64            `json:"hellos"`
	Ignored   uint64            `json:"ignored"`
	Dropped   map[string]uint64 `json:"dropped,omitempty"` // by reason
	Refused   map[string]uint64 `json:"refused,omitempty"` // of the hellos, by reason
	Published uint64            `json:"published"`
}

// namedNode is a node of a cluster.
type namedNode struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// Status implements [daemon.Job].
func (j *clusterJob) Status() any {
	node := j.node.Load()
	if node == nil {
		return nil
	}
	st, self := node.Stats(), node.Self()
	s := &clusterStatus{
		Node:      namedNode{self.Name, self.ID},
		Connected: nodeConnected(st),
		Started:   st.Started,
		Peers:     []namedNode{},
		Missing:   []string{},
		Received:  st.Received,
		Hellos:    st.Hellos,
		Ignored:   st.Own + st.Unhandled,
		Dropped:   map[string]uint64{},
		Refused:   map[string]uint64{},
		Published: st.Published,
	}
	for r, n := range st.Dropped {
		if n > 0 {
			s.Dropped[cluster.DropReason(r).String()] = n
		}
	}
	for r, n := range st.Refused {
		if n > 0 {
			s.Refused[cluster.Refusal(r).String()] = n
		}
	}
	up := map[string]bool{self.Name: true}
	for _, p := range node.Peers() {
		s.Peers = append(s.Peers, namedNode{p.Name, p.ID})
		up[p.Name] = true
	}
	if j.config.Layout != nil {
		for name := range j.config.Layout.Nodes {
			if !up[name] {
				s.Missing = append(s.Missing, name)
			}
		}
		slices.Sort(s.Missing)
	}
	return s
}
