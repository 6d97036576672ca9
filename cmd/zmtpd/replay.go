package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"zmtpd/capture/replay"
	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/curve"
	"zmtpd/zmtp"
)

type replayCommand struct {
	File string `arg:"" help:"Recording, as zmtpd pull --format recording and --tap-file write it, or capture in pcap or pcapng format."`

	Push []string `placeholder:"ENDPOINT" help:"Endpoint to which a PUSH socket sends log messages (repeatable)."`
	XSub []string `name:"xsub" placeholder:"ENDPOINT" help:"Endpoint to which events are published: the XSUB of a broker (repeatable)."`
	XPub []string `name:"xpub" placeholder:"ENDPOINT" help:"XPUB of the same broker. Sending begins when all its subscriptions have arrived (repeatable). Default: it begins when no more subscriptions arrive."`
	Port []uint16 `placeholder:"PORT" help:"Of a capture, send the messages to this port only (repeatable). Default: all ports."`

	Rate   float64         `placeholder:"N" help:"Messages a second. Default: as fast as the receivers take them."`
	Speed  float64         `placeholder:"N" help:"Of a capture, keep the times between messages: 1 for the original ones, 2 for half of them. Default: --rate, or as fast as the receivers take them."`
	Repeat daemon.Count    `default:"1" help:"Times to send the file; 0: until stopped."`
	Wait   daemon.Duration `default:"10s" help:"Longest time to wait for subscriptions."`
	Linger daemon.Duration `default:"10s" help:"Longest time to wait after the last message until all are delivered."`

	keyLogFlags
	daemon.ClientFlags
}

// Help is shown by zmtpd replay --help.
func (replayCommand) Help() string {
	return `Of a capture, it sends the messages of sockets that connect: those of PUSH go to
--push, those of PUB and XPUB to --xsub. It does not send the messages of sockets that listen, such
as those of a broker. The messages of a recording all go to --push, or all to --xsub.`
}

// Validate is called by kong.
func (c *replayCommand) Validate() error {
	switch {
	case c.File == "": // --help
	case len(c.Push)+len(c.XSub) == 0:
		return errors.New("no endpoint: use --push or --xsub, as in --push tcp://127.0.0.1:5557")
	case len(c.XPub) > 0 && len(c.XSub) != len(c.XPub):
		return fmt.Errorf("%d --xpub for %d --xsub: name both sides of every broker", len(c.XPub),
			len(c.XSub))
	case c.Speed < 0:
		return fmt.Errorf("--speed %v: the speed is negative; leave it out for no limit", c.Speed)
	case c.Speed > 0 && c.Rate > 0:
		return errors.New("--speed and --rate: use one of them")
	case c.Rate < 0:
		return fmt.Errorf("--rate %v: the rate is negative; leave it out for no limit", c.Rate)
	}
	return nil
}

// Run sends the file.
func (c *replayCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	line := tool.NewProgress(std.Err)
	config, err := c.Socket()
	if err != nil {
		return err
	}
	file, err := replay.Open(c.File)
	if err != nil {
		return err
	}
	defer file.Close()
	if file.Recording() && len(c.Push) > 0 && len(c.XSub) > 0 {
		return daemon.Usagef("%s is a recording, which does not tell log messages from events: "+
			"use either --push or --xsub", c.File)
	}

	if file.Recording() && (c.Speed > 0 || c.Keylog != "") {
		return daemon.Usagef("%s is a recording, which has neither times nor encryption: --speed "+
			"and --keylog are for captures", c.File)
	}
	keys, err := c.keyLogFlags.open()
	if err != nil {
		return err
	}
	if keys != nil {
		defer keys.Close()
	}

	r := &replayer{command: c, keys: keys, config: config,
		push: zmtp.NewPush(config, zmtp.PushOptions{}),
		xpub: zmtp.NewXPub(config, zmtp.XPubOptions{Verboser: true, NoDrop: true})}
	defer r.push.Close()
	defer r.xpub.Close()
	tool.WatchConnections(r.push, line)
	tool.WatchConnections(r.xpub, line)
	if err := r.connect(ctx); err != nil {
		return err
	}
	began := time.Now()
	meter := tool.NewMeter(began, c.Rate, int(c.Repeat))
	hide := line.Show(func(now time.Time, columns int) string {
		return meter.Line(tool.Sample{At: now, Messages: r.messages.Load(), Bytes: r.bytes.Load(),
			Passes: file.Passes()}, columns)
	})
	err = r.replay(ctx, file)
	limit := time.Duration(c.Linger)
	err = errors.Join(err, tool.Linger(r.push, limit, strings.Join(c.Push, ", ")),
		tool.Linger(r.xpub, limit, strings.Join(c.XSub, ", ")))
	hide()
	took, messages := time.Since(began), r.messages.Load()
	fmt.Fprintf(std.Err, "zmtpd: replayed %d messages, %d bytes in %v: %.0f messages/s\n",
		messages, r.bytes.Load(), took.Round(time.Millisecond), float64(messages)/took.Seconds())
	if torn := file.Torn(); torn != nil {
		fmt.Fprintf(std.Err, "zmtpd: %s ends within a message; the messages before it were sent: "+
			"%v\n", c.File, torn)
	}
	if err == nil && messages == 0 && ctx.Err() == nil {
		err = fmt.Errorf("%s has no message to send", c.File)
		if n, first := file.Problems(); n > 0 {
			err = fmt.Errorf("%w; %d sessions could not be read, the first because of: %w", err, n,
				first)
		}
	}
	return err
}

// replayer sends messages.
type replayer struct {
	command *replayCommand
	config  zmtp.Config // of all sockets
	keys    *curve.KeyLogFile
	push    *zmtp.Push
	xpub    *zmtp.XPub

	began           time.Time     // of the first message
	first           time.Time     // when the first message of this pass was captured
	passBegan       time.Time     // when it was sent
	messages, bytes atomic.Uint64 // sent
}

// connect connects the sockets. If there is something to publish, it waits for subscriptions.
func (r *replayer) connect(ctx context.Context) error {
	for _, e := range r.command.Push {
		if err := r.push.Connect(e); err != nil {
			return daemon.EndpointError("--push", e, err)
		}
	}
	for _, e := range r.command.XSub {
		if err := r.xpub.Connect(e); err != nil {
			return daemon.EndpointError("--xsub", e, err)
		}
	}
	if len(r.command.XSub) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(r.command.Wait))
	defer cancel()
	var err error
	if len(r.command.XPub) > 0 {
		err = r.probe(limited)
	} else {
		err = r.settle(limited)
	}
	if ctx.Err() == nil && err != nil {
		return err
	}
	go discard(r.xpub)
	return nil
}

// settleTime is the time without a new subscription after which all count as received.
const settleTime = 200 * time.Millisecond

// settle waits for the first subscription, and then until no more arrive.
func (r *replayer) settle(ctx context.Context) error {
	if err := awaitSubscriptions(ctx, r.xpub, 1); err != nil {
		return fmt.Errorf("--xsub %s: no subscription arrived within --wait %v; without one all "+
			"messages would be lost", strings.Join(r.command.XSub, ", "), r.command.Wait)
	}
	for {
		quiet, cancel := context.WithTimeout(ctx, settleTime)
		_, err := r.xpub.Recv(quiet)
		cancel()
		if err != nil {
			return nil
		}
	}
}

// probe subscribes to a topic of its own at the broker. A broker passes subscriptions on in their
// order. So all earlier ones have arrived when this one arrives. Zeek's nodes do the same before
// they are ready.
func (r *replayer) probe(ctx context.Context) error {
	topic := "zmtpd.replay." + rand.Text() + "."
	sub := zmtp.NewSub(r.config)
	defer sub.Close()
	if err := sub.Subscribe(topic); err != nil {
		return err
	}
	for _, e := range r.command.XPub {
		if err := sub.Connect(e); err != nil {
			return daemon.EndpointError("--xpub", e, err)
		}
	}
	seen := map[*zmtp.Peer]bool{}
	for len(seen) < len(r.command.XSub) {
		m, err := r.xpub.Recv(ctx)
		if err != nil {
			return fmt.Errorf("the subscriptions at --xpub %s did not arrive at --xsub %s within "+
				"--wait %v; are they the two sides of one broker?",
				strings.Join(r.command.XPub, ", "), strings.Join(r.command.XSub, ", "),
				r.command.Wait)
		}
		if m.NumParts() == 1 && string(m.Part(0)) == "\x01"+topic {
			seen[m.Peer()] = true
		}
	}
	return nil
}

// replay sends the file as often as --repeat says.
func (r *replayer) replay(ctx context.Context, file *replay.File) error {
	selection := replay.Selection{Push: len(r.command.Push) > 0, Publish: len(r.command.XSub) > 0,
		Ports: r.command.Port}
	if r.keys != nil {
		selection.Keys = r.keys
	}
	repeat := int(r.command.Repeat)
	for n := 0; (repeat == 0 || n < repeat) && ctx.Err() == nil; n++ {
		before := r.messages.Load()
		r.passBegan = time.Time{}
		for m, err := range file.Messages(ctx, selection) {
			if err == nil {
				err = r.send(ctx, m)
			}
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
		}
		if r.messages.Load() == before {
			return nil // another pass would not send more
		}
	}
	return nil
}

// send sends one message, at the time that --rate or --speed gives.
func (r *replayer) send(ctx context.Context, m replay.Message) error {
	sent := r.messages.Load()
	if sent == 0 {
		r.began = time.Now()
	}
	if r.command.Rate > 0 {
		due := r.began.Add(time.Duration(float64(sent) / r.command.Rate * float64(time.Second)))
		if err := waitUntil(ctx, due); err != nil {
			return err
		}
	}
	if r.command.Speed > 0 {
		if r.passBegan.IsZero() {
			r.first, r.passBegan = m.Time, time.Now()
		}
		after := float64(m.Time.Sub(r.first)) / r.command.Speed
		if err := waitUntil(ctx, r.passBegan.Add(time.Duration(after))); err != nil {
			return err
		}
	}
	send := r.push.Send
	if m.Publish {
		send = r.xpub.Send
	}
	if err := send(ctx, m.Message); err != nil {
		return err
	}
	r.messages.Store(sent + 1)
	r.bytes.Add(uint64(m.Size()))
	return nil
}

// waitUntil waits until a time, or until ctx ends.
func waitUntil(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
