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

// balanceFlags are the flags of the balancer.
type balanceFlags struct {
	Listen        []string             `default:"tcp://127.0.0.1:5557" help:"Endpoint at which nodes deliver their logs: one of Zeek's connect_log_endpoints (repeatable)."`
	To            []string             `placeholder:"ENDPOINT" help:"Endpoint of a logger, as in tcp://10.0.0.7:5557 (repeatable)."`
	Sticky        bool                 `help:"Keep each log at one logger while that is connected, so that its records stay in order. While that logger is full, the nodes wait. Default: the loggers take turns, without those that are full."`
	LoggerTimeout daemon.Duration      `default:"0s" reload:"" help:"Time without a sign of life after which a logger counts as lost, and what waits for it goes to the others. A logger whose disk is full is silent too, unless it has a spool. 0: until the kernel gives the connection up, on Linux after some 15 minutes."`
	Logger        daemon.ClientFlags   `embed:"" prefix:"logger-"`
	SndHWM        daemon.HighWaterMark `name:"sndhwm" group:"limits" default:"1000" reload:"" help:"Messages that may wait for one logger; 0: no limit."`
	SndBytes      daemon.ByteSize      `name:"sndbytes" group:"limits" default:"64MiB" reload:"" help:"Bytes that may wait for one logger; 0: no limit."`
}

// connectTimeout bounds an attempt to reach a logger, so that one whose host was down is reached
// soon after it is up.
const connectTimeout = 10 * time.Second

// check returns an error if a flag makes no sense, alone or with others.
func (f *balanceFlags) check() error {
	if len(f.To) == 0 {
		return daemon.Usagef("--to: no logger; give at least one, as in --to tcp://127.0.0.1:5558")
	}
	for i, e := range f.To {
		if slices.Contains(f.To[:i], e) {
			return daemon.Usagef("--to %s: given twice", e)
		}
	}
	return nil
}

// toLoggers sets the limits of the socket to the loggers in its configuration.
func (f *balanceFlags) toLoggers(config zmtp.Config) zmtp.Config {
	config.SendHWM, config.SendBytes = int(daemon.Limit(f.SndHWM)), daemon.Limit(f.SndBytes)
	half := time.Duration(f.LoggerTimeout) / 2
	config.HeartbeatInterval, config.HeartbeatTimeout = half, half
	return config
}

// balanceJob is the balancer as a job of a daemon.
type balanceJob struct {
	flags    *balanceFlags
	access   *daemon.Access
	push     *zmtp.Push
	balancer *balance.Balancer
	log      *slog.Logger
	watching sync.WaitGroup
	ending   atomic.Bool // zmtpd itself disconnects the loggers from now on
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
	if out.Mechanism, err = flags.Logger.Mechanism("logger-"); err != nil {
		return nil, err
	}
	if !flags.Logger.Encrypted() && env.Access.Keys() != nil {
		env.Log.Warn("traffic to the loggers is not encrypted, traffic from the nodes is; give " +
			"--logger-curve-server-key if the loggers have keys")
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
			return daemon.EndpointError("--to", e, err)
		}
	}
	return nil
}

// watch logs loggers that connect and loggers that are lost, until the socket ends.
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
			j.log.Warn("logger lost; what waits for it goes to the others", "endpoint", e.Endpoint,
				"err", e.Err)
		}
	}
}

// Ready implements [daemon.Readier].
func (j *balanceJob) Ready() error {
	if j.push.Stats().Peers == 0 {
		return errors.New("no logger of --to is connected; the nodes wait")
	}
	return nil
}

// Shutdown delivers to the loggers what was received. It returns an error if something is lost.
func (j *balanceJob) Shutdown(ctx context.Context) error {
	err := j.balancer.Shutdown(ctx)
	j.ending.Store(true)
	if e := j.push.Shutdown(ctx); err == nil {
		err = e
	}
	j.watching.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // what was lost, if anything, is counted below
	}
	if n := j.dropped(); n > 0 {
		err = errors.Join(err,
			fmt.Errorf("%d log messages that were received could not be delivered to a logger "+
				"within --shutdown-timeout and are lost", n))
	}
	return err
}

// dropped returns how many messages were received and lost at the end.
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
	return `A batch goes only to a logger that is connected and has room. When a logger is lost,
the batches that wait for it go to the others; batches that were sent to it and that it has not
read are lost. While no logger has room, the nodes wait. The loggers need not be zmtpd.`
}

// Jobs implements [daemon.Command].
func (c *balanceCommand) Jobs(env *daemon.Env) ([]daemon.Job, error) {
	j, err := newBalanceJob(&c.balanceFlags, env)
	return []daemon.Job{j}, err
}
