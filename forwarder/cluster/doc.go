// Package cluster makes a Go program a node of a Zeek cluster whose nodes talk over ZeroMQ.
//
// A node connects two sockets to the broker of the cluster: an XPUB that publishes events and sees
// what others subscribe, and an XSUB that receives events. Nodes find each other by a handshake of
// two events; a node is up when it is complete, and down when its subscription ends.
//
//	node, err := cluster.Join(cluster.Config{Name: "worker-3", Layout: layout})
//	cluster.Handle(node, "Site::block", func(ctx context.Context, e cluster.Event, args struct {
//		Addr netip.Addr
//		For  time.Duration
//	}) { ... })
//	err = node.Subscribe("site.blocks.")
//	err = node.Ready(ctx)
//	err = node.Publish(ctx, cluster.NodeTopic("manager"), "Site::blocked", addr)
//	err = node.Shutdown(ctx)
//
// A node with a name takes part in the handshake: the name has to be in Cluster::nodes of all other
// nodes. A node without one is passive. It publishes and receives events, sees which nodes there
// are, and no other node notices it.
//
// # Goroutines
//
// One goroutine reads each socket and never waits for anything else. A third calls the handlers,
// one after the other. Events wait for it in a bounded queue; what does not fit is dropped and
// counted, as by Zeek (onloop_queue_hwm). A fourth sends the handshake's events, so that neither
// reader waits for the broker.
package cluster
