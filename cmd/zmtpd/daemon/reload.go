package daemon

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

	"zmtpd/zmtp/memory"
)

// ReloadTag is the tag of flags whose changes take effect on SIGHUP.
const ReloadTag = "reload"

// keyInterval is the time between two checks of the key files for changes.
const keyInterval = time.Second

// reloader reads the configuration again on SIGHUP, and the keys on SIGHUP and when their files
// change. A fault in one of them leaves it as it was and does not stop the other.
type reloader struct {
	log     *slog.Logger
	level   *slog.LevelVar
	access  *Access
	memory  *memory.Budget
	jobs    []Job
	program *Program
	manager *notifier // nil for none

	current *kong.Context // the configuration that was read last
}

// start starts the reloader. Until stop is called, SIGHUP does not end the process.
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
			r.manager.reloading()
			r.configuration()
			r.access.Reload()
			r.manager.ready()
		case <-tick.C:
			r.access.Poll()
		case <-ctx.Done():
			return
		}
		r.access.Sweep()
	}
}

// configuration reads the configuration again.
func (r *reloader) configuration() {
	now, err := r.program.Parse()
	if err != nil {
		r.log.Error("SIGHUP: cannot read the configuration; the earlier one stays in effect", "err",
			err)
		return
	}
	command := selected(now)
	flags := command.Common()
	r.level.Set(flags.LogLevel)
	r.access.reload(&flags.AccessFlags)
	flags.reloadMemory(r.memory, r.log)
	for _, j := range r.jobs {
		j.Reload(command)
	}
	r.log.Info("SIGHUP: read the configuration again", "changed", names(changed(r.current, now)))
	r.current = now
	later := slices.DeleteFunc(changed(r.program.Parsed, now),
		func(f *kong.Flag) bool { return f.Tag.Has(ReloadTag) })
	if len(later) > 0 {
		r.log.Warn("SIGHUP: changes of these flags take effect only after a restart", "flags",
			names(later))
	}
}

// changed returns the flags whose values differ.
func changed(before, after *kong.Context) (flags []*kong.Flag) {
	old := map[string]any{}
	for _, flag := range before.Flags() {
		old[flag.Name] = flag.Target.Interface()
	}
	for _, flag := range after.Flags() {
		if !reflect.DeepEqual(flag.Target.Interface(), old[flag.Name]) {
			flags = append(flags, flag)
		}
	}
	return flags
}

// names returns the names of flags in alphabetical order.
func names(flags []*kong.Flag) (all []string) {
	for _, flag := range flags {
		all = append(all, flag.Name)
	}
	slices.Sort(all)
	return all
}
