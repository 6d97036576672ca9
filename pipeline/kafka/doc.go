// Package kafka delivers log records to Kafka, through franz-go: a [Sink] is a [pipeline.Sink].
//
// Each record is one Kafka record. Its value is the JSON object of Zeek's ASCII writer, without a
// line feed. The topic is either the same for all records, and the object begins with the field
// "_path", or has the log path in its name.
//
// # The way of a batch
//
//  1. Send renders the batch and waits for its share of Config.MaxBuffered.
//  2. The batch is queued in its flow, behind those of the same node and log path (flow.go).
//  3. When nothing of the flow is in flight, the flow takes a group from its queue and hands it to
//     the client record by record (deliver.go): as many records as fit into the record batch that
//     the client is filling, together with those of other flows. Thus everything of a flow that is
//     in flight to a partition is in one record batch (handover.go).
//  4. When all of these are acknowledged the next records follow. When the whole group is, its
//     entries are done.
//
// So nothing of a flow is ever behind a record that has to be sent again. The size of groups adapts
// to the latency of the brokers.
//
// # Guarantees
//
// Delivery is at least once with AcksAll: an entry is done when all its records are acknowledged or
// refused. With AcksLeader only the leader has them then, and with AcksNone they were written to a
// connection: what is lost with the leader or the connection is lost.
//
// Order: the records of one node and log path in one partition keep their order. They share a
// partition unless the key is a field; then those with equal keys do, and those without the field.
// The partition depends on the key alone, as with Kafka's own producers, or without a key on node
// and log path, and on the number of partitions: a change of that number breaks the order. Order
// holds while brokers die, are slow, and leaders move. With AcksAll and idempotence there are no
// duplicates then. There may be some when a broker refuses records whose first request it did not
// answer, when it forgets the producer, and when a process ends before an acknowledgement.
//
// The sink retries until Close what may succeed later: brokers that are down, topics that do not
// exist, missing authorization. Records that a broker will never take, because they are too large
// or invalid, are refused one by one (pipeline.Refusal, isolate.go).
package kafka
