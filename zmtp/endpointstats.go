package zmtp

// EndpointStats are the counters of an endpoint given to Connect, of all its connections together,
// taken at one moment. For a Push, Out.Messages-Returned-Queued is the number of messages that were
// handed to the kernel whole; it never decreases.
type EndpointStats struct {
	Endpoint    string
	Connected   bool    // there is a connection whose handshake is complete
	Connections uint64  // whose handshake was completed
	In, Out     Traffic // a message counts in Out as soon as it is queued
	// messages in Out that a Push took back when a connection was lost, for other peers
	Returned    uint64
	Dropped     Drops  // messages that were meant for it and given up
	Queued      int    // messages that wait for it
	QueuedBytes int64  // on the wire
	Written     uint64 // bytes handed to the kernel
}

// add counts a connection.
func (e *EndpointStats) add(p *Peer) {
	e.Connections++
	e.In.Add(p.in.load())
	for r, n := range p.dropped.load() {
		e.Dropped[r] += n
	}
	if !p.parked {
		e.addQueue(p.outbox)
	}
}

func (e *EndpointStats) addQueue(o *outbox) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e.Out.Add(o.sent)
	e.Returned += uint64(o.returned)
	e.Queued += o.msgs
	e.QueuedBytes += o.bytes
	e.Written += o.written
}

// Connecters returns a snapshot of the counters of each endpoint given to Connect that was not
// given up, in no order.
func (s *Socket) Connecters() []EndpointStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]EndpointStats, 0, len(s.attachments))
	index := make(map[*attachment]int, len(s.attachments))
	for a := range s.attachments {
		if a.listener != nil {
			continue
		}
		st := a.past
		st.Endpoint = a.endpoint
		if a.outbox != nil {
			st.addQueue(a.outbox)
		}
		index[a] = len(all)
		all = append(all, st)
	}
	for p := range s.peers {
		if i, ok := index[p.owner]; ok {
			all[i].Connected = true
			all[i].add(p)
		}
	}
	return all
}
