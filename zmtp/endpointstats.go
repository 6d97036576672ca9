package zmtp

// EndpointStats are the counters of an endpoint given to Connect, of all its connections together. Bytes are those of the
// parts, without framing, unless said otherwise.
type EndpointStats struct {
	Endpoint    string
	Connected   bool    // there is a connection whose handshake is complete
	Connections uint64  // whose handshake was completed
	In, Out     Traffic // Out with what was taken back
	Returned    uint64  // messages in Out that a Push took back when a connection was lost, for other peers
	Dropped     Drops   // messages that were meant for it and given up
	Queued      int     // messages that wait for it
	QueuedBytes int64   // on the wire
}

// add counts a connection that has ended: what it took, and how many messages of that were taken back.
func (e *EndpointStats) add(p *Peer, out Traffic, returned int) {
	e.Connections++
	e.In.Add(p.in.load())
	e.Out.Add(out)
	e.Returned += uint64(returned)
	for r, n := range p.dropped.load() {
		e.Dropped[r] += n
	}
}

// Connecters returns a snapshot of the counters of each endpoint given to Connect that was not given up, in no order.
func (s *Socket) Connecters() []EndpointStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []EndpointStats
	index := map[*attachment]int{}
	for a := range s.attachments {
		if a.listener != nil {
			continue
		}
		st := a.past
		st.Endpoint = a.endpoint
		if a.outbox != nil {
			st.Out = a.outbox.traffic()
			st.Queued, st.QueuedBytes, _ = a.outbox.level()
		}
		index[a] = len(all)
		all = append(all, st)
	}
	for p := range s.peers {
		i, ok := index[p.owner]
		if !ok {
			continue
		}
		st := &all[i]
		st.Connected = true
		out := Traffic{}
		if !p.parked {
			out = p.outbox.traffic()
			st.Queued, st.QueuedBytes, _ = p.outbox.level()
		}
		st.add(p, out, 0)
	}
	return all
}
