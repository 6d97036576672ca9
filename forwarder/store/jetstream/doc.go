// Package jetstream keeps the entries of a store in a key-value bucket of NATS JetStream, for
// sites where one machine is not enough: NATS replicates the bucket, and zmtpd can be started on
// another machine with the same store.
//
// # Layout
//
// The store NAME has the bucket zmtpd_NAME, the stream KV_zmtpd_NAME, with one message for each
// key:
//
//	zmtpd            the record of the bucket: owner, number of the last change, generation
//	e5.kBQFh         an entry of generation 5
//	j6.0             a part of a commit that is too large for one batch
//
// The name of an entry is "k" and its key in base64url; for a long key, "h" and the SHA-256 of it.
// All values are vectors in broker-bin-v1. A Clear begins a new generation, so it is one message,
// however many entries there are; the old generation is purged afterwards.
//
// # Commits
//
// A commit is an atomic batch of JetStream (ADR-50, NATS 2.12): the entries, and the record of the
// bucket. The record is written on condition that it still has the revision which this process
// knows. So a process that another one has replaced cannot write anything any more. A commit that
// does not fit a batch is written as a journal first; a record that names the journal makes it
// valid; then its entries follow. The next owner completes it if that is interrupted.
//
// # Durability
//
// Commit returns when JetStream has acknowledged the batch: with one replica the server has written
// it to its file, with three a majority has. That is all that a client can ask for, so
// [store.Always] and [store.Group] are the same. What survives a power failure of all replicas is
// decided by the server's sync_interval.
//
// If no acknowledgement comes within Config.Timeout, Commit fails, and the store undoes the
// changes. The bucket may have them all the same. So the next commit also writes the entries as
// they were before; until then, a restart may find a write that was refused, always as a whole.
package jetstream
