// Package kafka delivers log records to Kafka through franz-go: [Sink] is a [pipeline.Sink].
//
// Each log record is one Kafka record. Its value is the JSON object of Zeek's ASCII writer, without
// a line feed. Either all records have the same topic and the object begins with the field "_path",
// or the topic contains the log path.
//
// # The way of a batch
//
//  1. Send renders the batch and waits for its share of Config.MaxBuffered.
//  2. The batch is queued in its flow, behind earlier batches of the same node and log path
//     (flow.go).
//  3. When no record of the flow is in flight, the flow takes a group from its queue and hands it
//     to the client record by record (deliver.go). It stops when the record batch that the client
//     is filling, together with records of other flows, has no more room. So all records of a flow
//     in flight to a partition are in one record batch (handover.go).
//  4. When all of them are acknowledged, the next records follow. When the whole group is
//     acknowledged, its entries are done.
//
// So no record of a flow is in flight behind one that has to be sent again. The size of groups
// adapts to the latency of the brokers.
//
// # Guarantees
//
// Delivery is at least once with AcksAll: an entry is done when all its records are acknowledged or
// refused. With AcksLeader only the leader has them then. With AcksNone they were written to a
// connection. They are lost if the leader dies or the connection breaks.
//
// Order: the records of one node and log path in one partition keep their order. Without a field as
// key they all go to one partition. With a field as key those with equal keys do, and those without
// the field. The partition depends on the number of partitions and on the key alone, as with
// Kafka's own producers, or without a key on node and log path. So a change of the number of
// partitions breaks the order. It holds while brokers die, are slow, or hand over partitions.
//
// With AcksAll and idempotence such faults cause no duplicates. There may be duplicates when a
// broker refuses records whose first request it did not answer, when it forgets the producer, and
// when a process ends before an acknowledgement.
//
// Until Close the sink retries everything that may succeed later: brokers that are down, topics
// that do not exist, missing authorization. Records that a broker will never take, because they are
// too large or invalid, are refused one by one (pipeline.Refusal, isolate.go).
package kafka
