// Package kafka delivers log records to Kafka, through franz-go: a [Sink] is a [pipeline.Sink].
//
// Each record is a message of its own, whose value is the JSON object that Zeek's ASCII writer makes of it, without a line feed. Its topic
// is the same for all, then the object begins with the field "_path", or has the log path in its name.
//
// # The way of a batch
//
//  1. Send renders it, and waits for its share of Config.MaxBuffered.
//  2. flow: it is queued behind the batches of the same node and log path.
//  3. As soon as nothing of that flow is under way, a group of what is queued, all of it up to a limit, is given to the client, record by
//     record: see deliver.go. The client makes record batches of them, together with those of other flows.
//  4. The group ends when each of its records is acknowledged or refused for good. Its entries are done, and the next one starts.
//
// So the size of a group follows from how long the brokers take, and there is never anything of a flow behind a record that has to be
// tried again.
//
// # What is guaranteed
//
// At least once, with AcksAll and AcksLeader: an entry is done when all its records are acknowledged or refused. With AcksNone
// it is done when they are written to a connection, and what is lost with that is lost.
//
// Order: the records of one node and log path that are in one partition are in the order in which they came. They all are in one partition unless the key is a
// field; then those with equal keys are, and those without the field. Which partition that is depends on the key alone, as
// with Kafka's own producers, or without a key on node and log path, and on the number of partitions: where that is changed, order across the change is lost.
// It holds while brokers die, are slow, and leaders move, with AcksAll and idempotence also without duplicates; a process that ends before the acknowledgement has come leads
// to duplicates. There is one exception: if a broker refuses records and takes the next ones
// of the same group within the time that the answer takes, those overtake.
//
// What may get better is tried again until Close: brokers that are down, topics that do not exist, missing authorization. Records
// that the broker will not have whatever the time, because they are too large or invalid, are refused (pipeline.Refusal), each for
// itself: see isolate.go.
package kafka
