package replica

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"zmtpd/forwarder"
	"zmtpd/forwarder/cluster"
	"zmtpd/forwarder/store"
)

// BenchmarkClones has 10 clones follow a store over a broker, all in this process, while one
// goroutine makes 5,000 changes a second. It reports how long a change took from the master's
// memory to that of a clone. The goal is 50 ms for p99.
func BenchmarkClones(b *testing.B) {
	const clones, rate = 10, 5000
	broker := forwarder.New(forwarder.Config{})
	defer broker.Close()
	xsub, err := broker.ListenXSub("tcp://127.0.0.1:*")
	if err != nil {
		b.Fatal(err)
	}
	xpub, err := broker.ListenXPub("tcp://127.0.0.1:*")
	if err != nil {
		b.Fatal(err)
	}
	join := func() *cluster.Node {
		node, err := cluster.Join(cluster.Config{XSub: xsub, XPub: xpub})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			node.Shutdown(ctx)
		})
		return node
	}
	s := openStore(b, store.Config{})
	defer s.Close()
	m, err := NewMaster(MasterConfig{Store: s, Bus: join(), Who: "host:1"})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute+time.Duration(b.N)*time.Second/rate)
	defer cancel()
	var running sync.WaitGroup
	late := make([][]time.Duration, clones)
	all := make([]*Clone, clones)
	for i := range all {
		c, err := NewClone(CloneConfig{Name: "hosts", Bus: join()})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		all[i] = c
	}
	for i, c := range all {
		if err := c.Ready(ctx); err != nil {
			b.Fatal(err)
		}
		running.Go(func() {
			late[i] = make([]time.Duration, 0, b.N)
			for w := c.Store().Watch(0); len(late[i]) < b.N; {
				changes, err := w.Next(ctx)
				if err != nil {
					b.Error("a clone: ", err)
					return
				}
				now := time.Now()
				for _, change := range changes {
					late[i] = append(late[i], now.Sub(change.Modified))
				}
			}
		})
	}
	value := store.Text("a value of some thirty characters")
	b.ResetTimer()
	begin := time.Now()
	for i := range b.N {
		wait := time.Until(begin.Add(time.Duration(i) * time.Second / rate))
		if wait > time.Millisecond {
			time.Sleep(wait)
		}
		key := store.Text(strconv.Itoa(i % 20_000))
		if _, err := s.Apply(ctx, "", store.Write{Op: "put", Key: key, Value: value}); err != nil {
			b.Fatal(err)
		}
	}
	running.Wait()
	b.StopTimer()
	var whole []time.Duration
	for _, l := range late {
		whole = append(whole, l...)
	}
	slices.Sort(whole)
	for name, share := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "max-ms": 1} {
		b.ReportMetric(whole[int(share*float64(len(whole)-1))].Seconds()*1e3, name)
	}
	snapshots := uint64(0)
	for _, c := range all {
		snapshots += c.Status().Snapshots
	}
	b.ReportMetric(float64(snapshots), "snapshots")
}
