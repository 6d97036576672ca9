package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

type replayCommand struct {
	File string `arg:"" help:"A recording (golden/cluster-logs/log-writes.bin, zmtpd pull --format recording) or a capture in pcap or pcapng format."`

	Push []string `placeholder:"ENDPOINT" help:"Send log messages there with a PUSH socket (repeatable)."`
	XSub []string `name:"xsub" placeholder:"ENDPOINT" help:"Publish there: the XSUB of a broker (repeatable)."`
	XPub []string `name:"xpub" placeholder:"ENDPOINT" help:"The XPUB of the same broker, to see that all subscriptions have come before the first message goes (repeatable). Default: wait for the first ones."`
	Port []uint16 `placeholder:"PORT" help:"Of a capture only what was sent to this port (repeatable). Default: all."`

	Rate   float64       `placeholder:"N" help:"Messages a second. Default: as fast as they are taken."`
	Repeat int           `default:"1" help:"How often to send the file, 0 until stopped."`
	Wait   time.Duration `default:"10s" help:"How long to wait for subscriptions."`
	Linger time.Duration `default:"10s" help:"How long to go on sending after the last message was read."`

	daemon.CurveClientFlags
}

// Help is shown by zmtpd replay --help.
func (replayCommand) Help() string {
	return `Of a capture it sends what connecting sockets sent: messages of PUSH go to --push, those of PUB and XPUB to --xsub, if it
is given. What a bound socket sent, such as a broker, is not sent again. Only NULL sessions can be read. The messages of a
recording all go to --push or to --xsub.`
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
	case c.Rate < 0:
		return errors.New("--rate: cannot be negative")
	case c.Repeat < 0:
		return errors.New("--repeat: cannot be negative")
	}
	return nil
}

// Run sends the file.
func (c *replayCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	line := newProgress(std.Err)
	config, err := c.Socket()
	if err != nil {
		return err
	}
	file, err := openReplay(c.File)
	if err != nil {
		return err
	}
	defer file.Close()
	if file.recording && len(c.Push) > 0 && len(c.XSub) > 0 {
		return daemon.Usagef("%s is a recording, which does not say what its messages are: use "+
			"either --push or --xsub", c.File)
	}

	r := &replayer{command: c, config: config, push: zmtp.NewPush(config, zmtp.PushOptions{}),
		xpub: zmtp.NewXPub(config, zmtp.XPubOptions{Verboser: true, NoDrop: true})}
	defer r.push.Close()
	defer r.xpub.Close()
	watchConnections(r.push, line)
	watchConnections(r.xpub, line)
	if err := r.connect(ctx); err != nil {
		return err
	}
	began := time.Now()
	meter := newMeter(began, c.Rate, c.Repeat)
	hide := line.show(func(now time.Time, columns int) string {
		return meter.line(sample{now, r.messages.Load(), r.bytes.Load(), file.passes()}, columns)
	})
	err = r.replay(ctx, file)
	err = errors.Join(err, linger(r.push, c.Linger, fmt.Sprint(c.Push)),
		linger(r.xpub, c.Linger, fmt.Sprint(c.XSub)))
	hide()
	took, messages := time.Since(began), r.messages.Load()
	fmt.Fprintf(std.Err, "zmtpd: replayed %d messages, %d bytes in %v: %.0f messages/s\n",
		messages, r.bytes.Load(), took.Round(time.Millisecond), float64(messages)/took.Seconds())
	if file.torn != nil {
		fmt.Fprintf(std.Err,
			"zmtpd: %s ends within a message, the whole ones before it were sent: %v\n", c.File,
			file.torn)
	}
	if err == nil && messages == 0 && ctx.Err() == nil {
		return fmt.Errorf("%s: no message in it was to be sent%s", c.File, file.explain())
	}
	return err
}

// replayer sends messages.
type replayer struct {
	command *replayCommand
	config  zmtp.Config // of all sockets
	push    *zmtp.Push
	xpub    *zmtp.XPub

	began           time.Time     // of the first message
	messages, bytes atomic.Uint64 // sent
}

// connect connects the sockets, and waits until what is published has receivers.
func (r *replayer) connect(ctx context.Context) error {
	for _, e := range r.command.Push {
		if err := r.push.Connect(e); err != nil {
			return fmt.Errorf("--push: %w", err)
		}
	}
	for _, e := range r.command.XSub {
		if err := r.xpub.Connect(e); err != nil {
			return fmt.Errorf("--xsub: %w", err)
		}
	}
	if len(r.command.XSub) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, r.command.Wait)
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

// settleTime is how long no subscription may come for all to be there.
const settleTime = 200 * time.Millisecond

// settle waits for the first subscription, and then until no more come.
func (r *replayer) settle(ctx context.Context) error {
	if err := awaitSubscriptions(ctx, r.xpub, 1); err != nil {
		return fmt.Errorf("--xsub %v: nobody subscribed anything within --wait %v, so that all "+
			"messages would be lost", r.command.XSub, r.command.Wait)
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

// probe subscribes a topic of its own at the broker. A broker tells a publisher the
// subscriptions in their order, so that all earlier ones are there when that one
// comes back (as Zeek's nodes do before they say that they are ready).
func (r *replayer) probe(ctx context.Context) error {
	topic := "zmtpd.replay." + rand.Text() + "."
	sub := zmtp.NewSub(r.config)
	defer sub.Close()
	if err := sub.Subscribe(topic); err != nil {
		return err
	}
	for _, e := range r.command.XPub {
		if err := sub.Connect(e); err != nil {
			return &daemon.UsageError{Err: fmt.Errorf("--xpub: %w", err)}
		}
	}
	seen := map[*zmtp.Peer]bool{}
	for len(seen) < len(r.command.XSub) {
		m, err := r.xpub.Recv(ctx)
		if err != nil {
			return fmt.Errorf("within --wait %v the subscriptions of %v did not come to %v: are "+
				"they the two sides of one broker?",
				r.command.Wait, r.command.XPub, r.command.XSub)
		}
		if m.NumParts() == 1 && string(m.Part(0)) == "\x01"+topic {
			seen[m.Peer()] = true
		}
	}
	return nil
}

// replay sends the file as often as asked.
func (r *replayer) replay(ctx context.Context, file *replayFile) error {
	for n := 0; (r.command.Repeat == 0 || n < r.command.Repeat) && ctx.Err() == nil; n++ {
		before := r.messages.Load()
		for m, err := range file.messages(ctx, r.command) {
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
			return nil // and it will not be more the next time
		}
	}
	return nil
}

// send sends one message, not before its time.
func (r *replayer) send(ctx context.Context, m replayMessage) error {
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
	send := r.push.Send
	if m.publish {
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
