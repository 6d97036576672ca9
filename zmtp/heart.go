package zmtp

import (
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp/wire"
)

// heart runs the heartbeats of a peer (RFC 37, "Heartbeating"). It sends a PING at each interval,
// and gives the connection up when nothing comes within the timeout after a PING of ours, or within
// the TTL of a PING of the peer's.
type heart struct {
	armed atomic.Bool // one of the two deadlines runs

	mu      sync.Mutex
	stopped bool
	ping    *time.Timer
	timeout *time.Timer // after our PING
	ttl     *time.Timer // after the peer's PING
}

// start begins to send PINGs, if the socket is configured to. It is called again when the
// configuration has changed; the deadline of a PING that is under way stays.
func (h *heart) start(p *Peer) {
	cfg := p.socket.live.Load()
	frame := wire.AppendPing(nil, int(cfg.HeartbeatTTL/(100*time.Millisecond)))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ping != nil {
		h.ping.Stop()
		h.ping = nil
	}
	if h.stopped || cfg.HeartbeatInterval <= 0 {
		return
	}
	var ping *time.Timer
	ping = time.AfterFunc(cfg.HeartbeatInterval, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.stopped || h.ping != ping {
			return
		}
		ping.Reset(cfg.HeartbeatInterval)
		if !p.backlog.waiting.Load() || p.suspicion.Load() != nil {
			return // there is something to read, or the read loop is checking that
		}
		if h.timeout == nil {
			// Before the PING goes out, so that the answer finds the deadline that it disarms.
			h.timeout = h.deadline(p, cfg.HeartbeatTimeout, wire.HeartbeatTimeout, &h.timeout)
			h.armed.Store(true)
		}
		p.outbox.command(frame)
	})
	h.ping = ping
}

// deadline returns a timer that after d gives the connection up, unless there is something to read.
// Caller holds the lock.
func (h *heart) deadline(p *Peer, d time.Duration, r Reason, self **time.Timer) *time.Timer {
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.stopped || *self != t {
			return // disarmed while it fired, and perhaps armed again
		}
		p.suspect(wire.Errorf(r, "nothing came from the peer for %v", d))
	})
	return t
}

// seen disarms the deadlines: something came from the peer.
func (h *heart) seen() {
	if !h.armed.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.disarm()
}

// disarm stops both deadlines. Caller holds the lock.
func (h *heart) disarm() {
	for _, t := range []**time.Timer{&h.timeout, &h.ttl} {
		if *t != nil {
			(*t).Stop()
			*t = nil
		}
	}
	h.armed.Store(false)
}

// expect arms the deadline that the TTL of a PING sets; the next frame disarms it, as in libzmq.
func (h *heart) expect(p *Peer, ttl time.Duration) {
	if ttl <= 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped || h.ttl != nil {
		return
	}
	h.ttl = h.deadline(p, ttl, wire.TTLExpired, &h.ttl)
	h.armed.Store(true)
}

// stop ends everything.
func (h *heart) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	if h.ping != nil {
		h.ping.Stop()
	}
	h.disarm()
}
