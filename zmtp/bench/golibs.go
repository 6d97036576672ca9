package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	gozeromq "github.com/go-zeromq/zmq4"
	"github.com/pebbe/zmq4"

	"zmtpd/zmtp"
)

// goSocket is a socket of a library that is called from Go.
type goSocket struct {
	bind func(string) (string, error)
	dial func(string) error
	out  func([]byte) error // one message, with a copy of the body unless keeps is set
	// keeps says that out keeps the body, so that each message needs one of its own.
	keeps bool
	// in receives n messages, at least one. Its sender may be called with the message.
	in func() (n int, err error)
}

func (s *goSocket) listen(endpoint string) string {
	bound, err := s.bind(endpoint)
	check(err)
	return bound
}

func (s *goSocket) connect(endpoint string) { check(s.dial(endpoint)) }

// goLibrary is a library that is called from Go: the loops are the same for all.
type goLibrary struct {
	make func(kind string) *goSocket
	n    *atomic.Int64
}

func newGoLibrary(f func(kind string) *goSocket) goLibrary {
	return goLibrary{f, new(atomic.Int64)}
}

func (l goLibrary) open(kind string) socket { return l.make(kind) }

func (l goLibrary) send(to []socket, size int) {
	go func() {
		body := make([]byte, size)
		for i := 0; ; i = (i + 1) % len(to) {
			s := to[i].(*goSocket)
			if s.keeps { // the others copy it, as zmq_send does
				body = make([]byte, size)
			}
			check(s.out(body))
		}
	}()
}

func (l goLibrary) receive(s socket) {
	go func() {
		for {
			n, err := s.(*goSocket).in()
			check(err)
			l.n.Add(int64(n))
		}
	}()
}

func (l goLibrary) echo(s socket) {
	body := make([]byte, messageSize)
	go func() {
		for {
			_, err := s.(*goSocket).in()
			check(err)
			check(s.(*goSocket).out(body))
		}
	}()
}

func (l goLibrary) received() float64 { return float64(l.n.Load()) }

func (l goLibrary) roundTrips(s socket, size, n int) []time.Duration {
	g, body := s.(*goSocket), make([]byte, size)
	all := make([]time.Duration, n)
	for i := range all {
		start := time.Now()
		check(g.out(body))
		_, err := g.in()
		check(err)
		all[i] = time.Since(start)
	}
	return all
}

// batchSize is the number of messages of a batch.
const batchSize = 100

// newZmtpd returns zmtpd's library, with single calls or with batches.
func newZmtpd(batches bool) goLibrary {
	ctx := context.Background()
	cfg := zmtp.Config{SendHWM: hwm(), RecvHWM: hwm()}
	return newGoLibrary(func(kind string) *goSocket {
		s := new(goSocket)
		single := func(send func(context.Context, zmtp.Message) error) {
			s.out = func(b []byte) error { return send(ctx, zmtp.NewMessage(b)) }
		}
		receive := func(recv func(context.Context) (zmtp.Message, error)) {
			s.in = func() (int, error) { _, err := recv(ctx); return 1, err }
		}
		base := func(b *zmtp.Socket) { s.bind, s.dial = b.Listen, b.Connect }
		switch kind {
		case "PUSH":
			k := zmtp.NewPush(cfg)
			base(k.Socket)
			single(k.Send)
			if batches {
				var builder zmtp.BatchBuilder
				s.out = func(b []byte) error {
					builder.Add(b)
					if builder.Len() < batchSize && builder.Size() < 1<<20 {
						return nil
					}
					batch := builder.Batch()
					defer batch.Release()
					_, err := k.SendBatch(ctx, batch)
					return err
				}
			}
		case "PULL":
			k := zmtp.NewPull(cfg)
			base(k.Socket)
			receive(k.Recv)
			if batches {
				s.in = func() (int, error) {
					b, err := k.RecvBatch(ctx)
					if err != nil {
						return 0, err
					}
					defer b.Release()
					return b.Len(), nil
				}
			}
		case "PUB":
			k := zmtp.NewPub(cfg)
			base(k.Socket)
			single(k.Send)
		case "SUB":
			k := zmtp.NewSub(cfg)
			base(k.Socket)
			check(k.Subscribe(""))
			receive(k.Recv)
		case "REQ":
			k := zmtp.NewReq(cfg)
			base(k.Socket)
			single(k.Send)
			receive(k.Recv)
		case "REP":
			k := zmtp.NewRep(cfg)
			base(k.Socket)
			single(k.Send)
			receive(k.Recv)
		case "DEALER":
			k := zmtp.NewDealer(cfg)
			base(k.Socket)
			single(k.Send)
		case "ROUTER":
			k := zmtp.NewRouter(cfg)
			base(k.Socket)
			receive(k.Recv)
		}
		return s
	})
}

var pebbeTypes = map[string]zmq4.Type{"PUSH": zmq4.PUSH, "PULL": zmq4.PULL, "PUB": zmq4.PUB,
	"SUB": zmq4.SUB, "REQ": zmq4.REQ, "REP": zmq4.REP, "DEALER": zmq4.DEALER,
	"ROUTER": zmq4.ROUTER}

// newPebbe returns pebbe/zmq4: libzmq through cgo.
func newPebbe() goLibrary {
	return newGoLibrary(func(kind string) *goSocket {
		k, err := zmq4.NewSocket(pebbeTypes[kind])
		check(err)
		check(k.SetSndhwm(hwm()))
		check(k.SetRcvhwm(hwm()))
		if kind == "SUB" {
			check(k.SetSubscribe(""))
		}
		return &goSocket{
			bind: func(endpoint string) (string, error) {
				if err := k.Bind(endpoint); err != nil {
					return "", err
				}
				return k.GetLastEndpoint()
			},
			dial: k.Connect,
			out:  func(b []byte) error { _, err := k.SendBytes(b, 0); return err },
			in:   func() (int, error) { _, err := k.RecvMessageBytes(0); return 1, err },
		}
	})
}

// newGoZeromq returns go-zeromq/zmq4: pure Go.
func newGoZeromq() goLibrary {
	ctx := context.Background()
	types := map[string]func(context.Context, ...gozeromq.Option) gozeromq.Socket{
		"PUSH": gozeromq.NewPush, "PULL": gozeromq.NewPull, "PUB": gozeromq.NewPub,
		"SUB": gozeromq.NewSub, "REQ": gozeromq.NewReq, "REP": gozeromq.NewRep,
		"DEALER": gozeromq.NewDealer, "ROUTER": gozeromq.NewRouter,
	}
	return newGoLibrary(func(kind string) *goSocket {
		k := types[kind](ctx)
		if kind == "SUB" {
			check(k.SetOption(gozeromq.OptionSubscribe, ""))
		}
		return &goSocket{
			bind: func(endpoint string) (string, error) {
				if err := k.Listen(endpoint); err != nil {
					return "", err
				}
				if a := k.Addr(); a != nil && a.Network() == "tcp" {
					return fmt.Sprintf("tcp://%v", a), nil
				}
				return endpoint, nil
			},
			dial:  k.Dial,
			out:   func(b []byte) error { return k.Send(gozeromq.NewMsg(b)) },
			keeps: true,
			in:    func() (int, error) { _, err := k.Recv(); return 1, err },
		}
	})
}
