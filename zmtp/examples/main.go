// Command examples has the patterns of the ZeroMQ guide (https://zguide.zeromq.org) that programs
// copy most, a file for each:
//
//	lazypirate.go      a client that asks again when there is no reply
//	paranoidpirate.go  a queue before workers that come and go, with heartbeats
//	majordomo.go       a queue for each service, by name (RFC 7)
//	titanic.go         requests that survive on disk, over majordomo (RFC 9)
//	clone.go           a table that a server shares with its clients (RFC 12)
//	lastvalue.go       a publisher whose newcomers get the last value of each topic
//	espresso.go        a proxy with a tap that sees everything
//
// Each part is a function, which the tests run in one process. To run one as a program, name it and
// give it its endpoints:
//
//	go run ./zmtp/examples lazypirate-server tcp://127.0.0.1:5555
//	go run ./zmtp/examples lazypirate-client tcp://127.0.0.1:5555
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"zmtpd/zmtp"
)

// program is one part of a pattern.
type program struct {
	args string // what follows the name
	run  func(ctx context.Context, args []string) error
}

var programs = map[string]program{
	"lazypirate-server": {"ENDPOINT", func(ctx context.Context, args []string) error {
		s := zmtp.NewRep(zmtp.Config{})
		defer s.Close()
		if _, err := s.Listen(args[0]); err != nil {
			return err
		}
		return echoServer(ctx, s)
	}},
	"lazypirate-client": {"ENDPOINT", func(ctx context.Context, args []string) error {
		c := lazyPirate{endpoint: args[0], timeout: 2 * time.Second, attempts: 3}
		defer c.Close()
		return showReply(c.Request(ctx, zmtp.NewMessageString("hello")))
	}},
	"paranoidpirate-queue": {"FRONTEND BACKEND", func(ctx context.Context, args []string) error {
		front, back := zmtp.NewRouter(zmtp.Config{}), zmtp.NewRouter(zmtp.Config{})
		defer front.Close()
		defer back.Close()
		if _, err := front.Listen(args[0]); err != nil {
			return err
		}
		if _, err := back.Listen(args[1]); err != nil {
			return err
		}
		return pirateQueue(ctx, front, back, time.Second)
	}},
	"paranoidpirate-worker": {"BACKEND", func(ctx context.Context, args []string) error {
		return pirateWorker(ctx, args[0], time.Second, echo)
	}},
	"majordomo-broker": {"ENDPOINT", func(ctx context.Context, args []string) error {
		s := zmtp.NewRouter(zmtp.Config{})
		defer s.Close()
		if _, err := s.Listen(args[0]); err != nil {
			return err
		}
		return majordomoBroker(ctx, s, time.Second)
	}},
	"majordomo-worker": {"ENDPOINT SERVICE", func(ctx context.Context, args []string) error {
		return majordomoWorker(ctx, args[0], args[1], time.Second, echo)
	}},
	"majordomo-client": {"ENDPOINT SERVICE", func(ctx context.Context, args []string) error {
		c := majordomoClient{lazyPirate{endpoint: args[0], timeout: 5 * time.Second, attempts: 3}}
		defer c.Close()
		return showReply(c.Request(ctx, args[1], zmtp.NewMessageString("hello")))
	}},
	"titanic": {"ENDPOINT FOLDER", func(ctx context.Context, args []string) error {
		return titanic(ctx, args[0], args[1], time.Second)
	}},
	"clone-server": {"SNAPSHOTS UPDATES CHANGES", func(ctx context.Context, args []string) error {
		s := newCloneServer()
		defer s.Close()
		if err := s.Listen(args[0], args[1], args[2]); err != nil {
			return err
		}
		return s.Run(ctx, time.Second)
	}},
	"clone-client": {"SNAPSHOTS UPDATES CHANGES", func(ctx context.Context, args []string) error {
		c := newCloneClient()
		defer c.Close()
		if err := c.Connect(args[0], args[1], args[2]); err != nil {
			return err
		}
		return c.Run(ctx, func(key, value string) { fmt.Printf("%s = %s\n", key, value) })
	}},
	"lastvalue": {"FRONTEND BACKEND", func(ctx context.Context, args []string) error {
		sub := zmtp.NewSub(zmtp.Config{})
		pub := zmtp.NewXPub(zmtp.Config{}, zmtp.XPubOptions{Verbose: true})
		defer sub.Close()
		defer pub.Close()
		if _, err := sub.Listen(args[0]); err != nil {
			return err
		}
		if _, err := pub.Listen(args[1]); err != nil {
			return err
		}
		return lastValueCache(ctx, sub, pub)
	}},
	"espresso": {"FRONTEND BACKEND", func(ctx context.Context, args []string) error {
		return espresso(ctx, args[0], args[1], func(m zmtp.Message) { fmt.Println(m) })
	}},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) < 2 {
		usage()
	}
	p, ok := programs[os.Args[1]]
	if !ok || len(os.Args)-2 != countWords(p.args) {
		usage()
	}
	if err := p.run(ctx, os.Args[2:]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: examples PROGRAM ENDPOINT...")
	names := make([]string, 0, len(programs))
	for name, p := range programs {
		names = append(names, "  "+name+" "+p.args)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintln(os.Stderr, name)
	}
	os.Exit(2)
}

// echo is what the workers of the examples do.
func echo(_ context.Context, request zmtp.Message) (zmtp.Message, error) { return request, nil }

func showReply(m zmtp.Message, err error) error {
	if err == nil {
		fmt.Println(m)
	}
	return err
}
