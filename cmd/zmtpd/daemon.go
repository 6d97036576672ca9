package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// daemonFlags are common to the daemons.
type daemonFlags struct {
	HTTP            string        `name:"http" default:"127.0.0.1:9321" help:"Serve /metrics, /healthz, /readyz and /status there. Empty for no HTTP."`
	ShutdownTimeout time.Duration `default:"10s" help:"How long to go on with what is under way after SIGINT or SIGTERM. A second signal ends zmtpd at once."`
	LogFormat       string        `enum:"text,json" default:"text" help:"Form of the log on standard error: text or json."`
	LogLevel        slog.Level    `default:"info" help:"Least important level to log: debug, info, warn or error."`

	Level slog.LevelVar `kong:"-"` // in effect, see reload
}

// newLog returns the log of a daemon.
func (f *daemonFlags) newLog(w io.Writer) *slog.Logger {
	f.Level.Set(f.LogLevel)
	o := &slog.HandlerOptions{Level: &f.Level}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// job is what a daemon does: the forwarder's job or the logger's.
type job interface {
	// listen binds the job's endpoints and starts it.
	listen() ([]listening, error)
	// shutdown ends the job, whether it listens or not. When ctx ends first it gives up what is
	// left, and says so.
	shutdown(ctx context.Context) error
	// collect sends the job's metrics.
	collect(ch chan<- prometheus.Metric)
	// status adds what the job has to tell to the answer to /status.
	status(*status)
	// summary tells in few words what it did, for the log.
	summary() []any
}

// listening is an endpoint that is bound.
type listening struct {
	Flag     string `json:"flag"`     // by which it was asked for
	Socket   string `json:"socket"`   // "XSUB", "HTTP"
	Endpoint string `json:"endpoint"` // with the address actually bound
}

// daemon is a running daemon.
type daemon struct {
	// Static after construction.
	jobs     []job
	security *security
	log      *slog.Logger
	started  time.Time

	web       *listening  // nil for none; set before listen
	endpoints []listening // set before ready
	ready     atomic.Bool // all endpoints are bound and the end has not begun
}

// run listens, serves until ctx ends, and shuts down. The HTTP server ends last, to tell
// how the rest does.
func (f *daemonFlags) run(ctx context.Context, r *reloader, jobs ...job) error {
	log := r.log
	raiseDescriptors(log)
	d := &daemon{jobs: jobs, security: r.security, log: log, started: time.Now()}
	defer r.start()()
	if f.HTTP != "" {
		web, err := serveHTTP(f.HTTP, d)
		if err != nil {
			return errors.Join(err, d.shutdown(ctx))
		}
		defer web.close()
		d.web = &listening{"--http", "HTTP", web.url}
	}
	if err := d.listen(ctx); err != nil {
		return errors.Join(err, d.shutdown(ctx))
	}
	<-ctx.Done()

	d.ready.Store(false)
	log.Info("shutting down", "timeout", f.ShutdownTimeout)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.ShutdownTimeout)
	defer cancel()
	err := d.shutdown(grace)
	for _, j := range jobs {
		log.Info("stopped", j.summary()...)
	}
	return err
}

// listen binds all endpoints, and announces them when it has succeeded.
func (d *daemon) listen(ctx context.Context) error {
	for _, j := range d.jobs {
		bound, err := j.listen()
		if err != nil {
			return err
		}
		d.endpoints = append(d.endpoints, bound...)
	}
	if d.web != nil {
		d.endpoints = append(d.endpoints, *d.web) // the last line tells that there are no more
	}
	if err := d.connect(ctx); err != nil {
		return err
	}
	d.ready.Store(true)
	for _, e := range d.endpoints {
		d.announce(ctx, e)
	}
	return nil
}

// connect connects the jobs, but none of them to the daemon itself.
func (d *daemon) connect(ctx context.Context) error {
	targets := d.security.targets()
	for _, j := range d.jobs {
		if c, ok := j.(connecter); ok {
			targets = append(targets, c.targets()...)
		}
	}
	for _, t := range targets {
		if err := refuseSelf(ctx, t, d.endpoints); err != nil {
			return err
		}
	}
	for _, j := range d.jobs {
		if c, ok := j.(connecter); ok {
			if err := c.connect(); err != nil {
				return err
			}
		}
	}
	return nil
}

// isReady reports whether all endpoints are bound, the end has not begun, and no job says that it is not ready.
func (d *daemon) isReady() bool {
	return d.ready.Load() && !slices.ContainsFunc(d.jobs, func(j job) bool {
		r, ok := j.(interface{ ready() bool })
		return ok && !r.ready()
	})
}

// announce logs that an endpoint is bound, whatever the log level: it is how scripts
// learn the address.
func (d *daemon) announce(ctx context.Context, e listening) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "listening", 0)
	r.Add("flag", e.Flag, "socket", e.Socket, "endpoint", e.Endpoint)
	d.log.Handler().Handle(ctx, r)
}

// shutdown ends all jobs at the same time.
func (d *daemon) shutdown(ctx context.Context) error {
	errs := make([]error, len(d.jobs))
	var ending sync.WaitGroup
	for i, j := range d.jobs {
		ending.Go(func() { errs[i] = j.shutdown(ctx) })
	}
	ending.Wait()
	return errors.Join(errs...)
}

// bindAll binds every endpoint of a flag.
func bindAll(flag, socket string, endpoints []string, listen func(string) (string, error)) ([]listening, error) {
	if len(endpoints) == 0 {
		return nil, usagef("%s: no endpoint, give at least one as in %s tcp://127.0.0.1:5555", flag, flag)
	}
	var all []listening
	for _, e := range endpoints {
		bound, err := listen(e)
		if err != nil {
			return nil, listenError(flag, e, err)
		}
		all = append(all, listening{flag, socket, bound})
	}
	return all, nil
}
