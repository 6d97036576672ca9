// Package kafka delivers log records to Kafka, through franz-go: a [Sink] is a [pipeline.Sink].
//
// Each record is a message of its own, whose value is the JSON object that Zeek's ASCII writer
// makes of it, without a line feed. Its topic is the same for all, then the object begins with the
// field "_path", or has the log path in its name.
//
// # The way of a batch
//
//  1. Send renders it, and waits for its share of Config.MaxBuffered.
//  2. flow: it is queued behind the batches of the same node and log path.
//  3. As soon as nothing of that flow is under way, a group of what is queued, all of it up to a
//     limit, is given to the client, record by record, see deliver.go: as many as have room in the
//     record batch that the client is filling, together with those of other flows. So all of the
//     flow that is under way to a partition is in one record batch: see handover.go.
//  4. When all of them are acknowledged the next ones follow; when the group is, its entries are
//     done.
//
// So there is never anything of a flow behind a record that has to be tried again, and how much is
// sent together follows from how long the brokers take.
//
// # What is guaranteed
//
// At least once, with AcksAll: an entry is done when all its records are acknowledged or refused.
// With AcksLeader the leader alone has them then, and with AcksNone they are written to a
// connection: what is lost with those is lost.
//
// Order: the records of one node and log path that are in one partition are in the order in which
// they came. They all are in one partition unless the key is a field; then those with equal keys
// are, and those without the field. Which partition that is depends on the key alone, as with
// Kafka's own producers, or without a key on node and log path, and on the number of partitions:
// where that is changed, order across the change is lost. It holds while brokers die, are slow, and
// leaders move. With AcksAll and idempotence there are no duplicates then; there may be some if a
// broker refuses what it did not answer for before, or forgets the producer, and when a process
// ends before the acknowledgement has come.
//
// What may get better is tried again until Close: brokers that are down, topics that do not exist,
// missing authorization. Records that the broker will not have whatever the time, because they are
// too large or invalid, are refused (pipeline.Refusal), each for itself: see isolate.go.
package kafka
