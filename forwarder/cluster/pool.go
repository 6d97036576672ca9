package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Pool is the nodes of one type, among which events are shared: Cluster::worker_pool, proxy_pool
// and logger_pool. It chooses the node that every Zeek node would choose
// (scripts/base/frameworks/cluster/pools.zeek).
type Pool struct {
	node  *Node
	sites []site
	next  map[string]int // by key, the site at which RoundRobin goes on; guarded by Node.mu
}

// site is a node of a pool.
type site struct {
	name string
	id   uint32
}

// ErrNoNode is returned if no node of a pool is up.
var ErrNoNode = errors.New("cluster: no node of the pool is up")

// Pool returns the pool of all nodes of a type in the layout. It has no nodes without a layout.
func (n *Node) Pool(t NodeType) *Pool {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pools[t]
	if p == nil {
		p = &Pool{node: n, next: map[string]int{}}
		if l := n.cfg.Layout; l != nil {
			names := l.Names(t)
			if t == Logger && l.ManagerIsLogger {
				managers := l.Names(Manager)
				names = append(names, managers[:min(len(managers), 1)]...)
			}
			p.sites = newSites(names)
		}
		n.pools[t] = p
	}
	return p
}

// newSites returns the nodes of a pool with their site ids (pools.zeek, init_pool_node).
func newSites(names []string) []site {
	sites := make([]site, 0, len(names))
	taken := make(map[uint32]struct{}, len(names))
	for _, name := range names {
		for alias := 0; ; alias++ {
			id := fnv1a(fmt.Appendf(nil, "%s.%d", name, alias))
			if _, other := taken[id]; !other {
				taken[id] = struct{}{}
				sites = append(sites, site{name, id})
				break
			}
		}
	}
	return sites
}

// RoundRobin returns the next node of the pool that is up. Each key has a round of its own. This
// node counts as up.
func (p *Pool) RoundRobin(key string) (name string, err error) {
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	for i := range p.sites {
		at := (p.next[key] + i) % len(p.sites)
		name := p.sites[at].name
		if _, up := p.node.members.names[name]; up || name == p.node.name {
			p.next[key] = (at + 1) % len(p.sites)
			return name, nil
		}
	}
	return "", ErrNoNode
}

// Rendezvous returns the node of the pool that is up and to which a key belongs, by the highest
// random weight. A key is a string, uint64 (a count), int64 (an int) or netip.Addr. This node does
// not count as up.
func (p *Pool) Rendezvous(key any) (name string, err error) {
	digest, err := digestOf(key)
	if err != nil {
		return "", err
	}
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	s, ok := heaviest(p.sites, digest, func(s site) bool {
		_, up := p.node.members.names[s.name]
		return up
	})
	if !ok {
		return "", ErrNoNode
	}
	return s.name, nil
}

// PublishRoundRobin publishes an event to the node that RoundRobin returns (Cluster::publish_rr).
func (p *Pool) PublishRoundRobin(ctx context.Context, key, event string, args ...any) error {
	name, err := p.RoundRobin(key)
	if err != nil {
		return err
	}
	return p.node.Publish(ctx, NodeTopic(name), event, args...)
}

// PublishRendezvous publishes an event to the node that Rendezvous returns (Cluster::publish_hrw).
func (p *Pool) PublishRendezvous(ctx context.Context, key any, event string, args ...any) error {
	name, err := p.Rendezvous(key)
	if err != nil {
		return err
	}
	return p.node.Publish(ctx, NodeTopic(name), event, args...)
}

// heaviest returns the eligible site with the highest weight for a digest, of several the one with
// the highest id (scripts/base/utils/hash_hrw.zeek, get_site).
func heaviest(sites []site, digest uint32, eligible func(site) bool) (best site, ok bool) {
	var most uint32
	for _, s := range sites {
		if !eligible(s) {
			continue
		}
		if w := weight(digest, s.id); !ok || w > most || w == most && s.id > best.id {
			best, most, ok = s, w, true
		}
	}
	return best, ok
}

// weight is hrw_weight of src/zeek.bif.
func weight(digest, site uint32) uint32 {
	const a, b, mask = 1103515245, 12345, 1<<31 - 1
	return (a*((a*site+b)^digest&mask) + b) & mask
}

// digestOf returns the digest of a key: fnv1a32 of src/zeek.bif. It hashes the bytes of a string,
// and of other values their description in binary (src/Val.cc, src/Desc.cc): the number of the type
// as an int and the value, in the byte order of Zeek's host, taken to be little-endian.
func digestOf(key any) (uint32, error) {
	// The numbers of the types are those of src/Type.h.
	switch k := key.(type) {
	case string:
		return fnv1a([]byte(k)), nil
	case int64:
		b := binary.LittleEndian.AppendUint32(nil, 2)
		return fnv1a(binary.LittleEndian.AppendUint64(b, uint64(k))), nil
	case uint64:
		b := binary.LittleEndian.AppendUint32(nil, 3)
		return fnv1a(binary.LittleEndian.AppendUint64(b, k)), nil
	case netip.Addr:
		b := binary.LittleEndian.AppendUint32(nil, 11)
		return fnv1a(append(append(b, addrText(k)...), 0)), nil
	}
	return 0, fmt.Errorf("cluster: a key of type %T; use string, uint64, int64 or netip.Addr", key)
}

// addrText returns the text of an address as Zeek writes it (src/3rdparty/zeek_inet_ntop.c): unlike
// Go, with the last 32 bits as a dotted quad if the address begins with exactly six groups of
// zeros, or with four of them and ffff:0.
func addrText(a netip.Addr) string {
	a = a.Unmap()
	if a.Is4() {
		return a.String()
	}
	b := a.As16()
	last := netip.AddrFrom4([4]byte(b[12:])).String()
	switch [12]byte(b[:12]) {
	case [12]byte{}:
		if b[12]|b[13] != 0 {
			return "::" + last
		}
	case [12]byte{8: 0xff, 9: 0xff}:
		return "::ffff:0:" + last
	}
	return a.String()
}

// fnv1a is the 32-bit hash FNV-1a.
func fnv1a(b []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}
