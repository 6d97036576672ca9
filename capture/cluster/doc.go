// Package cluster finds what the nodes of a Zeek cluster say in the ZMTP sessions of a capture: log
// batches, events, subscriptions, hellos and the end of nodes. It counts them by node, topic, event
// and log, and follows messages through the broker.
//
//	a := cluster.New(cluster.Options{})
//	for ev, err := range reader.Events(ctx) {
//		if err != nil { ... }
//		switch item := a.Observe(&ev); item.Kind {
//		case cluster.Log:
//			fmt.Printf("%s: %d records\n", item.Batch.Path, item.Batch.NumRecords)
//		case cluster.Event:
//			fmt.Printf("%s: %s\n", item.Topic, item.Event.Name)
//		}
//	}
//	summary := a.Summary()
//
// Memory is bounded, and so is the work for one event: beyond limits, names are counted together,
// and messages count as lost to nobody.
package cluster
