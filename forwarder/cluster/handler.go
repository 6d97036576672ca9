package cluster

import (
	"context"

	"zmtpd/forwarder/event"
)

// Event is an event as it was received.
type Event struct {
	event.Event
	Topic string
	Node  string // id of the node that has published it
}

// handler is called with the events of one name. It returns an error for arguments that it cannot
// take.
type handler func(ctx context.Context, e Event) error

// Handle calls f for each event with a name that the node receives. The arguments of the event are
// the fields of T, a struct, in order; see package event for the types of fields and their tags.
// Events with other arguments are dropped and counted. Of several handlers for a name, all are
// called.
//
// One goroutine calls all handlers of a node, one after the other, in the order in which the events
// of each sender came. While f runs, other events wait in the node's queue, see [Config.Queue]. ctx
// ends with the node. f may call the node, except Shutdown.
func Handle[T any](n *Node, name string, f func(ctx context.Context, e Event, args T)) {
	n.handle(name, func(ctx context.Context, e Event) error {
		var args T
		if err := e.DecodeArgs(&args); err != nil {
			return err
		}
		f(ctx, e, args)
		return nil
	})
}

// HandleAll calls f for each event that the node receives, whatever its name. See [Handle].
func (n *Node) HandleAll(f func(ctx context.Context, e Event)) {
	n.handle("", func(ctx context.Context, e Event) error {
		f(ctx, e)
		return nil
	})
}

func (n *Node) handle(name string, h handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	// Items in the queue refer to the old slice.
	n.handlers[name] = append(n.handlers[name][:len(n.handlers[name]):len(n.handlers[name])], h)
}

// handlersOf returns the handlers for a name, nil if there are none.
func (n *Node) handlersOf(name []byte) []handler {
	n.mu.Lock()
	defer n.mu.Unlock()
	named, all := n.handlers[string(name)], n.handlers[""]
	switch {
	case len(all) == 0:
		return named
	case len(named) == 0:
		return all
	}
	return append(named[:len(named):len(named)], all...)
}

// dispatch takes an item from the queue: it tells the application of a change, or calls the
// handlers of an event.
func (n *Node) dispatch(ctx context.Context, i item) {
	if i.status != nil {
		n.cfg.Status(ctx, *i.status)
		return
	}
	var failure error
	for _, h := range i.handlers {
		if err := h(ctx, i.event); err != nil {
			failure = err
		}
	}
	if failure == nil {
		n.counts.handled.Add(1)
		return
	}
	n.drop(BadArguments, i.event.Node, failure)
}
