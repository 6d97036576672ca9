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

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/pipeline/balance"
	"zmtpd/zmtp"
)

// balanceFlags are those of the balancer.
type balanceFlags struct {
	Listen        []string                `default:"tcp://127.0.0.1:5557" help:"Where Zeek's nodes send their logs: one of connect_log_endpoints (repeatable)."`
	To            []string                `placeholder:"ENDPOINT" help:"A logger that is to get them, as in tcp://10.0.0.7:5557 (repeatable)."`
	Sticky        bool                    `help:"Give each log to one logger, as long as that is there, so that its records stay in order. While it is full the nodes wait. Default: to the loggers in turn, past those that are full."`
	LoggerTimeout time.Duration           `default:"0s" reload:"" help:"How long a logger may give no sign of life before what waits for it goes to the others. One whose disk is full gives none either, unless it spools. 0: until the kernel gives the connection up, on Linux after a quarter of an hour."`
	Logger        daemon.CurveClientFlags `embed:"" prefix:"logger-"`
	SndHWM        daemon.HighWaterMark    `name:"sndhwm" group:"limits" default:"1000" reload:"" help:"Messages that may wait for one logger, 0 for no limit."`
	SndBytes      daemon.ByteSize         `name:"sndbytes" group:"limits" default:"64MiB" reload:"" help:"Bytes that may wait for one logger, 0 for no limit."`
}

// connectTimeout bounds an attempt to reach a logger. One whose host is down should be tried again
// soon after it is up.
const connectTimeout = 10 * time.Second

// check refuses what makes no sense.
func (f *balanceFlags) check() error {
	if len(f.To) == 0 {
		return daemon.Usagef("--to: no logger, give at least one as in --to tcp://127.0.0.1:5558")
	}
	for i, e := range f.To {
		if slices.Contains(f.To[:i], e) {
			return daemon.Usagef("--to %s: given twice", e)
		}
	}
	if f.LoggerTimeout < 0 {
		return daemon.Usagef("--logger-timeout %v: cannot be negative", f.LoggerTimeout)
	}
	return nil
}

// toLoggers makes a configuration that of the socket to the loggers.
func (f *balanceFlags) toLoggers(config zmtp.Config) zmtp.Config {
	config.SendHWM, config.SendBytes = int(daemon.Limit(f.SndHWM)), daemon.Limit(f.SndBytes)
	config.HeartbeatInterval, config.HeartbeatTimeout = f.LoggerTimeout/2, f.LoggerTimeout/2
	return config
}

// balanceJob is the balancer as a part of a daemon.
type balanceJob struct {
	flags    *balanceFlags
	access   *daemon.Access
	push     *zmtp.Push
	balancer *balance.Balancer
	log      *slog.Logger
	watching sync.WaitGroup
	ending   atomic.Bool // from now on loggers are disconnected by us
}

func newBalanceJob(flags *balanceFlags, env *daemon.Env) (*balanceJob, error) {
	if err := flags.check(); err != nil {
		return nil, err
	}
	in, err := env.Access.Protect(env.Socket(), domainPull)
	if err != nil {
		return nil, err
	}
	out := flags.toLoggers(env.Socket())
	out.RetryAlways, out.ConnectTimeout = true, connectTimeout
	options := zmtp.PushOptions{Immediate: true}
	if flags.Sticky {
		options.Key = balance.LogPath
	}
	keys, err := flags.Logger.Client()
	if err != nil {
		return nil, fmt.Errorf("keys for the loggers, whose flags begin with --logger-: %w", err)
	}
	if keys != nil {
		out.Mechanism = keys.Mechanism
	} else if env.Access.Keys() != nil {
		env.Log.Warn("nodes are encrypted, loggers are not: there is no --logger-curve-server-key")
	}
	push := zmtp.NewPush(out, options)
	j := &balanceJob{flags: flags, access: env.Access, push: push, balancer: balance.New(in, push),
		log: env.Log}
	env.Access.Cover(j.balancer.Pull())
	return j, nil
}

// Describe implements [daemon.Describer].
func (j *balanceJob) Describe() []any { return []any{"to", j.flags.To, "sticky", j.flags.Sticky} }

func (j *balanceJob) Name() string { return "balance" }

func (j *balanceJob) Reload(now daemon.Command) {
	sockets := daemon.SocketConfig(now)
	j.balancer.Pull().Reconfigure(sockets)
	j.push.Reconfigure(now.(*balanceCommand).toLoggers(sockets))
}

func (j *balanceJob) Listen() ([]daemon.Endpoint, error) {
	return daemon.BindAll("--listen", "PULL", j.flags.Listen, j.balancer.Pull().Listen)
}

// Targets implements [daemon.Connecter].
func (j *balanceJob) Targets() (all []daemon.Target) {
	for _, e := range j.flags.To {
		all = append(all, daemon.Target{Flag: "--to", Endpoint: e})
	}
	return all
}

// Connect implements [daemon.Connecter].
func (j *balanceJob) Connect() error {
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
			j.log.Warn("logger lost, what waits for it goes to the others", "endpoint", e.Endpoint,
				"err", e.Err)
		}
	}
}

// Ready implements [daemon.Readier].
func (j *balanceJob) Ready() error {
	if j.push.Stats().Peers == 0 {
		return errors.New("no logger of --to is connected; nodes wait")
	}
	return nil
}

// Shutdown gives the loggers what was received. A loss is an error.
func (j *balanceJob) Shutdown(ctx context.Context) error {
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
		err = errors.Join(err,
			fmt.Errorf("%d log messages were received and not given to a logger within "+
				"--shutdown-timeout", n))
	}
	return err
}

// dropped returns how many messages were received and given up at the end.
func (j *balanceJob) dropped() uint64 {
	return j.balancer.Pull().Stats().Dropped[zmtp.DropClosed] +
		j.push.Stats().Dropped[zmtp.DropClosed]
}

// Summary implements [daemon.Job].
func (j *balanceJob) Summary() []any {
	in, out := j.balancer.Pull().Stats(), j.push.Stats()
	return []any{"received", in.In.Messages, "sent", out.Out.Messages - out.Returned,
		"doubtful", out.Dropped[zmtp.DropConnectionLost], "moved", out.Returned, "dropped",
		j.dropped()}
}

type balanceCommand struct {
	balanceFlags
	daemon.Flags
}

// Help is shown by zmtpd balance --help.
func (*balanceCommand) Help() string {
	return `Batches pass as they are, and to loggers of any kind. A batch goes only to a logger that is connected and has room. What waits
for one that is lost goes to the others; what it had been sent and not read is lost with it. While no logger has room the
nodes wait.`
}

// Jobs implements [daemon.Command].
func (c *balanceCommand) Jobs(env *daemon.Env) ([]daemon.Job, error) {
	j, err := newBalanceJob(&c.balanceFlags, env)
	return []daemon.Job{j}, err
}
