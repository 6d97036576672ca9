// Package memory bounds the memory that all parts of a process take together.
//
// A [Budget] has a limit and any number of holders. A [Holder] reserves memory before it allocates,
// and releases it when nothing uses it any more, in units such as buffers of 64 KiB: a message must
// cost next to nothing.
//
//   - What comes in waits for memory ([Holder.Reserve]). Meanwhile its peer is not read, which is
//     back-pressure.
//   - What waits to go out does not wait for memory ([Holder.TryReserve]). Without memory its queue counts
//     as full.
//   - What must not wait, because it is small or because it frees memory in the end, is only counted
//     ([Holder.Add]).
//
// When memory becomes scarce, the holders that have most have to wait first. A holder that has
// little goes on. When a reservation has waited for 5 seconds, or the limit has been exceeded that
// long, the largest holder is closed, and others after it until there is enough. Holders that wait
// themselves, and those that move data at a fair rate ([Holder.Progress]), are closed last.
//
// Some holders cannot be closed, such as the window of a sink. Their owners have to bound them.
// While they have more than half of the memory, no other is closed either: a sink does not keep up
// then, which is not the fault of a peer.
//
// [Available] returns how much memory the process may use, from which a program derives its limit.
package memory
