// Package store has named key-value stores for the nodes of a Zeek cluster: what the distributed
// stores of Broker did.
//
// Keys and values are values of Zeek, as [event.Raw]. [Open] opens a store, in memory or with a
// [Backend] that keeps it. All its entries are in memory, also with a backend, which is written
// only, and read once by Open.
//
//	s, err := store.Open(store.Config{Name: "hosts", Backend: backend})
//	err = s.Update(ctx, "worker-1", func(tx *store.Tx) error {
//		if e := tx.Get(key); e != nil && e.Expires.IsZero() {
//			return nil
//		}
//		return tx.Put(key, value, tx.In(time.Hour))
//	})
//	entry := s.Get(key)
//
// Update is the only way to change a store. All changes of a call are made together, or none of
// them: a batch, a condition and a change that depends on a read are the same thing. No other
// change is made meanwhile. [Write] is a change as data, to be sent elsewhere; [Store.Apply] makes
// several of them in one Update. [Typed] reads and writes Go values.
//
// A change of a large set, table or vector costs O(log n): the new [Value] shares what stays the
// same with the old one, which its readers keep. A backend gets it as a whole.
//
// # Durability
//
// [Sync] says when Update returns. With [Always] the changes are on disk and survive a power
// failure; with [Group] the operating system has them, so they survive the end of the process; with
// [Off] they are in memory, and are written in the background. Updates that wait at the same time
// share one transaction of the backend. A read may see a change that is not on disk yet. If the
// backend fails, all changes that it has not taken are undone and their Updates return
// [BackendFailure], except with Off: then the store tries again.
//
// # Changes
//
// Each change has a sequence number, and says who made it and when. [Store.Watch] returns the
// changes behind a number, as long as the store still has them, and waits for new ones. The numbers
// begin anew, or again at an older number, when the store is opened: [Store.Epoch] tells one run
// from another.
//
// # Departures from Broker
//
// An expired entry is absent at once, not only at the next tick of 100 ms. A sum that does not fit
// its type is an error, [InvalidData]; in Broker it wraps. There is a compare-and-set, and there
// are batches.
package store
