package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"zmtpd/pipeline/logwriter"
	"zmtpd/zmtp"
)

// logs writes the logs of one process of a worker.
type logs struct {
	push *zmtp.Push
	conn *logwriter.Writer[connRecord]
	dns  *logwriter.Writer[dnsRecord]
	http *logwriter.Writer[httpRecord]
}

// newLogs makes the logs of the node with an id.
func (s *simulation) newLogs(id string) (*logs, error) {
	l := &logs{push: zmtp.NewPush(s.cfg.Socket, zmtp.PushOptions{})}
	if s.cfg.Watch != nil {
		s.cfg.Watch(l.push)
	}
	config := func(stream, path string) logwriter.Config {
		return logwriter.Config{Node: id, Stream: stream, Path: path}
	}
	err := l.push.Connect(s.cfg.Push)
	var errs [3]error
	l.conn, errs[0] = logwriter.New[connRecord](l.push, config("Conn::LOG", "conn"))
	l.dns, errs[1] = logwriter.New[dnsRecord](l.push, config("DNS::LOG", "dns"))
	l.http, errs[2] = logwriter.New[httpRecord](l.push, config("HTTP::LOG", "http"))
	return l, errors.Join(err, errors.Join(errs[:]...))
}

// write writes one record: of six, three to conn, two to dns and one to http.
func (l *logs) write(ctx context.Context, r traffic, now time.Time) error {
	switch r.IntN(6) {
	case 0, 1, 2:
		return l.conn.Write(ctx, r.conn(now))
	case 3, 4:
		return l.dns.Write(ctx, r.dns(now))
	default:
		return l.http.Write(ctx, r.http(now))
	}
}

// written returns the number of records.
func (l *logs) written() uint64 {
	return l.conn.Stats().Written + l.dns.Stats().Written + l.http.Stats().Written
}

// close sends everything.
func (l *logs) close(ctx context.Context) error {
	return errors.Join(l.conn.Close(ctx), l.dns.Close(ctx), l.http.Close(ctx), l.push.Shutdown(ctx))
}

// kill ends at once. Records that are not on their way are lost.
func (l *logs) kill() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.push.Close()
	l.close(ctx)
}

// LogBalance says what became of the log records.
type LogBalance struct {
	Written  uint64 // by all workers
	Dead     uint64 // of these, by workers that died: some may be lost with them
	Known    bool   // the logger has said what it received
	Received uint64 // by the logger
	Lost     uint64 // written and not received, apart from Dead
}

// firstRecords is records for a logger that may be starting: it asks again for a while.
func (s *simulation) firstRecords(ctx context.Context) (uint64, error) {
	limit := time.After(calm)
	for {
		n, err := s.records(ctx)
		if _, unreachable := errors.AsType[*url.Error](err); !unreachable {
			return n, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-limit:
			return n, err
		case <-ctx.Done():
			return n, err
		}
	}
}

// records asks the logger how many records it has received.
func (s *simulation) records(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, calm)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.Status, nil)
	if err != nil {
		return 0, err
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var status struct {
		Logger *struct {
			Received struct {
				Records uint64 `json:"records"`
			} `json:"received"`
		} `json:"logger"`
	}
	limited := http.MaxBytesReader(nil, answer.Body, 64<<20)
	if err := json.NewDecoder(limited).Decode(&status); err != nil {
		return 0, fmt.Errorf("%s: %w", s.cfg.Status, err)
	}
	if status.Logger == nil {
		return 0, fmt.Errorf("%s is not the status of a logger", s.cfg.Status)
	}
	return status.Logger.Received.Records, nil
}
