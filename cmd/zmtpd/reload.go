package main

import (
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

// reloadable are the flags that take effect on SIGHUP. Keys, which are read from their files again, are the business of
// security.watch.
var reloadable = []string{"log-level", "overload", "stall-timeout"}

// onHangup reads the configuration again on each SIGHUP and lets apply have it, until stop is called. One that cannot be read changes
// nothing.
func (c *configuration) onHangup(log *slog.Logger, apply func(now *cli)) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-hup:
				c.reload(log, apply)
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(hup)
		close(done)
		watch.Wait()
	}
}

func (c *configuration) reload(log *slog.Logger, apply func(now *cli)) {
	command, now, err := c.parse()
	if err != nil {
		log.Error("SIGHUP: the configuration cannot be read, the one from before goes on to count", "err", err)
		return
	}
	apply(now)
	changed := changedFlags(c.started, command)
	later := slices.DeleteFunc(slices.Clone(changed), func(name string) bool { return slices.Contains(reloadable, name) })
	log.Info("SIGHUP: the configuration was read again", "differs_from_start", changed)
	if len(later) > 0 {
		log.Warn("SIGHUP: these flags have changed and take effect when zmtpd is started again", "flags", later)
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

// reload takes over what can change.
func (j *forwarderJob) reload(now *forwarderFlags) {
	j.f.Reconfigure(now.Overload, time.Duration(now.StallTimeout))
}
