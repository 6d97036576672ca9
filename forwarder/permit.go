package forwarder

import (
	"strings"
	"sync/atomic"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Permissions are what a peer may do. The zero value allows everything. What a peer may not do has no effect and is
// counted; the connection stays, since a node whose connection goes and comes tells all others of it.
type Permissions struct {
	// Publish and Subscribe are prefixes of the topics that it may publish and subscribe. Nil allows all, empty none.
	// Messages that a subscriber sends up to the publishers count as published.
	Publish, Subscribe []string
}

// Denied is what a client was not allowed to do.
type Denied struct{ Messages, Subscriptions uint64 }

// permit is what one peer may do.
type permit struct {
	Permissions
	denied *denied // of all connections with its user id; nil if it may do everything
}

// denied is Denied that several goroutines add to.
type denied struct{ messages, subscriptions atomic.Uint64 }

// permit asks what p may do.
func (f *Forwarder) permit(p *zmtp.Peer) (permit, error) {
	ask := f.cfg.Load().Permit
	if ask == nil {
		return permit{}, nil
	}
	allowed, err := ask(p)
	if err != nil {
		return permit{}, wire.Errorf(wire.AuthRefused, "%v", err)
	}
	if allowed.Publish == nil && allowed.Subscribe == nil {
		return permit{}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.denied[p.UserID()]
	if d == nil {
		d = new(denied)
		f.denied[p.UserID()] = d
	}
	return permit{allowed, d}, nil
}

// allows reports whether one of the prefixes is one of topic, or prefixes is nil.
func allows(prefixes []string, topic []byte) bool {
	if prefixes == nil {
		return true
	}
	for _, p := range prefixes {
		if strings.HasPrefix(string(topic[:min(len(topic), len(p))]), p) { // does not allocate
			return true
		}
	}
	return false
}

// maxTopicLogged bounds what is logged of a topic, in bytes.
const maxTopicLogged = 128

// denyMessages counts n messages that p may not publish, and logs the first of its client.
func (f *Forwarder) denyMessages(p *zmtp.Peer, d *denied, n int, topic []byte) {
	if d.messages.Add(uint64(n)) == uint64(n) {
		f.logDenied(p, "client may not publish the topic, messages are dropped; more for this client are only counted", topic)
	}
}

// denySubscription counts a subscription that p may not make, and logs the first of its client.
func (f *Forwarder) denySubscription(p *zmtp.Peer, d *denied, topic []byte) {
	if d.subscriptions.Add(1) == 1 {
		f.logDenied(p, "client may not subscribe the topic, it is ignored; more for this client are only counted", topic)
	}
}

func (f *Forwarder) logDenied(p *zmtp.Peer, what string, topic []byte) {
	f.log.Warn(what, "peer", p.Remote(), "client", p.UserID(), "topic", string(topic[:min(len(topic), maxTopicLogged)]))
}
