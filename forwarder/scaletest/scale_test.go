//go:build unix

package scaletest

import (
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// large reports whether the tests are those of `make scale`.
var large = os.Getenv("ZMTPD_SCALE") == "large"

// scaled returns the size of a test.
func scaled(small, big int) int {
	if large {
		return big
	}
	return small
}

const topicsOfNode = 5

// TestStartAndEnd starts all nodes of a cluster at once, and then ends all but a few at once. Every
// node must learn of every subscription, and every survivor of every cancellation.
func TestStartAndEnd(t *testing.T) {
	b := start(t)
	nodes, survivors := scaled(50, 1000), scaled(5, 20)
	before := b.memory()
	begin := time.Now()
	all := b.joinAll(nodes, topicsOfNode, 0)
	everybodySees := func(who []*node, topics int) func() bool {
		return func() bool {
			for len(who) > 0 && who[0].sees(t) == topics {
				who = who[1:]
			}
			return len(who) == 0
		}
	}
	testkit.Within(t, patience, "every node has seen all subscriptions",
		everybodySees(all, nodes*topicsOfNode))
	took := time.Since(begin)
	t.Logf("%d nodes with %d topics each: every node has seen all subscriptions after %v", nodes,
		topicsOfNode, took.Round(time.Millisecond))
	if limit := 10 * time.Second; large && took > limit {
		t.Errorf("that took more than %v", limit)
	}
	t.Logf("memory of the broker: %d KiB a node, which is two connections and %d subscriptions",
		(b.memory()-before)/int64(nodes)>>10, topicsOfNode)

	begin = time.Now()
	for _, n := range all[survivors:] {
		n.die()
	}
	testkit.Within(t, patience, "every survivor has seen all unsubscriptions",
		everybodySees(all[:survivors], survivors*topicsOfNode))
	t.Logf("%d nodes gone: %d survivors have seen all unsubscriptions after %v", nodes-survivors,
		survivors, time.Since(begin).Round(time.Millisecond))
	testkit.Within(t, patience, "the broker has forgotten those that are gone", func() bool {
		r := b.ask("now")
		return r.Publishers == survivors && r.Subscribers == survivors &&
			r.Topics == survivors*topicsOfNode
	})
}

// TestIdleConnections measures the memory of an idle connection.
func TestIdleConnections(t *testing.T) {
	b := start(t)
	connections := scaled(200, 10_000)
	before := b.memory()
	conns := make([]net.Conn, 0, connections)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range connections {
		addr, typ := b.XPub, wire.SUB
		if i%2 == 0 {
			addr, typ = b.XSub, wire.PUB
		}
		c, err := dial(addr, typ)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conns = append(conns, c)
	}
	testkit.Within(t, patience, "all are there", func() bool {
		r := b.ask("now")
		return r.Publishers+r.Subscribers == connections
	})
	each := (b.memory() - before) / int64(connections)
	t.Logf("%d idle connections: %d bytes each", connections, each)
	if limit := int64(64 << 10); each > limit && !testkit.Race {
		t.Errorf("more than %d bytes", limit)
	}
}

// TestTopics measures the memory of a subscription, and checks that a late publisher learns of all
// of them.
func TestTopics(t *testing.T) {
	b := start(t)
	subscribers := scaled(2, 10)
	topics := scaled(1000, 10_000) // of each
	before := b.memory()
	begin := time.Now()
	b.joinAll(subscribers, topics, 0)
	testkit.Within(t, patience, "all topics are subscribed",
		func() bool { return b.ask("now").Topics == subscribers*topics })
	t.Logf("%d topics subscribed after %v, %d bytes each", subscribers*topics,
		time.Since(begin).Round(time.Millisecond),
		(b.memory()-before)/int64(subscribers*topics))
	begin = time.Now()
	late := b.joinAll(1, 0, 0)[0]
	testkit.Within(t, patience, "the late one has seen all",
		func() bool { return late.sees(t) == subscribers*topics })
	t.Logf("a late publisher has seen them after %v", time.Since(begin).Round(time.Millisecond))
}

// TestChurn connects and ends nodes all the time. They must leave nothing behind.
func TestChurn(t *testing.T) {
	b := start(t)
	witness := b.joinAll(1, 0, 0)[0]
	round := func(d time.Duration) (lives int) {
		const slots = 50
		var all sync.WaitGroup
		var mu sync.Mutex
		end := time.Now().Add(d)
		for slot := range slots {
			all.Go(func() {
				for time.Now().Before(end) {
					n, err := b.join(slot*topicsOfNode, topicsOfNode)
					if err != nil {
						t.Error(err)
						return
					}
					if rand.IntN(2) == 0 { // half of them live until they are known
						for n.sees(t) == 0 {
							select {
							case <-n.done:
							case <-time.After(time.Millisecond):
							}
						}
					}
					n.die()
					<-n.done
					mu.Lock()
					lives++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		testkit.Within(t, patience, "all are gone", func() bool {
			r := b.ask("now")
			return r.Publishers == 1 && r.Subscribers == 1 && r.Topics == 0 && witness.sees(t) == 0
		})
		return lives
	}
	warm := time.Duration(scaled(500, 30_000)) * time.Millisecond
	lives := round(warm)
	first := b.ask("memory")
	lives += round(4 * warm)
	last := b.ask("memory")
	t.Logf("%d lives of nodes: memory %d KiB, then %d KiB; goroutines %d, then %d", lives,
		first.Memory>>10, last.Memory>>10, first.Goroutines, last.Goroutines)
	if last.Goroutines > first.Goroutines+5 {
		t.Error("goroutines stay behind")
	}
	if limit := first.Memory + first.Memory/2 + 8<<20; last.Memory > limit && !testkit.Race {
		t.Errorf("memory grows beyond %d KiB", limit>>10)
	}
}
