package forwarder

import (
	"strings"
	"sync/atomic"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Permissions are what a peer may do. The zero value allows everything. What a peer may not do has
// no effect and is counted. The connection stays: all other nodes would notice if it came and went.
type Permissions struct {
	// Publish and Subscribe are prefixes of the topics that the peer may publish and subscribe. Nil
	// allows all, an empty slice none. What a subscriber sends to the publishers counts as
	// published.
	Publish, Subscribe []string
}

// Denied counts what a client was not allowed to do.
type Denied struct{ Messages, Subscriptions uint64 }

// permit is what one peer may do.
type permit struct {
	Permissions
	denied *denied // of all connections with its user id; nil if it may do everything
}

// denied counts for Denied. Several goroutines add to it.
type denied struct{ messages, subscriptions atomic.Uint64 }

// permit asks Config.Permit what p may do.
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

// Allows reports whether Permissions with these prefixes allow a topic: it has one of them, or
// prefixes is nil.
func Allows(prefixes []string, topic []byte) bool {
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

// maxTopicLogged is how many bytes of a topic are logged.
const maxTopicLogged = 128

// denyMessages counts n messages that p may not publish, and logs the first of each client.
func (f *Forwarder) denyMessages(p *zmtp.Peer, d *denied, n int, topic []byte) {
	if d.messages.Add(uint64(n)) == uint64(n) {
		f.logDenied(p,
			"client may not publish the topic: messages are dropped, and from now on only counted",
			topic)
	}
}

// denySubscription counts a subscription that p may not make, and logs the first of each client.
func (f *Forwarder) denySubscription(p *zmtp.Peer, d *denied, topic []byte) {
	if d.subscriptions.Add(1) == 1 {
		f.logDenied(p,
			"client may not subscribe the topic: it is ignored, and more are only counted", topic)
	}
}

func (f *Forwarder) logDenied(p *zmtp.Peer, what string, topic []byte) {
	topic = topic[:min(len(topic), maxTopicLogged)]
	f.log.Warn(what, "peer", p.Remote(), "client", p.UserID(), "topic", string(topic))
}
