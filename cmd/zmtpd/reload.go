package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// configuration is what the flags of a daemon were taken from, to be read again.
type configuration struct {
	started *kong.Context
	parse   func() (*kong.Context, *cli, error)
}

// reloadable are the flags that take effect on SIGHUP; those of the second half, in what they limit, for connections made later.
var reloadable = []string{
	"log-level", "overload", "wait-share", "logger-timeout", "sndhwm", "sndbytes", "rcvhwm", "rcvbytes", "total-rcvbytes",
	"heartbeat-interval", "heartbeat-ttl", "allow", "deny", "auth-refusal",
	"max-message-size", "handshake-timeout",
}

// keyInterval is how often it is looked whether the files of the keys have changed.
const keyInterval = time.Second

// reloader reads again what a daemon was started with: the configuration on SIGHUP, the keys on SIGHUP and when their files
// change. What cannot be read changes nothing, and does not keep the rest from being read.
type reloader struct {
	log      *slog.Logger
	security *security
	apply    func(now *cli) // gives the flags to those who can change

	config *configuration
	counts *kong.Context // the flags that count, but for those that take effect at the next start
}

func newReloader(log *slog.Logger, s *security, config *configuration, apply func(now *cli)) *reloader {
	return &reloader{log: log, security: s, apply: apply, config: config, counts: config.started}
}

// start reads again whenever there is a reason, until stop is called. From then on no SIGHUP ends the process.
func (r *reloader) start() (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(ctx, hup) })
	return func() {
		cancel()
		watch.Wait()
		signal.Stop(hup)
	}
}

func (r *reloader) watch(ctx context.Context, hup <-chan os.Signal) {
	tick := time.NewTicker(keyInterval)
	defer tick.Stop()
	for {
		select {
		case <-hup:
			r.configuration()
			r.security.Reload()
		case <-tick.C:
			r.security.Poll()
		case <-ctx.Done():
			return
		}
		r.security.Sweep()
	}
}

// configuration reads the configuration again.
func (r *reloader) configuration() {
	flags, now, err := r.config.parse()
	if err != nil {
		r.log.Error("SIGHUP: the configuration cannot be read, the one from before goes on to count", "err", err)
		return
	}
	r.apply(now)
	r.log.Info("SIGHUP: the configuration was read again", "changed", changedFlags(r.counts, flags))
	r.counts = flags
	later := slices.DeleteFunc(changedFlags(r.config.started, flags), func(name string) bool { return slices.Contains(reloadable, name) })
	if len(later) > 0 {
		r.log.Warn("SIGHUP: these flags are not those of the start and take effect when zmtpd is started again", "flags", later)
	}
}

// changedFlags returns the names of the flags that have different values, in order.
func changedFlags(before, after *kong.Context) (names []string) {
	old := map[string]any{}
	for _, flag := range before.Flags() {
		old[flag.Name] = flag.Target.Interface()
	}
	for _, flag := range after.Flags() {
		if !reflect.DeepEqual(flag.Target.Interface(), old[flag.Name]) {
			names = append(names, flag.Name)
		}
	}
	slices.Sort(names)
	return names
}

// reload takes over what can change.
func (f *daemonFlags) reload(now *daemonFlags) { f.Level.Set(now.LogLevel) }
