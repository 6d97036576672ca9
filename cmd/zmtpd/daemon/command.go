package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/zmtp"
	"zmtpd/zmtp/memory"
)

// Command is a daemon: a struct with its flags, of which [Flags] are a part.
type Command interface {
	// Jobs makes the jobs of the daemon. They neither listen nor connect yet.
	Jobs(env *Env) ([]Job, error)
	Common() *Flags // from Flags
}

// Env is what jobs are made with.
type Env struct {
	Stdio
	Log    *slog.Logger
	Access *Access
	// Fail ends the daemon as SIGTERM does, but with this error: a job calls it when it can never
	// do its work again. It does not block, and may be called at any time.
	Fail   func(error)
	Memory *memory.Budget // of the process, nil for no limit
	flags  *Flags
}

// Socket returns the configuration of a socket with the common flags, and without access control.
func (e *Env) Socket() zmtp.Config {
	c := e.flags.Socket(e.Log)
	c.Memory = e.Memory
	return c
}

// SocketConfig is [Env.Socket] for Reload: with the common flags of a command, and without a log.
func SocketConfig(c Command) zmtp.Config { return c.Common().Socket(nil) }

// Stdio are the standard streams of the process.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Job is one thing that a daemon does, such as being a broker or a logger. Reload, Collect, Status
// and Summary may be called at any time, and at the same time.
type Job interface {
	// Name is the label of the job in the log and in /status.
	Name() string
	// Listen binds the endpoints of the job and starts it.
	Listen() ([]Endpoint, error)
	// Reload takes over the flags with the tag reload. now has the type of the job's command.
	Reload(now Command)
	// Shutdown ends the job, whether it listens or not. When ctx ends, it gives up what is left. A
	// loss that the operator has to know of is an error.
	Shutdown(ctx context.Context) error
	// Collect sends the metrics of the job.
	Collect(ch chan<- prometheus.Metric)
	// Status returns the job's part of /status, to be encoded as JSON.
	Status() any
	// Summary returns attributes for the last log line of the job.
	Summary() []any
}

// Connecter is a Job that connects as well as listens.
type Connecter interface {
	// Targets returns the endpoints to which Connect connects. The daemon does not start if it
	// listens at one of them.
	Targets() []Target
	// Connect connects. It is called once, after the endpoints of all jobs are bound.
	Connect() error
}

// Readier is a Job that may be unable to do its work at times.
type Readier interface {
	// Ready returns why it cannot work, or nil.
	Ready() error
}

// Describer is a Job with settings that the operator should see in the first line of the log.
type Describer interface {
	// Describe returns attributes for that line.
	Describe() []any
}

// Endpoint is an address at which a daemon listens.
type Endpoint struct {
	Flag     string `json:"flag"`     // that asks for it, as in "--xsub"
	Socket   string `json:"socket"`   // the socket type, or "HTTP"
	Endpoint string `json:"endpoint"` // with the address actually bound
}

// Target is an endpoint to which a daemon connects.
type Target struct {
	Flag     string // that asks for it
	Endpoint string
}

// BindAll binds every endpoint of a flag with listen.
func BindAll(flag, socket string, endpoints []string,
	listen func(string) (string, error)) ([]Endpoint, error) {
	if len(endpoints) == 0 {
		return nil, Usagef("%s: no endpoint; give at least one, as in %s tcp://127.0.0.1:5555",
			flag, flag)
	}
	var all []Endpoint
	for _, e := range endpoints {
		bound, err := listen(e)
		if err != nil {
			return nil, ListenError(flag, e, err)
		}
		all = append(all, Endpoint{flag, socket, bound})
	}
	return all, nil
}

// ListenError returns the error of a daemon or tool that cannot listen at the address of a flag.
func ListenError(flag, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s: another process listens there already; stop it, or choose "+
			"another address: %w",
			flag, address, err)
	}
	return fmt.Errorf("%s %s: %w", flag, address, err)
}

// UsageError is an error in how zmtpd was called. Its exit status is 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// Program is the process in which a daemon runs.
type Program struct {
	Stdio
	Version string
	// Parsed is the command line, with the environment and the configuration file.
	Parsed *kong.Context
	// Parse reads all of them again.
	Parse func() (*kong.Context, error)
}

// selected returns the command that was parsed.
func selected(c *kong.Context) Command { return c.Selected().Target.Addr().Interface().(Command) }

// IsDaemon reports whether the command that was parsed is a daemon.
func IsDaemon(c *kong.Context) bool {
	_, ok := c.Selected().Target.Addr().Interface().(Command)
	return ok
}
