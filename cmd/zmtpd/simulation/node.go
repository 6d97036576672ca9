package simulation

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"zmtpd/forwarder/cluster"
)

// node is one process of a node of the cluster.
type node struct {
	*cluster.Node
	s       *simulation
	name    string
	process string // name and number of the process
	worker  bool
	traffic traffic
	got     *arrivals
	logs    *logs // of a worker
}

// The arguments of the three events. The first two number the event; the rest is what such events
// have in a real cluster.
type (
	finding struct {
		Process string
		Number  uint64
		At      time.Time
		Host    netip.Addr
		Note    string
	}
	host struct {
		Process string
		Number  uint64
		Host    netip.Addr
		Ports   []uint64
	}
	indicator struct {
		Process string
		Number  uint64
		Address netip.Addr
		For     time.Duration
	}
)

// join starts the process number n of the node with a name.
func (s *simulation) join(name string, n int, slow bool) (*node, error) {
	c, err := cluster.Join(cluster.Config{Name: name, Layout: s.layout, XSub: s.cfg.XSub,
		XPub: s.cfg.XPub, Socket: s.cfg.Socket, Logger: s.cfg.Logger.With("node", name)})
	if err != nil {
		return nil, err
	}
	v := &node{
		Node: c, s: s, name: name, process: processName(name, n),
		worker:  s.layout.Nodes[name] == cluster.Worker,
		traffic: traffic{rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))},
		got:     &arrivals{slow: slow, of: make(map[stream]*arrival)},
	}
	cluster.Handle(c, names[findings], func(ctx context.Context, _ cluster.Event, e finding) {
		v.arrived(ctx, stream{findings, e.Process, name}, e.Number)
	})
	cluster.Handle(c, names[hosts], func(ctx context.Context, _ cluster.Event, e host) {
		v.arrived(ctx, stream{hosts, e.Process, name}, e.Number)
	})
	cluster.Handle(c, names[indicators], func(ctx context.Context, _ cluster.Event, e indicator) {
		v.arrived(ctx, stream{indicators, e.Process, ""}, e.Number)
	})
	if v.worker {
		if v.logs, err = s.newLogs(v.Self().ID); err != nil {
			v.die()
			return nil, err
		}
	}
	s.joined(v)
	return v, nil
}

// arrived notes an event.
func (v *node) arrived(ctx context.Context, s stream, number uint64) {
	v.got.got(s, number)
	if !v.got.slow {
		v.s.arrived.Add(1)
		return
	}
	select {
	case <-time.After(slowness):
	case <-ctx.Done():
	}
}

// slowness is how long a slow worker takes for an event.
const slowness = 100 * time.Millisecond

// die ends the process as a crash does: without sending what waits.
func (v *node) die() {
	v.got.end()
	v.s.book.died(v.process)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	v.Shutdown(ctx)
	if v.logs != nil {
		v.logs.kill()
	}
}

// send publishes the event of a stream, with its number.
func (v *node) send(ctx context.Context, k kind, to, topic string,
	args func(number uint64) []any) error {
	s := stream{k, v.process, to}
	if err := v.Publish(ctx, topic, names[k], args(v.s.book.next(s))...); err != nil {
		return err
	}
	v.s.book.taken(s)
	v.s.sent.Add(1)
	return nil
}

// event sends one event, as the node's type does.
func (v *node) event(ctx context.Context) error {
	at := v.traffic.client()
	if !v.worker {
		return v.send(ctx, indicators, "", cluster.Worker.Topic(), func(n uint64) []any {
			return []any{v.process, n, v.traffic.server(), time.Hour}
		})
	}
	if v.s.cfg.Proxies > 0 && v.traffic.IntN(3) == 0 {
		proxy, err := v.Pool(cluster.Proxy).Rendezvous(at)
		if err != nil {
			return err
		}
		return v.send(ctx, hosts, proxy, cluster.NodeTopic(proxy), func(n uint64) []any {
			return []any{v.process, n, at, []uint64{22, 443}}
		})
	}
	return v.send(ctx, findings, manager, cluster.NodeTopic(manager), func(n uint64) []any {
		return []any{v.process, n, time.Now(), at, "SSH::Password_Guessing"}
	})
}
