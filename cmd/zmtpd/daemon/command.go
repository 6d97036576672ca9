package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"

	"zmtpd/zmtp"
	"zmtpd/zmtp/memory"
)

// Command is a daemon: a struct with its flags, which embeds [Flags].
type Command interface {
	// Jobs makes the jobs of the daemon. They do not listen or connect yet.
	Jobs(env *Env) ([]Job, error)
	Common() *Flags // from Flags
}

// Env has what jobs share.
type Env struct {
	Stdio
	Log    *slog.Logger
	Access *Access
	// Fail ends the daemon as SIGTERM does, but with this error. A job calls it when it can never
	// do its work again. It does not block and may be called at any time.
	Fail   func(error)
	Memory *memory.Budget // of the process, nil for no limit
	flags  *Flags
}

// Socket returns the configuration of a socket: the common flags, without access control.
func (e *Env) Socket() zmtp.Config {
	c := e.flags.Socket(e.Log)
	c.Memory = e.Memory
	return c
}

// Common returns the flags that the command shares with all daemons.
func (e *Env) Common() *Flags { return e.flags }

// SocketConfig is [Env.Socket] for [Job.Reload]: the common flags of a command, without a log.
func SocketConfig(c Command) zmtp.Config { return c.Common().Socket(nil) }

// Stdio are the standard streams of the process.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Job is one role of a daemon, such as the broker or the logger. Reload, Collect, Status and
// Summary may be called at any time, concurrently.
type Job interface {
	// Name is the label of the job in the log and in /status.
	Name() string
	// Listen binds the endpoints of the job and starts it.
	Listen() ([]Endpoint, error)
	// Reload puts the flags with the tag reload into effect. now has the type of the job's command.
	Reload(now Command)
	// Shutdown ends the job, whether it listens or not. It blocks until everything is delivered, or
	// until ctx ends. It returns an error about losses that the operator has to know of.
	Shutdown(ctx context.Context) error
	// Collect sends the metrics of the job.
	Collect(ch chan<- prometheus.Metric)
	// Status returns the job's part of /status, to be encoded as JSON.
	Status() any
	// Summary returns attributes for the job's last line in the log.
	Summary() []any
}

// Connecter is a Job that not only listens but also connects.
type Connecter interface {
	// Targets returns the endpoints to which Connect connects. A daemon that listens at one of them
	// does not start.
	Targets() []Target
	// Connect connects. It is called once, after the endpoints of all jobs are bound.
	Connect() error
}

// Readier is a Job that is at times unable to do its work.
type Readier interface {
	// Ready returns why the job cannot work now, or nil.
	Ready() error
}

// Describer is a Job with settings for the line of the log about the start.
type Describer interface {
	// Describe returns attributes for that line.
	Describe() []any
}

// Endpoint is an address at which a daemon listens.
type Endpoint struct {
	Flag     string `json:"flag"`     // of the endpoint, such as "--xsub"
	Socket   string `json:"socket"`   // the socket type, or "HTTP"
	Endpoint string `json:"endpoint"` // with the address that was bound
}

// Target is an endpoint to which a daemon connects.
type Target struct {
	Flag     string // of the endpoint, such as "--to"
	Endpoint string
}

// BindAll binds every endpoint of a flag with listen.
func BindAll(flag, socket string, endpoints []string,
	listen func(string) (string, error)) ([]Endpoint, error) {
	if len(endpoints) == 0 {
		return nil, Usagef("%s: no endpoint; give at least one, as in %s tcp://127.0.0.1:*",
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
			"another address: %w", flag, address, err)
	}
	return EndpointError(flag, address, err)
}

// EndpointError names the flag in an error about its endpoint. An endpoint that is not well formed
// is a [UsageError].
func EndpointError(flag, endpoint string, err error) error {
	if !errors.Is(err, zmtp.ErrEndpoint) {
		return fmt.Errorf("%s %s: %w", flag, endpoint, err)
	}
	// The text begins with the endpoint, which is named already.
	text := strings.TrimPrefix(err.Error(), fmt.Sprintf("%v %q: ", zmtp.ErrEndpoint, endpoint))
	return Usagef("%s %q: %s", flag, endpoint, text)
}

// RootCause returns the innermost error, such as the last part of "dial tcp 127.0.0.1:1: connect:
// connection refused" where the address is printed already.
func RootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// UsageError is a mistake in the command line, the environment or the configuration file. The exit
// status is 2.
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
