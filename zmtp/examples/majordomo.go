package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"zmtpd/zmtp"
)

// The Majordomo protocol, RFC 7. The first part names the protocol, and for workers the second is
// a command.
const (
	mdpClient = "MDPC01"
	mdpWorker = "MDPW01"

	mdpReady      = "\x01"
	mdpRequest    = "\x02"
	mdpReply      = "\x03"
	mdpHeartbeat  = "\x04"
	mdpDisconnect = "\x05"
)

// mdpLiveness is how many heartbeats may be missed before the other side counts as dead.
const mdpLiveness = 3

// mdpMaxWaiting bounds the requests that wait for a worker of one service.
const mdpMaxWaiting = 1000

// service is a queue of requests, and of workers that wait for one. One of them is empty.
type service struct {
	requests []zmtp.Message // the routing id of the client, and the body
	workers  []string
}

// worker is a worker that the broker knows.
type worker struct {
	service *service
	until   time.Time // when it is given up if it says nothing
}

// majordomo is the state of a broker.
type majordomo struct {
	s         *zmtp.Router
	heartbeat time.Duration
	services  map[string]*service
	workers   map[string]*worker
}

// majordomoBroker gives requests of clients to workers by the name of the service. It answers
// requests for "mmi.service" itself: 200 if there is a worker for the service in the body, else 404
// (RFC 8).
func majordomoBroker(ctx context.Context, s *zmtp.Router, heartbeat time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &majordomo{s: s, heartbeat: heartbeat, services: make(map[string]*service),
		workers: make(map[string]*worker)}
	messages := incoming(ctx, s)
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		var err error
		select {
		case m, ok := <-messages:
			if !ok {
				return context.Cause(ctx)
			}
			// The routing id, an empty part, the protocol, and at least one more.
			head, rest, ok := cutParts(m, 3)
			switch {
			case !ok || len(head[1]) != 0:
			case string(head[2]) == mdpClient:
				err = b.fromClient(ctx, head[0], rest)
			case string(head[2]) == mdpWorker:
				err = b.fromWorker(ctx, string(head[0]), rest)
			}
		case now := <-tick.C:
			err = b.beat(ctx, now)
		}
		if err != nil {
			return err
		}
	}
}

func (b *majordomo) service(name string) *service {
	s := b.services[name]
	if s == nil {
		s = new(service)
		b.services[name] = s
	}
	return s
}

// fromClient takes a request: the name of a service and the body.
func (b *majordomo) fromClient(ctx context.Context, client []byte, m zmtp.Message) error {
	name, body := m.CutPart()
	if body.NumParts() == 0 {
		return nil
	}
	if string(name) == "mmi.service" {
		status := "404"
		if s := b.services[string(body.Part(0))]; s != nil && b.count(s) > 0 {
			status = "200"
		}
		return b.s.Send(ctx, zmtp.NewMessage(client, nil, []byte(mdpClient), name, []byte(status)))
	}
	s := b.service(string(name))
	if len(s.requests) == mdpMaxWaiting {
		return nil // the client asks again
	}
	s.requests = append(s.requests, body.Prepend(client, nil))
	return b.dispatch(ctx, s)
}

// count returns the workers of a service, also those that are busy.
func (b *majordomo) count(s *service) (n int) {
	for _, w := range b.workers {
		if w.service == s {
			n++
		}
	}
	return n
}

// fromWorker takes a command of a worker.
func (b *majordomo) fromWorker(ctx context.Context, id string, m zmtp.Message) error {
	command, rest := m.CutPart()
	w := b.workers[id]
	switch {
	case string(command) == mdpReady && w == nil && rest.NumParts() == 1:
		w = &worker{service: b.service(string(rest.Part(0)))}
		b.workers[id] = w
		return b.waits(ctx, id, w)
	case string(command) == mdpReply && w != nil:
		// The routing id of the client, an empty part, the body.
		if head, body, ok := cutParts(rest, 2); ok {
			name := b.nameOf(w.service)
			reply := body.Prepend(head[0], nil, []byte(mdpClient), []byte(name))
			if err := b.s.Send(ctx, reply); err != nil {
				return err
			}
		}
		return b.waits(ctx, id, w)
	case string(command) == mdpHeartbeat && w != nil:
		w.until = time.Now().Add(mdpLiveness * b.heartbeat)
	case string(command) == mdpDisconnect && w != nil:
		b.remove(id, w)
	case w == nil || string(command) == mdpReady: // out of turn: it begins again
		if w != nil {
			b.remove(id, w)
		}
		return b.s.Send(ctx, zmtp.NewMessageString(id, "", mdpWorker, mdpDisconnect))
	}
	return nil
}

func (b *majordomo) nameOf(s *service) string {
	for name, other := range b.services {
		if other == s {
			return name
		}
	}
	return ""
}

func (b *majordomo) remove(id string, w *worker) {
	delete(b.workers, id)
	w.service.workers = slices.DeleteFunc(w.service.workers,
		func(other string) bool { return other == id })
}

// waits puts a worker at the end of the queue of its service.
func (b *majordomo) waits(ctx context.Context, id string, w *worker) error {
	w.until = time.Now().Add(mdpLiveness * b.heartbeat)
	if !slices.Contains(w.service.workers, id) {
		w.service.workers = append(w.service.workers, id)
	}
	return b.dispatch(ctx, w.service)
}

// dispatch gives requests to workers as long as there are both.
func (b *majordomo) dispatch(ctx context.Context, s *service) error {
	for len(s.requests) > 0 && len(s.workers) > 0 {
		m, id := s.requests[0], s.workers[0]
		s.requests, s.workers = s.requests[1:], s.workers[1:]
		err := b.s.Send(ctx, m.Prepend([]byte(id), nil, []byte(mdpWorker), []byte(mdpRequest)))
		if err != nil {
			return err
		}
	}
	return nil
}

// beat removes workers that say nothing, and tells the others that the broker is alive.
func (b *majordomo) beat(ctx context.Context, now time.Time) error {
	for id, w := range b.workers {
		if now.After(w.until) {
			b.remove(id, w)
			continue
		}
		err := b.s.Send(ctx, zmtp.NewMessageString(id, "", mdpWorker, mdpHeartbeat))
		if err != nil {
			return err
		}
	}
	return nil
}

// majordomoWorker answers requests for a service with what work returns. When the broker says
// nothing for some heartbeats, it connects again with a new socket.
func majordomoWorker(ctx context.Context, endpoint, name string, heartbeat time.Duration,
	work func(context.Context, zmtp.Message) (zmtp.Message, error)) error {
	for {
		if err := majordomoSession(ctx, endpoint, name, heartbeat, work); err != nil {
			return err
		}
	}
}

// majordomoSession is majordomoWorker with one socket. It returns nil when the broker is silent, or
// sends the worker away.
func majordomoSession(ctx context.Context, endpoint, name string, heartbeat time.Duration,
	work func(context.Context, zmtp.Message) (zmtp.Message, error)) error {
	s := zmtp.NewDealer(zmtp.Config{})
	defer s.Close()
	if err := s.Connect(endpoint); err != nil {
		return err
	}
	command := func(parts ...string) error {
		return s.Send(ctx, zmtp.NewMessageString(append([]string{"", mdpWorker}, parts...)...))
	}
	if err := command(mdpReady, name); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages := incoming(ctx, s)
	silent := time.NewTimer(mdpLiveness * heartbeat)
	tick := time.NewTicker(heartbeat)
	defer silent.Stop()
	defer tick.Stop()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return context.Cause(ctx)
			}
			silent.Reset(mdpLiveness * heartbeat)
			switch string(m.Part(2)) {
			case mdpDisconnect:
				return nil
			case mdpRequest:
				// Two parts of the protocol, the command, the client and an empty part.
				head, request, ok := cutParts(m, 5)
				if !ok {
					continue
				}
				reply, err := work(ctx, request)
				if err != nil {
					return err
				}
				err = s.Send(ctx, reply.Prepend(nil, []byte(mdpWorker), []byte(mdpReply), head[3],
					nil))
				if err != nil {
					return err
				}
			}
		case <-tick.C:
			if err := command(mdpHeartbeat); err != nil {
				return err
			}
		case <-silent.C:
			return nil
		}
	}
}

// majordomoClient is a lazy pirate that names a service.
type majordomoClient struct{ lazyPirate }

// Request sends a request to a service and returns the reply.
func (c *majordomoClient) Request(ctx context.Context, service string,
	body zmtp.Message) (zmtp.Message, error) {
	m, err := c.lazyPirate.Request(ctx, body.Prepend([]byte(mdpClient), []byte(service)))
	if err != nil {
		return m, fmt.Errorf("service %s: %w", service, err)
	}
	head, reply, ok := cutParts(m, 2)
	if !ok || string(head[0]) != mdpClient || string(head[1]) != service {
		return m, errors.New("this is no reply of a Majordomo broker: " + m.String())
	}
	return reply, nil
}
