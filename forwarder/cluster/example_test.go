package cluster_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"time"

	"zmtpd/forwarder"
	"zmtpd/forwarder/cluster"
)

// Two nodes meet at a broker. When worker-1 is up, the manager sends it an event, and it answers.
func Example() {
	broker := forwarder.New(forwarder.Config{}) // "zmtpd forwarder" in this process
	defer broker.Close()
	xsub, err := broker.ListenXSub("tcp://127.0.0.1:*")
	if err != nil {
		log.Fatal(err)
	}
	xpub, err := broker.ListenXPub("tcp://127.0.0.1:*")
	if err != nil {
		log.Fatal(err)
	}
	layout := &cluster.Layout{Nodes: map[string]cluster.NodeType{
		"manager": cluster.Manager, "worker-1": cluster.Worker}}

	// The arguments of an event are the fields of a struct.
	type block struct {
		Addr netip.Addr
		For  time.Duration
	}
	var manager *cluster.Node
	up := make(chan struct{})
	done := make(chan struct{})
	manager, err = cluster.Join(cluster.Config{Name: "manager", Layout: layout,
		XSub: xsub, XPub: xpub, Status: func(_ context.Context, s cluster.Status) {
			if s.Kind == cluster.PeerAdded {
				fmt.Println("up:", s.Peer.Name)
				close(up)
			}
		}})
	if err != nil {
		log.Fatal(err)
	}
	cluster.Handle(manager, "Site::blocked", func(_ context.Context, _ cluster.Event, args struct {
		Addr netip.Addr
	}) {
		fmt.Println("blocked:", args.Addr)
		close(done)
	})
	worker, err := cluster.Join(cluster.Config{Name: "worker-1", Layout: layout,
		XSub: xsub, XPub: xpub})
	if err != nil {
		log.Fatal(err)
	}
	cluster.Handle(worker, "Site::block", func(ctx context.Context, _ cluster.Event, args block) {
		fmt.Println("block:", args.Addr, "for", args.For)
		err := worker.Publish(ctx, cluster.NodeTopic("manager"), "Site::blocked", args.Addr)
		if err != nil {
			log.Print(err)
		}
	})

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	<-up
	err = manager.Publish(ctx, cluster.NodeTopic("worker-1"), "Site::block",
		netip.MustParseAddr("192.0.2.7"), 10*time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	<-done
	if err := worker.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	if err := manager.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// up: worker-1
	// block: 192.0.2.7 for 10m0s
	// blocked: 192.0.2.7
}
