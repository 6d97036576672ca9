package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/forwarder"
	"zmtpd/zmtp"
)

// forwarderFlags are the flags of the broker.
type forwarderFlags struct {
	XSub      []string             `name:"xsub" default:"tcp://127.0.0.1:5556" help:"Endpoint for publishers: Zeek's connect_xpub_endpoint (repeatable)."`
	XPub      []string             `name:"xpub" default:"tcp://127.0.0.1:5555" help:"Endpoint for subscribers: Zeek's connect_xsub_endpoint (repeatable)."`
	Overload  forwarder.Policy     `default:"adaptive" reload:"" help:"Effect of a subscriber whose queue is full. adaptive: publishers wait for it within --wait-share, then it alone loses messages; block: publishers wait without limit; drop: it loses messages at once; disconnect: its connection is closed."`
	WaitShare daemon.Share         `default:"10%" reload:"" help:"Share of any 5 s for which all slow subscribers together may hold a publisher up, with --overload adaptive."`
	SndHWM    daemon.HighWaterMark `name:"sndhwm" group:"limits" default:"1000" reload:"" help:"Messages that may wait for one subscriber; 0: no limit."`
	SndBytes  daemon.ByteSize      `name:"sndbytes" group:"limits" default:"64MiB" reload:"" help:"Bytes that may wait for one subscriber; 0: no limit."`
	tapFlags
	gatewayFlags
}

// forwarder returns the flags of the broker for every command that embeds them.
func (f *forwarderFlags) forwarder() *forwarderFlags { return f }

// queues sets the limits of the queues in a socket's configuration.
func (f *forwarderFlags) queues(config zmtp.Config) zmtp.Config {
	config.SendHWM, config.SendBytes = int(daemon.Limit(f.SndHWM)), daemon.Limit(f.SndBytes)
	return config
}

// The ZAP domains of the broker's sockets.
const (
	domainXSub = "xsub"
	domainXPub = "xpub"
)

// forwarderJob is the broker as a job of a daemon.
type forwarderJob struct {
	flags  *forwarderFlags
	access *daemon.Access
	f      *forwarder.Forwarder
	tap    *tapJob     // nil without a tap
	gate   *gatewayJob // nil without --websocket
	rates  rateMeter
	bound  struct{ xsub, xpub string } // the first endpoint of each socket, set by Listen
}

func newForwarderJob(flags *forwarderFlags, env *daemon.Env) (*forwarderJob, error) {
	config := flags.queues(env.Socket())
	xsub, err := env.Access.Protect(config, domainXSub)
	if err != nil {
		return nil, err
	}
	xpub, err := env.Access.Protect(config, domainXPub)
	if err != nil {
		return nil, err
	}
	tap, copies, err := flags.tapFlags.open(config, env)
	if err != nil {
		return nil, err
	}
	c := forwarder.Config{
		XSub: xsub, XPub: xpub, Tap: copies,
		Overload: flags.Overload, WaitShare: flags.WaitShare.Limit(),
		Logger: env.Log,
	}
	j := &forwarderJob{flags: flags, access: env.Access, tap: tap}
	if env.Access.Listed() {
		c.Permit = j.permit
	}
	j.f = forwarder.New(c)
	env.Access.Cover(j.f)
	if j.gate, err = flags.gatewayFlags.open(flags, j.f, env); err != nil {
		return nil, err
	}
	return j, nil
}

// permit returns the topics that a peer may publish and subscribe.
func (j *forwarderJob) permit(p *zmtp.Peer) (forwarder.Permissions, error) {
	client, err := j.access.Keys().Client(p.Metadata())
	if err != nil {
		return forwarder.Permissions{}, err
	}
	return forwarder.Permissions{Publish: client.Publish, Subscribe: client.Subscribe}, nil
}

// Describe implements [daemon.Describer].
func (j *forwarderJob) Describe() []any {
	what := []any{"overload", j.flags.Overload}
	if j.flags.TapFile != "" {
		what = append(what, "tap_file", j.flags.TapFile)
	}
	return what
}

func (j *forwarderJob) Name() string { return "forwarder" }

func (j *forwarderJob) Reload(now daemon.Command) {
	flags := now.(interface{ forwarder() *forwarderFlags }).forwarder()
	config := flags.queues(daemon.SocketConfig(now))
	j.f.Reconfigure(forwarder.Config{
		XSub: config, XPub: config, Tap: &forwarder.Tap{Socket: config},
		Overload: flags.Overload, WaitShare: flags.WaitShare.Limit(),
	})
	j.gate.reload(flags, now.Common())
}

func (j *forwarderJob) Listen() ([]daemon.Endpoint, error) {
	// Subscribers first: what publishers send before subscribers can connect is lost.
	xpub, err := daemon.BindAll("--xpub", "XPUB", j.flags.XPub, j.f.ListenXPub)
	if err != nil {
		return nil, err
	}
	tap, err := j.tap.listen(j.f)
	if err != nil {
		return nil, err
	}
	gate, err := j.gate.listen()
	if err != nil {
		return nil, err
	}
	xsub, err := daemon.BindAll("--xsub", "XSUB", j.flags.XSub, j.f.ListenXSub)
	if err != nil {
		return nil, err
	}
	j.bound.xsub, j.bound.xpub = xsub[0].Endpoint, xpub[0].Endpoint
	return slices.Concat(xsub, xpub, tap, gate), nil
}

// Shutdown delivers what waits for subscribers. It returns no error about the losses of subscribers
// that do not read: these are counted and logged.
func (j *forwarderJob) Shutdown(ctx context.Context) error {
	err := j.f.Shutdown(ctx)
	j.tap.shutdown()
	gate := j.gate.shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return errors.Join(err, gate)
}

func (j *forwarderJob) Summary() []any {
	st := j.f.Stats()
	all := []any{"received", st.Received.Messages, "unmatched", st.Received.Unmatched, "denied",
		st.Received.Denied,
		"sent", st.Account.Delivered, "dropped", st.XPub.Dropped.Total() +
			st.XSub.Dropped.Total()}
	return slices.Concat(all, j.tap.summary(st.Tap), j.gate.summary())
}

func (j *forwarderJob) Status() any {
	st := j.f.Stats()
	s := newForwarderStatus(st, &j.rates, time.Now())
	s.Tap, s.WebSocket = j.tap.status(st.Tap), j.gate.status()
	return s
}

func (j *forwarderJob) Collect(ch chan<- prometheus.Metric) {
	st := j.f.Stats()
	collectForwarder(ch, st)
	publishers, subscribers := peersOfSides(st)
	j.access.CollectPeers(ch, domainXSub, publishers)
	j.access.CollectPeers(ch, domainXPub, subscribers)
	j.access.CollectPeers(ch, domainTap, tapPeers(st.Tap))
	collectDenied(ch, j.access, st.Denied)
	j.tap.collect(ch, st.Tap)
	j.gate.collect(ch)
}

type forwarderCommand struct {
	forwarderFlags
	daemon.Flags
}

// Jobs implements [daemon.Command].
func (c *forwarderCommand) Jobs(env *daemon.Env) ([]daemon.Job, error) {
	broker, err := newForwarderJob(&c.forwarderFlags, env)
	return []daemon.Job{broker}, err
}
