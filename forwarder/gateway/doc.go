// Package gateway lets WebSocket clients take part in a Zeek cluster: they subscribe topics, get
// events and publish events, in the protocol of Zeek's own WebSocket API
// (cluster/websocket/WebSocket.cc, doc/advanced/devel/websocket-api.rst in Zeek). Unlike that, it
// knows who a client is and what it may do, takes any event, and bounds what a client can use.
//
//	broker := forwarder.New(forwarder.Config{})
//	g, err := gateway.New(broker, gateway.Config{Clients: "clients.yaml"})
//	g.Serve(listener)
//	...
//	err = errors.Join(broker.Shutdown(ctx), g.Shutdown(ctx)) // in this order
//
// # Connections
//
// net/http reads the request (upgrade.go), and github.com/coder/websocket speaks the protocol
// (RFC 6455) on the hijacked connection with small buffers. An idle client has one goroutine, in
// client.read, and no buffer for messages.
//
// # Events to clients
//
// All clients share one [forwarder.Local]. It hands the messages of subscribed topics over in the
// publishers' goroutines (Gateway.take), which never wait. One goroutine makes JSON of each event
// once and puts it into the queues of the clients (dispatch.go, queue.go). A goroutine writes
// a queue while there is something in it.
//
// # Events from clients
//
// A client's read goroutine checks an event and publishes it (publish.go). While the broker or the
// rate limit holds it up, it does not read, which is the back-pressure on the client. Each client
// is a publisher of its own, so one that waits for a slow subscriber holds up no other.
//
// # Locks
//
// Gateway.subscribing is held while subscriptions change. Gateway.mu, the queues' and the inbound
// queue's are innermost: nothing is called with them that takes another.
package gateway
