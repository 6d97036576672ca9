package main

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"time"

	"zmtpd/zmtp"
)

// A table that clients share (RFC 12, simplified). A server numbers the changes. A client
// subscribes the updates, asks for a snapshot, and drops the updates that the snapshot has. A
// number that is missing tells it that it has lost an update, because its subscription came late or
// its connection was lost; then it asks for another snapshot.
//
//	client DEALER <-> ROUTER server   snapshots: "ICANHAZ?", answered with all pairs and "KTHXBAI"
//	client SUB    <-  PUB    server   updates
//	client PUSH    -> PULL   server   changes
//
// A pair is a message of three parts: key, number of the change in 8 bytes, value. An empty value
// stands for no value.

const (
	cloneAsk = "ICANHAZ?"
	cloneEnd = "KTHXBAI"
	// The server publishes this key when there is no change: clients see what they have lost.
	cloneBeat = "HUGZ"
)

// clonePair is one key of the table.
type clonePair struct {
	key, value string
	number     uint64
}

func (p clonePair) message() zmtp.Message {
	return zmtp.NewMessage([]byte(p.key), binary.BigEndian.AppendUint64(nil, p.number),
		[]byte(p.value))
}

func parseClonePair(m zmtp.Message) (clonePair, error) {
	if m.NumParts() != 3 || len(m.Part(1)) != 8 {
		return clonePair{}, errors.New("this is no pair of a clone server: " + m.String())
	}
	return clonePair{string(m.Part(0)), string(m.Part(2)), binary.BigEndian.Uint64(m.Part(1))}, nil
}

// cloneServer has the table.
type cloneServer struct {
	snapshots *zmtp.Router
	updates   *zmtp.Pub
	changes   *zmtp.Pull
	table     map[string]clonePair
	number    uint64 // of the last change
}

func newCloneServer() *cloneServer {
	return &cloneServer{zmtp.NewRouter(zmtp.Config{}), zmtp.NewPub(zmtp.Config{}),
		zmtp.NewPull(zmtp.Config{}), make(map[string]clonePair), 0}
}

func (s *cloneServer) Close() {
	s.snapshots.Close()
	s.updates.Close()
	s.changes.Close()
}

// Listen binds the three sockets.
func (s *cloneServer) Listen(snapshots, updates, changes string) error {
	_, err1 := s.snapshots.Listen(snapshots)
	_, err2 := s.updates.Listen(updates)
	_, err3 := s.changes.Listen(changes)
	return errors.Join(err1, err2, err3)
}

// Run serves until ctx ends, with a heartbeat in that interval. One goroutine does everything, so a
// snapshot is the table after exactly the changes that were published before it.
func (s *cloneServer) Run(ctx context.Context, heartbeat time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked, changes := incoming(ctx, s.snapshots), incoming(ctx, s.changes)
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		var err error
		select {
		case m, ok := <-changes:
			if !ok {
				return context.Cause(ctx)
			}
			err = s.change(ctx, m)
		case m, ok := <-asked:
			if !ok {
				return context.Cause(ctx)
			}
			if string(m.Part(1)) == cloneAsk {
				err = s.snapshot(ctx, m.Part(0))
			}
		case <-tick.C:
			err = s.updates.Send(ctx, clonePair{key: cloneBeat, number: s.number}.message())
		}
		if err != nil {
			return err
		}
	}
}

// change numbers a change, and publishes it. Faulty ones are ignored.
func (s *cloneServer) change(ctx context.Context, m zmtp.Message) error {
	p, err := parseClonePair(m)
	if err != nil {
		return nil
	}
	s.number++
	p.number = s.number
	if p.value == "" {
		delete(s.table, p.key)
	} else {
		s.table[p.key] = p
	}
	return s.updates.Send(ctx, p.message())
}

func (s *cloneServer) snapshot(ctx context.Context, client []byte) error {
	for _, p := range s.table {
		if err := s.snapshots.Send(ctx, p.message().Prepend(client)); err != nil {
			return err
		}
	}
	end := clonePair{key: cloneEnd, number: s.number}
	return s.snapshots.Send(ctx, end.message().Prepend(client))
}

// cloneClient has a copy of the table.
type cloneClient struct {
	snapshots *zmtp.Dealer
	updates   *zmtp.Sub
	changes   *zmtp.Push
}

func newCloneClient() *cloneClient {
	return &cloneClient{zmtp.NewDealer(zmtp.Config{}), zmtp.NewSub(zmtp.Config{}),
		zmtp.NewPush(zmtp.Config{})}
}

func (c *cloneClient) Close() {
	c.snapshots.Close()
	c.updates.Close()
	c.changes.Close()
}

// Connect connects the three sockets.
func (c *cloneClient) Connect(snapshots, updates, changes string) error {
	return errors.Join(c.updates.Subscribe(""), c.updates.Connect(updates),
		c.snapshots.Connect(snapshots), c.changes.Connect(changes))
}

// Set changes a key for all clients, this one included. An empty value deletes it.
func (c *cloneClient) Set(ctx context.Context, key, value string) error {
	return c.changes.Send(ctx, clonePair{key: key, value: value}.message())
}

// Run follows the table until ctx ends, and calls changed for each change.
func (c *cloneClient) Run(ctx context.Context, changed func(key, value string)) error {
	table := make(map[string]string)
	for {
		number, err := c.snapshot(ctx, table, changed)
		if err != nil {
			return err
		}
		if err := c.follow(ctx, number, table, changed); err != nil {
			return err
		}
	}
}

// snapshot brings the table up to date and returns the number of its last change.
func (c *cloneClient) snapshot(ctx context.Context, table map[string]string,
	changed func(key, value string)) (number uint64, err error) {
	if err := c.snapshots.Send(ctx, zmtp.NewMessageString(cloneAsk)); err != nil {
		return 0, err
	}
	gone := maps.Clone(table)
	for {
		p, err := receivePair(ctx, c.snapshots)
		if err != nil {
			return 0, err
		}
		if p.key == cloneEnd {
			for key := range gone {
				delete(table, key)
				changed(key, "")
			}
			return p.number, nil
		}
		delete(gone, p.key)
		if table[p.key] != p.value {
			table[p.key] = p.value
			changed(p.key, p.value)
		}
	}
}

// follow applies the updates behind a snapshot. It returns nil when one is missing.
func (c *cloneClient) follow(ctx context.Context, number uint64, table map[string]string,
	changed func(key, value string)) error {
	for {
		p, err := receivePair(ctx, c.updates)
		if err != nil {
			return err
		}
		switch {
		case p.number <= number: // the snapshot has it
		case p.number > number+1 || p.key == cloneBeat:
			return nil
		default:
			number = p.number
			if table[p.key] = p.value; p.value == "" {
				delete(table, p.key)
			}
			changed(p.key, p.value)
		}
	}
}

func receivePair(ctx context.Context, s receiver) (clonePair, error) {
	m, err := s.Recv(ctx)
	if err != nil {
		return clonePair{}, err
	}
	return parseClonePair(m)
}
