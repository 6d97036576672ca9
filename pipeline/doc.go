// Package pipeline takes the log batches that the nodes of a Zeek cluster push over ZeroMQ to their
// destinations.
//
//	sink, err := files.New(files.Config{Dir: "logs"})
//	outlet, err := pipeline.NewOutlet(sink, pipeline.OutletConfig{Name: "files"})
//	pull := zmtp.NewPull(zmtp.Config{})
//	_, err = pull.Listen("tcp://127.0.0.1:5557")
//	receiver := pipeline.Serve(pull, logger, outlet)
//	...
//	err = errors.Join(receiver.Shutdown(ctx), outlet.Close(ctx)) // in this order
//
// A [Receiver] reads a PULL socket, checks the messages and hands each of them to every [Outlet].
// An Outlet is the bounded queue in front of one [Sink], so that a sink which is slow or down
// delays no other; a spool on disk may take what is too much for memory. The sinks are in packages
// of their own: files, stdout, kafka.
//
// Every message that was received is written, dropped for a [Reason], or queued: in all, for each
// log and for each node; see [Accounts].
package pipeline
