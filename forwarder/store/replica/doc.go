// Package replica copies stores over the event bus of a Zeek cluster: a [Master] publishes the
// changes of a store, and each [Clone] has all its entries. Zeek scripts reach the store by events.
//
// # Events
//
// The store NAME has two topics. Masters subscribe zmtpd.store.NAME.master; clones subscribe
// zmtpd.store.NAME.clones, and a topic of their own for answers.
//
//	zmtpd_store_request(reply: string, id: count, op: string, key: any, value: any, index: any,
//	                    ttl: interval)
//	zmtpd_store_reply(id: count, code: count, done: bool, value: any, detail: string)
//
// A request goes to the master's topic, and its reply to the topic that it names, such as that of
// the node. The operations are those of [store.Write], and get, exists, keys and get_index. For
// compare_and_set, index is the old value; elsewhere, what an operation does not need is ignored. A
// write that is repeated, with the same topic and id, is carried out once by a run of the master.
// The code is 0 or that of Broker's error; done says whether the condition of the operation was
// met.
//
//	zmtpd_store_batch(reply, id, who: string, writes: vector of [op, key, value, index, ttl])
//	zmtpd_store_sync(reply, epoch: count, after: count)
//	zmtpd_store_changes(epoch, changes), zmtpd_store_snapshot(epoch, seq, part, last, entries)
//	zmtpd_store_alive(epoch, started: time, seq, who), zmtpd_store_claim(epoch, started, who)
//	zmtpd_store_following(topic: string, behind: count)
//
// These are for masters and clones. A change of a large set, table or vector has the elements that
// come and go, not all of them. A clone asks for what is behind the last change that it has. It
// gets the changes if the master still has them, and else all entries in parts. The broker may drop
// events, and connections break: the clone sees that numbers are missing, or from the master's sign
// of life, once a second, that it is behind, and asks again. It answers each sign of life with the
// number of changes that it lacked then, so the master can count its clones. The epoch tells one run
// of the master from another.
//
// A master says at its start that it claims the name. If another answers, it ends with
// [store.MasterExists]; of two that find each other later, the one that started last ends.
package replica

import (
	"context"
	"time"

	"zmtpd/forwarder/cluster"
)

// Bus is the event bus: a [cluster.Node]. Handlers are called one after the other.
type Bus interface {
	Publish(ctx context.Context, topic, name string, args ...any) error
	Subscribe(prefix string) error
	HandleAll(f func(ctx context.Context, e cluster.Event))
}

// MasterTopic returns the topic of requests to the master of a store.
func MasterTopic(name string) string { return "zmtpd.store." + name + ".master" }

// ClonesTopic returns the topic of what its clones follow.
func ClonesTopic(name string) string { return "zmtpd.store." + name + ".clones" }

const (
	aliveInterval = time.Second
	staleAfter    = 5 * time.Second // without a sign of life
	claimWait     = 2 * time.Second // for another master to answer
	askAgain      = time.Second     // for what has not come
	publishWait   = 5 * time.Second // for the broker to take an event; then it is lost
	partSize      = 1 << 20         // bytes of changes or entries in an event, roughly
)
