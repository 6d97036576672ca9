package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/pipeline/balance"
	"zmtpd/zmtp"
)

// balanceFlags are those of the balancer.
type balanceFlags struct {
	Listen        []string         `default:"tcp://127.0.0.1:5557" help:"Where Zeek's nodes send their logs: one of connect_log_endpoints (repeatable)."`
	To            []string         `placeholder:"ENDPOINT" help:"A logger that is to get them, as in tcp://10.0.0.7:5557 (repeatable)."`
	Sticky        bool             `help:"Give each log to one logger, as long as that is there, so that its records stay in order. While it is full the nodes wait. Default: to the loggers in turn, past those that are full."`
	LoggerTimeout time.Duration    `default:"0s" help:"How long a logger may give no sign of life before what waits for it goes to the others. One whose disk is full gives none either, unless it spools. 0: until the kernel gives the connection up, on Linux after a quarter of an hour."`
	Logger        curveClientFlags `embed:"" prefix:"logger-"`
	SndHWM        highWaterMark    `name:"sndhwm" group:"limits" default:"1000" help:"Messages that may wait for one logger, 0 for no limit."`
	SndBytes      byteSize         `name:"sndbytes" group:"limits" default:"64MiB" help:"Bytes that may wait for one logger, 0 for no limit."`
}

// connectTimeout bounds an attempt to reach a logger. One whose host is down should be tried again soon after it is up.
const connectTimeout = 10 * time.Second

// check refuses what makes no sense.
func (f *balanceFlags) check() error {
	if len(f.To) == 0 {
		return usagef("--to: no logger, give at least one as in --to tcp://127.0.0.1:5558")
	}
	for i, e := range f.To {
		if slices.Contains(f.To[:i], e) {
			return usagef("--to %s: given twice", e)
		}
	}
	if f.LoggerTimeout < 0 {
		return usagef("--logger-timeout %v: cannot be negative", f.LoggerTimeout)
	}
	return nil
}

// toLoggers makes a configuration that of the socket to the loggers.
func (f *balanceFlags) toLoggers(config zmtp.Config) zmtp.Config {
	config.SendHWM, config.SendBytes = int(limit(f.SndHWM)), limit(f.SndBytes)
	config.HeartbeatInterval, config.HeartbeatTimeout = f.LoggerTimeout/2, f.LoggerTimeout/2
	return config
}

// balanceJob is the balancer as a part of a daemon.
type balanceJob struct {
	flags    *balanceFlags
	security *security
	push     *zmtp.Push
	balancer *balance.Balancer
	log      *slog.Logger
	watching sync.WaitGroup
	ending   atomic.Bool // from now on loggers go because we do
}

func newBalanceJob(flags *balanceFlags, sockets *socketFlags, s *security, log *slog.Logger) (*balanceJob, error) {
	if err := flags.check(); err != nil {
		return nil, err
	}
	in, err := s.Protect(sockets.config(log), domainPull)
	if err != nil {
		return nil, err
	}
	out := flags.toLoggers(sockets.config(log))
	out.Immediate, out.RetryAlways, out.ConnectTimeout = true, true, connectTimeout
	if flags.Sticky {
		out.Key = balance.LogPath
	}
	keys, err := flags.Logger.client()
	if err != nil {
		return nil, fmt.Errorf("keys for the loggers, whose flags begin with --logger-: %w", err)
	}
	if keys != nil {
		out.Mechanism = keys.Mechanism
	} else if s.Keys() != nil {
		log.Warn("nodes are encrypted, loggers are not: there is no --logger-curve-server-key")
	}
	push := zmtp.NewPush(out)
	j := &balanceJob{flags: flags, security: s, push: push, balancer: balance.New(in, push), log: log}
	s.Cover(j.balancer.Pull())
	return j, nil
}

// reload takes over what can change.
func (j *balanceJob) reload(flags *balanceFlags, sockets *socketFlags) {
	j.balancer.Pull().Reconfigure(sockets.config(nil))
	j.push.Reconfigure(flags.toLoggers(sockets.config(nil)))
}

func (j *balanceJob) listen() ([]listening, error) {
	return bindAll("--listen", "PULL", j.flags.Listen, j.balancer.Pull().Listen)
}

// targets returns the loggers.
func (j *balanceJob) targets() (all []target) {
	for _, e := range j.flags.To {
		all = append(all, target{"--to", e})
	}
	return all
}

// connect connects to the loggers.
func (j *balanceJob) connect() error {
	events := j.push.Monitor(16 * len(j.flags.To))
	j.watching.Go(func() { j.watch(events) })
	for _, e := range j.flags.To {
		if err := j.push.Connect(e); err != nil {
			return fmt.Errorf("--to: %w", err)
		}
	}
	return nil
}

// watch logs which loggers come and go, until the socket ends.
func (j *balanceJob) watch(m *zmtp.Monitor) {
	up := map[string]bool{}
	for e := range m.Events() {
		switch {
		case e.Type == zmtp.EventHandshakeSucceeded:
			up[e.Endpoint] = true
			j.log.Info("logger connected", "endpoint", e.Endpoint)
		case e.Type == zmtp.EventDisconnected && up[e.Endpoint]:
			up[e.Endpoint] = false
			if j.ending.Load() {
				continue
			}
			j.log.Warn("logger lost, what waits for it goes to the others", "endpoint", e.Endpoint, "err", e.Err)
		}
	}
}

// ready reports whether there is a logger: without one the nodes wait.
func (j *balanceJob) ready() bool { return j.push.Stats().Peers > 0 }

// shutdown gives the loggers what was received. What is lost is a failure.
func (j *balanceJob) shutdown(ctx context.Context) error {
	err := j.balancer.Shutdown(ctx)
	j.ending.Store(true)
	if e := j.push.Shutdown(ctx); err == nil {
		err = e
	}
	j.watching.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // then something was lost, or nothing happened
	}
	if n := j.dropped(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d log messages were received and not given to a logger within --shutdown-timeout", n))
	}
	return err
}

// dropped returns how many messages were received and given up at the end.
func (j *balanceJob) dropped() uint64 {
	return j.balancer.Pull().Stats().Dropped[zmtp.DropClosed] + j.push.Stats().Dropped[zmtp.DropClosed]
}

func (j *balanceJob) summary() []any {
	in, out := j.balancer.Pull().Stats(), j.push.Stats()
	return []any{"job", "balance", "received", in.In.Messages, "sent", out.Out.Messages - out.Returned,
		"doubtful", out.Dropped[zmtp.DropConnectionLost], "moved", out.Returned, "dropped", j.dropped()}
}

type balanceCommand struct {
	balanceFlags
	socketFlags
	securityFlags
	daemonFlags
}

// Help is shown by zmtpd balance --help.
func (*balanceCommand) Help() string {
	return `Batches pass as they are, and to loggers of any kind. A batch goes only to a logger that is connected and has room. What waits
for one that is lost goes to the others; what it had been sent and not read is lost with it. While no logger has room the
nodes wait.`
}

// Run runs the balancer until ctx ends.
func (c *balanceCommand) Run(ctx context.Context, std *stdio, conf *configuration) error {
	log := c.newLog(std.err)
	s, err := c.open(log)
	if err != nil {
		return err
	}
	defer s.close()
	job, err := newBalanceJob(&c.balanceFlags, &c.socketFlags, s, log)
	if err != nil {
		return err
	}
	return c.daemonFlags.run(ctx, newReloader(log, s, conf, func(now *cli) {
		c.daemonFlags.reload(&now.Balance.daemonFlags)
		s.reload(&now.Balance.securityFlags)
		job.reload(&now.Balance.balanceFlags, &now.Balance.socketFlags)
	}), job)
}
