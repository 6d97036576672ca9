package main

import (
	"errors"
	"fmt"

	"github.com/alecthomas/kong"

	"zmtpd/cmd/zmtpd/daemon"
)

// configCommand has the commands about the configuration file.
type configCommand struct {
	Init  configInit  `cmd:"" help:"Print an example with every flag of the daemons, its meaning and its default."`
	Check configCheck `cmd:"" help:"Print the faults of a file. The exit status is 2 if there are any."`
	Show  configShow  `cmd:"" help:"Print the value of every flag of a command, and its origin."`
}

// Help is shown by zmtpd config --help.
func (configCommand) Help() string {
	return `The file is YAML. Flags of all daemons stand at its top level, without the dashes:
"sndhwm: 2000". A section with the name of a command, such as "forwarder:", has flags for that
command only. Name the file with --config or $ZMTPD_CONFIG. The command line wins over environment
variables, and these over the file. SIGHUP makes a daemon read the file again.`
}

// parser parses a command line.
type parser func(args []string) (*kong.Context, error)

type configInit struct{}

// Run prints the example.
func (configInit) Run(std *daemon.Stdio, k *kong.Context) error {
	return daemon.WriteExample(std.Out, k.Model)
}

type configCheck struct {
	File string `arg:"" optional:"" help:"File to check. Default: that of --config."`
}

// Run checks the file. That of --config was checked when the command line was parsed.
func (c *configCheck) Run(std *daemon.Stdio, k *kong.Context) error {
	name := c.File
	if name == "" {
		if name = daemon.ConfigName(k); name == "" {
			return daemon.Usagef("no file; name one, as in zmtpd config check zmtpd.yaml")
		}
	} else if err := daemon.CheckConfig(name, k.Model); err != nil {
		return &daemon.UsageError{Err: err}
	}
	_, err := fmt.Fprintf(std.Out, "%s: no fault\n", name)
	return err
}

type configShow struct {
	Command []string `arg:"" passthrough:"" help:"Command with its flags."`
}

// Help is shown by zmtpd config show --help.
func (configShow) Help() string {
	return `Example: "zmtpd config show up --config zmtpd.yaml --sndhwm 2000". The output is itself
a configuration file. It has no secret keys.`
}

// Run parses the command and prints its flags.
func (c *configShow) Run(std *daemon.Stdio, k *kong.Context, parse parser) error {
	args := c.Command
	if name := daemon.ConfigName(k); name != "" {
		args = append([]string{"--config", name}, args...)
	}
	parsed, err := parse(args)
	if errors.Is(err, errHelpShown) {
		return nil
	}
	if err != nil {
		return parseError(err)
	}
	return daemon.WriteFlags(std.Out, parsed)
}
