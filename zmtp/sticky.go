package zmtp

import "fmt"

// choice is where a message may go.
type choice struct {
	sticky bool     // to pipe alone, otherwise to any
	pipe   *outPipe // nil if there is none
}

// choose returns where m may go: with a key to the pipe with the highest score for it (rendezvous
// hashing). Caller holds the lock.
func (lb *loadBalancer) choose(m Message) choice {
	if lb.key == nil {
		return choice{}
	}
	key := lb.key(m)
	if key == nil {
		return choice{}
	}
	c := choice{sticky: true}
	h, best := hash(key), uint64(0)
	for _, p := range lb.pipes {
		if sc := score(h, p.seed); c.pipe == nil || sc > best {
			c.pipe, best = p, sc
		}
	}
	return c
}

// name is the name of a peer for rendezvous hashing: the endpoint to which it was connected, which
// is the same when it comes back. A peer that was accepted has a new name each time.
func (p *Peer) name() string {
	if p.owner.listener == nil {
		return p.owner.endpoint
	}
	return fmt.Sprint("peer ", p.id)
}

// hash is FNV-1a. It must not change: another process, or this one after a restart, that chooses
// among the same peers must make the same choice.
func hash[T string | []byte](s T) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return h
}

// score is the weight of a pipe for a key: a bijection that mixes all bits (the finalizer of
// SplitMix64).
func score(key, seed uint64) uint64 {
	x := key ^ seed
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
