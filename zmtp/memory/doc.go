// Package memory bounds the memory that all parts of a process take together.
//
// A [Budget] has a limit and any number of holders. A [Holder] reserves memory before it allocates and
// releases it when nobody uses it any more, in coarse units such as buffers of 64 KiB: accounting has to
// cost next to nothing for each message.
//
//   - What comes in waits for memory ([Holder.Reserve]). Whoever reads from a peer stops reading
//     meanwhile, which is back-pressure.
//   - What waits to go out does not wait for memory ([Holder.TryReserve]): to the queue it is as if it
//     were full.
//   - What must not wait, because it is small or frees memory when it goes on, is counted only
//     ([Holder.Add]).
//
// When memory becomes scarce, the holders that have most wait first; a holder that has little goes on.
// When a reservation has waited for 5 seconds, or the limit was exceeded as long, the largest holder is
// closed, and others after it until memory suffices. Those that wait themselves, and those whose
// peers read or send at a fair rate ([Holder.Progress]), are closed last. A holder that cannot be closed, such as a
// sink's window, is bounded by whoever made it. If these have more than half of the memory, nobody is
// closed: then a sink does not keep up, which is no peer's fault.
//
// [Available] tells how much memory the process may use, for a default of the limit.
package memory
