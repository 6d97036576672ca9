package replica

import (
	"maps"
	"time"

	"zmtpd/forwarder/cluster"
	"zmtpd/forwarder/store"
)

const (
	maxClones = 4096 // that are counted
	maxTopic  = 256  // bytes of the topic of a clone
)

// follower is what a clone has said of itself.
type follower struct {
	behind uint64
	heard  time.Time
}

// following takes what a clone says of itself.
func (m *Master) following(e cluster.Event) error {
	var a struct {
		Clone  string
		Behind uint64
	}
	if err := e.DecodeArgs(&a); err != nil {
		return err
	}
	if len(a.Clone) > maxTopic {
		return store.Errorf(store.InvalidData, "the topic of a clone has %d bytes", len(a.Clone))
	}
	m.follow(a.Clone, a.Behind)
	return nil
}

// forget removes the clones that were not heard of. The caller holds mu.
func (m *Master) forget() {
	maps.DeleteFunc(m.clones, func(_ string, f follower) bool {
		return time.Since(f.heard) > staleAfter
	})
}

// count returns the number of clones that were heard of, and the most changes that one of them
// lacks. The caller holds mu.
func (m *Master) count() (clones int, behind uint64) {
	m.forget()
	for _, f := range m.clones {
		behind = max(behind, f.behind)
	}
	return len(m.clones), behind
}

// follow notes what a clone says of itself.
func (m *Master) follow(topic string, behind uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.clones[topic]; !known && len(m.clones) >= maxClones {
		if m.forget(); len(m.clones) >= maxClones {
			return
		}
	}
	m.clones[topic] = follower{behind, time.Now()}
}
