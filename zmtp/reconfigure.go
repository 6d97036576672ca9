package zmtp

// Reconfigure changes limits and times of a socket that is in use:
//
//   - SendHWM, SendBytes, RecvHWM, RecvBytes and TotalRecvBytes, for all queues
//   - the three of the heartbeats, which start again
//   - MaxConnections, MaxConnectionsPerAddress, MaxMessageSize and HandshakeTimeout, for new
//     connections
//
// The other fields of cfg have no effect. Reconfigure drops nothing: a queue above its new limits
// takes nothing more until it is below them.
func (s *Socket) Reconfigure(cfg Config) {
	cfg.Memory = s.cfg.Memory
	cfg = cfg.withDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.live.Load()
	now := *before
	now.SendHWM, now.SendBytes = cfg.SendHWM, cfg.SendBytes
	now.RecvHWM, now.RecvBytes, now.TotalRecvBytes = cfg.RecvHWM, cfg.RecvBytes, cfg.TotalRecvBytes
	now.HeartbeatInterval, now.HeartbeatTimeout, now.HeartbeatTTL = cfg.HeartbeatInterval,
		cfg.HeartbeatTimeout, cfg.HeartbeatTTL
	now.MaxConnections, now.MaxConnectionsPerAddress = cfg.MaxConnections,
		cfg.MaxConnectionsPerAddress
	now.MaxMessageSize, now.HandshakeTimeout = cfg.MaxMessageSize, cfg.HandshakeTimeout
	s.live.Store(&now)
	for a := range s.attachments {
		s.limitQueue(a.outbox)
	}
	hearts := now.HeartbeatInterval != before.HeartbeatInterval ||
		now.HeartbeatTimeout != before.HeartbeatTimeout || now.HeartbeatTTL != before.HeartbeatTTL
	for p := range s.peers {
		s.limitQueue(p.outbox)
		if hearts {
			p.heart.start(p)
		}
	}
	if s.inbox != nil {
		s.inbox.limit(now.RecvHWM, now.RecvBytes, now.TotalRecvBytes)
	}
}

// limitQueue gives an outbox, if there is one, the current limits. They may have changed between
// the time when the outbox was made and the time when the socket knew it. Caller holds s.mu.
func (s *Socket) limitQueue(o *outbox) {
	if o != nil {
		live := s.live.Load()
		o.limit(live.SendHWM, live.SendBytes)
	}
}
