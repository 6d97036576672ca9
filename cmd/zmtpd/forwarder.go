package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/forwarder"
)

// forwarderFlags are those of the broker.
type forwarderFlags struct {
	XSub      []string         `name:"xsub" default:"tcp://127.0.0.1:5556" help:"Where publishers connect: Zeek's connect_xpub_endpoint (repeatable)."`
	XPub      []string         `name:"xpub" default:"tcp://127.0.0.1:5555" help:"Where subscribers connect: Zeek's connect_xsub_endpoint (repeatable)."`
	Overload  forwarder.Policy `default:"adaptive" help:"What a subscriber with a full queue does. adaptive: publishers wait for it, within --wait-share, then it alone loses messages; block: publishers wait; drop: it loses messages; disconnect: it is closed."`
	WaitShare share            `default:"10%" help:"Share of the time for which all slow subscribers together may hold up a publisher, over any 5 s, for --overload adaptive."`
	SndHWM    highWaterMark    `name:"sndhwm" group:"limits" default:"1000" help:"Messages that may wait for one subscriber, 0 for no limit."`
	SndBytes  byteSize         `name:"sndbytes" group:"limits" default:"64MiB" help:"Bytes that may wait for one subscriber, 0 for no limit."`
	tapFlags
}

// forwarderJob is the broker as a part of a daemon.
type forwarderJob struct {
	flags    *forwarderFlags
	security *security
	f        *forwarder.Forwarder
	tap      *tapJob // nil for none
	rates    rateMeter
}

func newForwarderJob(flags *forwarderFlags, sockets *socketFlags, s *security, log *slog.Logger) (*forwarderJob, error) {
	config := flags.queues(sockets.config(log))
	xsub, err := s.Protect(config, domainXSub)
	if err != nil {
		return nil, err
	}
	xpub, err := s.Protect(config, domainXPub)
	if err != nil {
		return nil, err
	}
	tap, copies, err := flags.tapFlags.open(config, s, log)
	if err != nil {
		return nil, err
	}
	c := forwarder.Config{
		XSub: xsub, XPub: xpub, Tap: copies,
		Overload: flags.Overload, WaitShare: flags.WaitShare.config(),
		Logger: log,
	}
	if s.Listed() {
		c.Permit = s.permit
	}
	f := forwarder.New(c)
	s.Cover(f)
	return &forwarderJob{flags: flags, security: s, f: f, tap: tap}, nil
}

// reload takes over what can change.
func (j *forwarderJob) reload(flags *forwarderFlags, sockets *socketFlags) {
	config := flags.queues(sockets.config(nil))
	j.f.Reconfigure(forwarder.Config{
		XSub: config, XPub: config, Tap: &forwarder.Tap{Socket: config},
		Overload: flags.Overload, WaitShare: flags.WaitShare.config(),
	})
}

func (j *forwarderJob) listen() ([]listening, error) {
	// Subscribers first: a publisher that is there before them publishes to nobody.
	xpub, err := bindAll("--xpub", "XPUB", j.flags.XPub, j.f.ListenXPub)
	if err != nil {
		return nil, err
	}
	tap, err := j.tap.listen(j.f)
	if err != nil {
		return nil, err
	}
	xsub, err := bindAll("--xsub", "XSUB", j.flags.XSub, j.f.ListenXSub)
	return append(append(xsub, xpub...), tap...), err
}

// shutdown gives subscribers what waits for them. What those lose that do not read
// is no failure: it is counted and logged.
func (j *forwarderJob) shutdown(ctx context.Context) error {
	err := j.f.Shutdown(ctx)
	j.tap.shutdown()
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (j *forwarderJob) summary() []any {
	st := j.f.Stats()
	all := []any{"job", "forwarder",
		"received", st.Received.Messages, "unmatched", st.Received.Unmatched, "denied", st.Received.Denied,
		"sent", st.Account.Delivered, "dropped", sum(st.XPub.Dropped) + sum(st.XSub.Dropped)}
	return append(all, j.tap.summary(st.Tap)...)
}

func (j *forwarderJob) status(s *status) {
	st := j.f.Stats()
	s.Forwarder = newForwarderStatus(st, &j.rates, time.Now())
	s.Forwarder.Tap = j.tap.status(st.Tap)
}

func (j *forwarderJob) collect(ch chan<- prometheus.Metric) {
	st := j.f.Stats()
	collectForwarder(ch, st)
	publishers, subscribers := peersOfSides(st)
	j.security.collectPeers(ch, "xsub", publishers)
	j.security.collectPeers(ch, "xpub", subscribers)
	j.security.collectPeers(ch, domainTap, tapPeers(st.Tap))
	j.security.collectDenied(ch, st.Denied)
	j.tap.collect(ch, st.Tap)
}

// sum adds counters up.
func sum[R comparable](counts map[R]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

type forwarderCommand struct {
	forwarderFlags
	socketFlags
	securityFlags
	daemonFlags
}

// Run runs the broker until ctx ends.
func (c *forwarderCommand) Run(ctx context.Context, std *stdio, conf *configuration) error {
	log := c.newLog(std.err)
	s, err := c.open(log)
	if err != nil {
		return err
	}
	defer s.close()
	job, err := newForwarderJob(&c.forwarderFlags, &c.socketFlags, s, log)
	if err != nil {
		return err
	}
	return c.daemonFlags.run(ctx, newReloader(log, s, conf, func(now *cli) {
		c.daemonFlags.reload(&now.Forwarder.daemonFlags)
		s.reload(&now.Forwarder.securityFlags)
		job.reload(&now.Forwarder.forwarderFlags, &now.Forwarder.socketFlags)
	}), job)
}
