// Package memory bounds the memory that all parts of a process take together.
//
// A [Budget] has a limit and any number of holders. A [Holder] reserves memory before it allocates,
// and releases it when it is no longer in use. It does so in units such as buffers of 64 KiB, so
// that a message costs next to nothing.
//
//   - Input waits for memory ([Holder.Reserve]). Meanwhile its peer is not read, which is
//     back-pressure.
//   - Output does not wait for memory ([Holder.TryReserve]). Without memory its queue counts as
//     full.
//   - Small amounts, and memory that is needed to free other memory, are only counted
//     ([Holder.Add]).
//
// When memory becomes scarce, the largest holders are the first that have to wait, and small ones
// go on. When a reservation has waited for 5 seconds, or the limit has been exceeded for that time,
// the largest holder is closed, and then others until there is enough memory. Holders that wait,
// and those that move data at a fair rate ([Holder.Progress]), are closed last.
//
// Some holders cannot be closed, such as the window of a sink. Their owners have to bound them.
// While they have more than half of the memory, no other holder is closed either: then a sink is
// too slow, which is not the fault of a peer.
//
// [Available] returns the amount of memory that the process may use. A program derives its limit
// from it.
package memory
