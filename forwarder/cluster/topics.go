package cluster

import "strings"

// Topics of Zeek's ZeroMQ backend (scripts/policy/frameworks/cluster/backend/zeromq/options.zeek).
// A subscription is for all topics with a prefix, so the topic of one node ends in a dot.
const (
	nodeTopicPrefix   = "zeek.cluster.node."
	nodeIDTopicPrefix = "zeek.cluster.nodeid."
	probeTopicPrefix  = "zeek.zeromq.internal."
	poolTopicPrefix   = "zeek.cluster.pool."
	// startedTopic is for Cluster::Experimental::cluster_started
	// (scripts/policy/frameworks/cluster/experimental.zeek).
	startedTopic = "zeek/cluster/experimental/started"
)

// NodeTopic returns the topic of the node with a name.
func NodeTopic(name string) string { return nodeTopicPrefix + name + "." }

// NodeIDTopic returns the topic of the node with an id. Do not subscribe it: every node of the
// cluster takes a subscription of such a topic for a new node.
func NodeIDTopic(id string) string { return nodeIDTopicPrefix + id + "." }

// Topic returns the topic that all nodes of the type subscribe, empty for None.
func (t NodeType) Topic() string {
	if t == None {
		return ""
	}
	return "zeek.cluster." + t.String()
}

// poolTopic returns the topic of the pool of all nodes of the type, empty if there is no such pool
// (scripts/base/frameworks/cluster/pools.zeek).
func (t NodeType) poolTopic() string {
	switch t {
	case Logger, Proxy, Worker:
		return poolTopicPrefix + t.String()
	}
	return ""
}

// idOfTopic returns the node id in the topic of a subscription, and whether it has one.
func idOfTopic(topic []byte) (id string, ok bool) {
	rest, ok := strings.CutPrefix(string(topic), nodeIDTopicPrefix)
	if !ok || len(rest) < 2 || rest[len(rest)-1] != '.' {
		return "", false
	}
	return rest[:len(rest)-1], true
}

// NameInID returns the node's name that an id of Zeek contains, empty if the id has another form:
// zeromq_NAME_HOST_PID_UNIQUE (options.zeek, my_node_id).
func NameInID(id string) string {
	rest, ok := strings.CutPrefix(id, "zeromq_")
	if !ok {
		return ""
	}
	for range 3 { // host, process id and unique id
		i := strings.LastIndexByte(rest, '_')
		if i < 0 {
			return ""
		}
		rest = rest[:i]
	}
	return rest
}
