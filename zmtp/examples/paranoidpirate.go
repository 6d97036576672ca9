package main

import (
	"context"
	"slices"
	"time"

	"zmtpd/zmtp"
)

// Messages of one part between queue and worker. All others are requests and replies: the routing
// id of the client, an empty part, and the body.
const (
	pirateReady     = "\x01"
	pirateHeartbeat = "\x02"
)

// pirateLiveness is how many heartbeats may be missed before the other side counts as dead.
const pirateLiveness = 3

// pirateWorkers are the workers that wait for a request, the one that has waited longest first.
type pirateWorkers struct {
	ids   []string
	until map[string]time.Time // when a worker that says nothing is given up
}

// waits puts a worker at the end of the queue.
func (w *pirateWorkers) waits(id string, until time.Time) {
	w.remove(id)
	w.ids = append(w.ids, id)
	w.until[id] = until
}

func (w *pirateWorkers) remove(id string) {
	w.ids = slices.DeleteFunc(w.ids, func(other string) bool { return other == id })
	delete(w.until, id)
}

// expire removes the workers that have said nothing for too long.
func (w *pirateWorkers) expire(now time.Time) {
	for _, id := range slices.Clone(w.ids) {
		if now.After(w.until[id]) {
			w.remove(id)
		}
	}
}

// pirateQueue gives each request of a client at front to the worker at back that has waited
// longest. It reads requests only while a worker waits. Workers and queue tell each other with
// heartbeats that they are alive; what a worker had when it died is lost, so clients are lazy
// pirates.
func pirateQueue(ctx context.Context, front, back *zmtp.Router, heartbeat time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	clients, replies := incoming(ctx, front), incoming(ctx, back)
	workers := pirateWorkers{until: make(map[string]time.Time)}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		var requests <-chan zmtp.Message // nil, which never receives, while no worker waits
		if len(workers.ids) > 0 {
			requests = clients
		}
		select {
		case m, ok := <-requests:
			if !ok {
				return context.Cause(ctx)
			}
			id := workers.ids[0]
			workers.remove(id)
			if err := back.Send(ctx, m.Prepend([]byte(id))); err != nil {
				return err
			}
		case m, ok := <-replies:
			if !ok {
				return context.Cause(ctx)
			}
			part, rest := m.CutPart()
			id, until := string(part), time.Now().Add(pirateLiveness*heartbeat)
			switch {
			case rest.NumParts() > 1: // the reply to a client; the worker waits again
				workers.waits(id, until)
				if err := front.Send(ctx, rest); err != nil {
					return err
				}
			case string(rest.Part(0)) == pirateReady:
				workers.waits(id, until)
			case string(rest.Part(0)) == pirateHeartbeat && slices.Contains(workers.ids, id):
				workers.until[id] = until
			}
		case now := <-tick.C:
			workers.expire(now)
			for _, id := range workers.ids {
				beat := zmtp.NewMessageString(id, pirateHeartbeat)
				if err := back.Send(ctx, beat); err != nil {
					return err
				}
			}
		}
	}
}

// pirateWorker answers requests that a pirateQueue gives it with what work returns. When the queue
// says nothing for some heartbeats, it connects again with a new socket.
func pirateWorker(ctx context.Context, endpoint string, heartbeat time.Duration,
	work func(context.Context, zmtp.Message) (zmtp.Message, error)) error {
	for {
		if err := pirateSession(ctx, endpoint, heartbeat, work); err != nil {
			return err
		}
	}
}

// pirateSession is pirateWorker with one socket. It returns nil when the queue is silent.
func pirateSession(ctx context.Context, endpoint string, heartbeat time.Duration,
	work func(context.Context, zmtp.Message) (zmtp.Message, error)) error {
	s := zmtp.NewDealer(zmtp.Config{})
	defer s.Close()
	if err := s.Connect(endpoint); err != nil {
		return err
	}
	if err := s.Send(ctx, zmtp.NewMessageString(pirateReady)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages := incoming(ctx, s)
	silent := time.NewTimer(pirateLiveness * heartbeat)
	tick := time.NewTicker(heartbeat)
	defer silent.Stop()
	defer tick.Stop()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return context.Cause(ctx)
			}
			silent.Reset(pirateLiveness * heartbeat)
			envelope, request, ok := cutParts(m, 2)
			if !ok {
				continue // a heartbeat
			}
			reply, err := work(ctx, request)
			if err != nil {
				return err
			}
			if err := s.Send(ctx, reply.Prepend(envelope...)); err != nil {
				return err
			}
		case <-tick.C:
			if err := s.Send(ctx, zmtp.NewMessageString(pirateHeartbeat)); err != nil {
				return err
			}
		case <-silent.C:
			return nil
		}
	}
}
