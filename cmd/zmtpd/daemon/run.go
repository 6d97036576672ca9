package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"zmtpd/zmtp/memory"
)

// Flags are the flags of every daemon.
type Flags struct {
	SocketFlags
	AccessFlags
	Memory          *budgetSize `group:"limits" reload:"" placeholder:"SIZE" help:"Memory for all that peers and sinks make zmtpd hold; the process takes up to 128 MiB more. When it is exhausted, zmtpd stops reading from the peers that hold most, and closes the largest if that lasts. 0: no limit. Default: three quarters of the cgroup's limit, else a quarter of the host's memory."`
	HTTP            string      `name:"http" default:"127.0.0.1:9321" help:"Address at which to serve /metrics, /healthz, /readyz and /status. Empty: none."`
	ShutdownTimeout Duration    `default:"10s" help:"Time to deliver what was received, after SIGINT or SIGTERM. A second signal ends zmtpd at once."`
	LogFormat       string      `enum:"text,json" default:"text" help:"Format of the log on standard error: text or json."`
	LogLevel        slog.Level  `default:"info" reload:"" help:"Lowest level that is logged: debug, info, warn or error."`
}

// Common returns the flags that a command shares with all daemons.
func (f *Flags) Common() *Flags { return f }

// daemon is a running daemon.
type daemon struct {
	// Static after construction.
	version string
	jobs    []Job
	access  *Access
	memory  *memory.Budget // nil for none
	log     *slog.Logger
	started time.Time
	manager *notifier // nil for none

	web       *Endpoint   // nil for none; set before listen
	endpoints []Endpoint  // set before ready
	ready     atomic.Bool // all endpoints are bound and the end has not begun
}

// Run runs the daemon whose command was parsed until ctx ends. It returns nil after an orderly end.
func Run(ctx context.Context, p *Program) error {
	command := selected(p.Parsed)
	flags := command.Common()
	level := new(slog.LevelVar)
	level.Set(flags.LogLevel)
	log := newLog(p.Err, flags.LogFormat, level)
	access, err := flags.AccessFlags.open(log)
	if err != nil {
		return err
	}
	defer access.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	budget := flags.openMemory(log)
	raiseDescriptors()
	jobs, err := command.Jobs(&Env{Stdio: p.Stdio, Log: log, Access: access, Memory: budget,
		Fail: cancel, flags: flags})
	if err != nil {
		return err
	}
	manager := newNotifier(log)
	defer manager.close()
	d := &daemon{version: p.Version, jobs: jobs, access: access, memory: budget, log: log,
		started: time.Now(), manager: manager}
	d.describe(p)
	access.describe(log)
	flags.describeMemory(log)
	warnDescriptors(log, descriptorLimit())
	r := &reloader{log: log, level: level, access: access, memory: budget, jobs: jobs, program: p,
		manager: manager, current: p.Parsed}
	defer r.start()()
	err = d.serve(ctx, flags)
	if cause := context.Cause(ctx); ctx.Err() != nil && !errors.Is(cause, ctx.Err()) {
		err = errors.Join(cause, err)
	}
	return err
}

// describe logs how the daemon was started.
func (d *daemon) describe(p *Program) {
	what := []any{"version", d.version, "command", p.Parsed.Selected().Name, "config",
		ConfigName(p.Parsed), "encrypted", d.access.Keys() != nil}
	for _, j := range d.jobs {
		if j, ok := j.(Describer); ok {
			what = append(what, j.Describe()...)
		}
	}
	d.log.Info("starting", what...)
}

// serve listens, serves until ctx ends, and shuts down. The HTTP server ends last, so that it can
// be asked about the shutdown.
func (d *daemon) serve(ctx context.Context, flags *Flags) error {
	if flags.HTTP != "" {
		web, err := serveHTTP(flags.HTTP, d)
		if err != nil {
			return errors.Join(err, d.shutdown(ctx))
		}
		defer web.close()
		d.web = &Endpoint{"--http", "HTTP", web.url}
	}
	if err := d.listen(ctx); err != nil {
		return errors.Join(err, d.shutdown(ctx))
	}
	// A daemon whose jobs do not say how they are, since a lock is never released, is not alive.
	defer d.manager.watch(func() { d.status() })()
	<-ctx.Done()

	d.ready.Store(false)
	timeout := time.Duration(flags.ShutdownTimeout)
	d.manager.stopping(timeout)
	d.log.Info("shutting down", "timeout", timeout)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	err := d.shutdown(grace)
	for _, j := range d.jobs {
		d.log.Info("stopped", append([]any{"job", j.Name()}, j.Summary()...)...)
	}
	return err
}

// listen binds all endpoints, connects, and announces the endpoints.
func (d *daemon) listen(ctx context.Context) error {
	for _, j := range d.jobs {
		bound, err := j.Listen()
		if err != nil {
			return err
		}
		d.endpoints = append(d.endpoints, bound...)
	}
	if d.web != nil {
		// Last: scripts take its line for the end of the list.
		d.endpoints = append(d.endpoints, *d.web)
	}
	if err := d.connect(ctx); err != nil {
		return err
	}
	d.ready.Store(true)
	for _, e := range d.endpoints {
		d.announce(ctx, e)
	}
	d.warnExposed()
	d.manager.ready()
	return nil
}

// connect connects the jobs. A connection of the daemon to itself is an error.
func (d *daemon) connect(ctx context.Context) error {
	targets := d.access.targets()
	for _, j := range d.jobs {
		if c, ok := j.(Connecter); ok {
			targets = append(targets, c.Targets()...)
		}
	}
	for _, t := range targets {
		if err := refuseSelf(ctx, t, d.endpoints); err != nil {
			return err
		}
	}
	for _, j := range d.jobs {
		if c, ok := j.(Connecter); ok {
			if err := c.Connect(); err != nil {
				return err
			}
		}
	}
	return nil
}

var errNotListening = errors.New("zmtpd is starting or shutting down")

// notReady returns why the daemon cannot do its work, or nil: it is starting or shutting down, or a
// job is not ready.
func (d *daemon) notReady() error {
	if !d.ready.Load() {
		return errNotListening
	}
	var all []error
	for _, j := range d.jobs {
		if r, ok := j.(Readier); ok {
			if err := r.Ready(); err != nil {
				all = append(all, fmt.Errorf("%s: %w", j.Name(), err))
			}
		}
	}
	return errors.Join(all...)
}

// announce logs that an endpoint is bound, at every log level: scripts learn the address from this
// line.
func (d *daemon) announce(ctx context.Context, e Endpoint) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "listening", 0)
	r.Add("flag", e.Flag, "socket", e.Socket, "endpoint", e.Endpoint)
	d.log.Handler().Handle(ctx, r)
}

// warnExposed warns about endpoints that other hosts can reach and that have no encryption.
func (d *daemon) warnExposed() {
	for _, e := range d.endpoints {
		_, address, _ := strings.Cut(e.Endpoint, "://")
		host, err := netip.ParseAddrPort(address)
		if err != nil || host.Addr().Unmap().IsLoopback() {
			continue
		}
		if e.Socket == "HTTP" {
			d.log.Warn("other hosts can reach HTTP, which has no encryption and no access control "+
				"and shows names, addresses and topics; bind it to loopback unless your network "+
				"is trusted", "flag", e.Flag, "endpoint", e.Endpoint)
		} else if d.access.Users() != nil {
			d.log.Warn("other hosts can reach the socket, whose traffic is not encrypted, nor are "+
				"the passwords of PLAIN; make keys with zmtpd keygen --zeek", "flag", e.Flag,
				"socket", e.Socket, "endpoint", e.Endpoint)
		} else if d.access.Keys() == nil {
			d.log.Warn("other hosts can reach the socket, whose traffic is not encrypted and "+
				"whose clients are not authenticated; make keys with zmtpd keygen --zeek",
				"flag", e.Flag, "socket", e.Socket, "endpoint", e.Endpoint)
		}
	}
}

// shutdown ends all jobs concurrently.
func (d *daemon) shutdown(ctx context.Context) error {
	errs := make([]error, len(d.jobs))
	var ending sync.WaitGroup
	for i, j := range d.jobs {
		ending.Go(func() { errs[i] = j.Shutdown(ctx) })
	}
	ending.Wait()
	return errors.Join(errs...)
}
