package top

import (
	"context"
	"sync"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/statusapi"
)

// Poller asks daemons for their status. It is for one goroutine at a time.
type Poller struct {
	client    *statusapi.Client
	addresses []string // for people
	urls      []string
	last      []*earlier
}

// NewPoller returns a Poller of the daemons at some addresses, those of their --http. It waits at
// most timeout for an answer.
func NewPoller(addresses []string, timeout time.Duration) (*Poller, error) {
	p := &Poller{client: statusapi.NewClient(timeout), last: make([]*earlier, len(addresses))}
	for _, a := range addresses {
		url, err := statusapi.URL(a)
		if err != nil {
			return nil, err
		}
		p.addresses, p.urls = append(p.addresses, clean(a)), append(p.urls, url)
	}
	return p, nil
}

// Poll asks all daemons at once. It blocks until all have answered, or failed.
func (p *Poller) Poll(ctx context.Context) *Snapshot {
	answers := make([]*statusapi.Status, len(p.urls))
	errs := make([]error, len(p.urls))
	times := make([]time.Time, len(p.urls))
	var asking sync.WaitGroup
	for i, url := range p.urls {
		asking.Go(func() {
			answers[i], errs[i] = p.client.Get(ctx, url)
			times[i] = time.Now()
		})
	}
	asking.Wait()
	s := &Snapshot{Time: time.Now(), Daemons: []Daemon{}, Nodes: []Node{}, Logs: []Log{},
		Topics: []Topic{}, Clients: []Client{}, Stores: []Store{}}
	for i, address := range p.addresses {
		if errs[i] != nil {
			s.Daemons = append(s.Daemons, Daemon{Address: address,
				Error: clean(daemon.RootCause(errs[i]).Error())})
			p.last[i] = nil
			continue
		}
		m := meter{address: address, before: p.last[i],
			now: earlier{times[i], answers[i], map[string]uint64{}}}
		m.add(s)
		p.last[i] = &m.now
	}
	return s
}
