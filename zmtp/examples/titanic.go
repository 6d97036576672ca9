package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zmtpd/zmtp"
)

// The services of Titanic (RFC 9). Statuses are those of HTTP.
const (
	titanicRequest = "titanic.request" // service, body: 200 and an id
	titanicReply   = "titanic.reply"   // id: 200 and the reply, 300 for not yet, 400 for unknown
	titanicClose   = "titanic.close"   // id: 200; the request and the reply are forgotten
)

// titanic keeps requests for the services of a Majordomo broker in a folder until they are
// answered, and the replies until the client has them. A client may end and ask for the reply
// later, and so may this program and the workers. A service may get a request twice if this program
// ends at the wrong moment.
func titanic(ctx context.Context, endpoint, folder string, heartbeat time.Duration) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	store := titanicStore(folder)
	wake := make(chan struct{}, 1)
	workers := map[string]func(zmtp.Message) (zmtp.Message, error){
		titanicRequest: func(m zmtp.Message) (zmtp.Message, error) {
			id := rand.Text()
			if err := store.write(id, ".request", m); err != nil {
				return m, err
			}
			select {
			case wake <- struct{}{}:
			default:
			}
			return zmtp.NewMessageString("200", id), nil
		},
		titanicReply: store.reply,
		titanicClose: store.close,
	}
	ended := make(chan error, len(workers)+1)
	for name, work := range workers {
		go func() {
			ended <- majordomoWorker(ctx, endpoint, name, heartbeat,
				func(_ context.Context, m zmtp.Message) (zmtp.Message, error) { return work(m) })
		}()
	}
	go func() { ended <- store.dispatch(ctx, endpoint, heartbeat, wake) }()
	err := <-ended
	cancel()
	for range len(workers) {
		<-ended
	}
	return err
}

// titanicStore is a folder with files ID.request and ID.reply, which have the wire form of a
// message.
type titanicStore string

func (s titanicStore) path(id, kind string) string { return filepath.Join(string(s), id+kind) }

// write writes a file so that it is there whole or not at all.
func (s titanicStore) write(id, kind string, m zmtp.Message) error {
	path := s.path(id, kind)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(m.Wire())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (s titanicStore) read(id, kind string) (zmtp.Message, error) {
	b, err := os.ReadFile(s.path(id, kind))
	if err != nil {
		return zmtp.Message{}, err
	}
	return zmtp.ParseMessage(b)
}

// checkID reports whether an id may be one of ours. It comes from a client and becomes part of a
// path.
func checkID(m zmtp.Message) (id string, ok bool) {
	id = string(m.Part(0))
	return id, len(id) == len(rand.Text()) &&
		strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

func (s titanicStore) reply(m zmtp.Message) (zmtp.Message, error) {
	unknown := zmtp.NewMessageString("400")
	id, ok := checkID(m)
	if !ok {
		return unknown, nil
	}
	reply, err := s.read(id, ".reply")
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(s.path(id, ".request")); err != nil {
			return unknown, nil
		}
		return zmtp.NewMessageString("300"), nil
	}
	return reply.Prepend([]byte("200")), err
}

func (s titanicStore) close(m zmtp.Message) (zmtp.Message, error) {
	if id, ok := checkID(m); ok {
		os.Remove(s.path(id, ".request"))
		os.Remove(s.path(id, ".reply"))
	}
	return zmtp.NewMessageString("200"), nil
}

// dispatch gives requests to their services, when wake says that there is a new one, and at least
// once in a while for those whose service was not there.
func (s titanicStore) dispatch(ctx context.Context, endpoint string, heartbeat time.Duration,
	wake <-chan struct{}) error {
	c := majordomoClient{lazyPirate{endpoint: endpoint, timeout: 3 * heartbeat, attempts: 1}}
	defer c.Close()
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		files, err := os.ReadDir(string(s))
		if err != nil {
			return err
		}
		for _, f := range files {
			id, ok := strings.CutSuffix(f.Name(), ".request")
			if !ok {
				continue
			}
			if err := s.deliver(ctx, &c, id); err != nil {
				return err
			}
		}
		select {
		case <-wake:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// deliver gives one request to its service and keeps the reply. If the service is not there, the
// request waits.
func (s titanicStore) deliver(ctx context.Context, c *majordomoClient, id string) error {
	if _, err := os.Stat(s.path(id, ".reply")); err == nil {
		return nil
	}
	request, err := s.read(id, ".request")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // closed by its client
	} else if err != nil {
		return err
	}
	service, body := request.CutPart()
	status, err := c.Request(ctx, "mmi.service", zmtp.NewMessage(service))
	if err != nil || string(status.Part(0)) != "200" {
		return ctx.Err()
	}
	reply, err := c.Request(ctx, string(service), body)
	if err != nil {
		return ctx.Err()
	}
	return s.write(id, ".reply", reply)
}
