package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

// cli is the grammar of the command line. A command is a field here, and a file with its type,
// which implements daemon.Command or has a Run method for kong.
type cli struct {
	ShowVersion versionFlag       `name:"version" short:"v" help:"Print the version."`
	Help        helpFlag          `short:"h" help:"Print help."`
	Config      daemon.ConfigFlag `placeholder:"FILE" help:"YAML file with flags. The command line and variables win over it."`

	Up          upCommand          `cmd:"" group:"daemons" help:"Run the broker and the logger of a Zeek cluster in one process."`
	Forwarder   forwarderCommand   `cmd:"" group:"daemons" help:"Run the broker, which passes events from publishers to subscribers."`
	Logger      loggerCommand      `cmd:"" group:"daemons" help:"Run the logger, which writes the logs of all nodes to files, standard output or Kafka."`
	Balance     balanceCommand     `cmd:"" group:"daemons" help:"Share the logs of all nodes among several loggers."`
	StoreServer storeServerCommand `cmd:"" name:"store-server" group:"daemons" help:"Keep key-value stores, without a broker and a logger."`

	Bench         benchCommand    `cmd:"" group:"tools" help:"Measure throughput, latency and connection set-up between two processes or hosts."`
	Capture       captureCommand  `cmd:"" group:"tools" help:"Show what a cluster says, from packets."`
	Doctor        doctorCommand   `cmd:"" group:"tools" help:"Find what is wrong with a cluster, and say what to do."`
	Events        eventsCommand   `cmd:"" group:"tools" help:"Print the events of a Zeek cluster as they pass."`
	Publish       publishCommand  `cmd:"" group:"tools" help:"Publish an event in a Zeek cluster."`
	Nodes         nodesCommand    `cmd:"" group:"tools" help:"Show the nodes of a Zeek cluster."`
	Replay        replayCommand   `cmd:"" group:"tools" help:"Send the messages of a recording or a capture."`
	Configuration configCommand   `cmd:"" name:"config" group:"tools" help:"Make, check or show a configuration file."`
	Keygen        keygenCommand   `cmd:"" group:"tools" help:"Make CURVE keys."`
	Pub           pubCommand      `cmd:"" group:"tools" help:"Publish messages from standard input."`
	Sub           subCommand      `cmd:"" group:"tools" help:"Subscribe to topics and print messages."`
	Push          pushCommand     `cmd:"" group:"tools" help:"Push messages from standard input."`
	Pull          pullCommand     `cmd:"" group:"tools" help:"Pull messages and print them."`
	Req           reqCommand      `cmd:"" group:"tools" help:"Send requests from standard input and print the replies."`
	Rep           repCommand      `cmd:"" group:"tools" help:"Print requests and reply to them from standard input, or with the request."`
	Dealer        dealerCommand   `cmd:"" group:"tools" help:"Send messages from standard input to ROUTERs or REPs and print what comes back."`
	Router        routerCommand   `cmd:"" group:"tools" help:"Print messages behind the routing ids of their senders, and send standard input to routing ids."`
	Pair          pairCommand     `cmd:"" group:"tools" help:"Send standard input to one peer and print what it sends."`
	Store         storeCommand    `cmd:"" group:"tools" help:"Read and change key-value stores."`
	Proxy         proxyCommand    `cmd:"" group:"tools" help:"Pass messages between two sockets."`
	HelpOn        helpCommand     `cmd:"" name:"help" group:"tools" help:"Print help about zmtpd or one of its commands."`
	Simulate      simulateCommand `cmd:"" group:"tools" help:"Play the nodes of a Zeek cluster against a broker and a logger, and balance what was sent and seen."`
	Top           topCommand      `cmd:"" group:"tools" help:"Show live who is slow and what is lost, in a terminal or once for scripts."`
	Version       versionCommand  `cmd:"" group:"tools" help:"Print version, commit, Go version and dependencies."`

	Completion completionCommand `cmd:"" group:"tools" help:"Print a script that completes command lines of zmtpd in a shell."`
	Man        manCommand        `cmd:"" group:"tools" help:"Print the manual page zmtpd(1)."`
}

var groups = kong.ExplicitGroups([]kong.Group{
	{Key: "daemons", Title: "Daemons:"},
	{Key: "tools", Title: "Tools:"},
	{Key: "security", Title: "Encryption and access:"},
	{Key: "limits", Title: "Limits:"},
	{Key: "sinks", Title: "Destinations:"},
	{Key: "kafka", Title: "Kafka:"},
	{Key: "tap", Title: "Copies of the traffic:"},
	{Key: "publish", Title: "Logs for subscribers of events:"},
	{Key: "websocket", Title: "WebSocket clients:"},
	{Key: "store", Title: "Key-value stores:"},
	{Key: "archive", Title: "Rotated logs:"},
	{Key: "cluster", Title: "Node of the cluster:"},
})

const description = `Broker and logger for Zeek clusters, and tools for ZeroMQ.

Every flag has an environment variable, which its help names, and can stand in a configuration
file, see "zmtpd help config". A flag with ",..." takes a list with commas.`

// run is the whole program. It returns when the command is done; a daemon is done when ctx ends. It
// returns nil after an orderly end.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	std := daemon.Stdio{In: stdin, Out: stdout, Err: stderr}
	parse := func() (*kong.Context, error) { return parseArgs(ctx, args, std) }
	command, err := parse()
	if err == nil {
		if help, ok := command.Selected().Target.Addr().Interface().(*helpCommand); ok {
			_, err = parseArgs(ctx, append(help.Command, "--help"), std)
		}
	}
	if errors.Is(err, errHelpShown) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	if err != nil {
		return parseError(err)
	}
	for _, fault := range daemon.UnknownVariables(command.Model) {
		fmt.Fprintf(stderr, "zmtpd: %s\n", fault)
	}
	reparse := parser(func(args []string) (*kong.Context, error) {
		return parseArgs(ctx, args, std)
	})
	if daemon.IsDaemon(command) {
		err = daemon.Run(ctx, &daemon.Program{Stdio: std, Version: versionString(), Parsed: command,
			Parse: parse})
	} else if err = command.Run(&std, reparse); errors.Is(err, syscall.EPIPE) {
		return nil // the reader of the tool's output has ended
	}
	if errors.Is(err, zmtp.ErrEndpoint) {
		return &daemon.UsageError{Err: err}
	}
	return err
}

// parseArgs parses the command line, and with it the environment and the configuration file.
func parseArgs(ctx context.Context, args []string, std daemon.Stdio) (*kong.Context, error) {
	return grammar(ctx, std).Parse(args)
}

// grammar returns the parser of the command line.
func grammar(ctx context.Context, std daemon.Stdio) *kong.Kong {
	k, err := kong.New(new(cli),
		kong.Name("zmtpd"), kong.Description(description), groups,
		kong.NoDefaultHelp(), kong.Writers(std.Out, std.Err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.PostBuild(daemon.NameVariables),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		panic(err) // the grammar is wrong
	}
	return k
}

// parseError makes a daemon.UsageError of an error of kong.
func parseError(err error) error {
	if p, ok := errors.AsType[*kong.ParseError](err); ok {
		help := "zmtpd --help"
		if p.Context != nil {
			if node := p.Context.Selected(); node != nil {
				help = "zmtpd " + node.Path() + " --help"
			}
		}
		text := strings.ReplaceAll(p.Error(), "expected value value", "expected a value")
		return &daemon.UsageError{Err: fmt.Errorf("%s (see %s)", text, help)}
	}
	return &daemon.UsageError{Err: err}
}

// report prints the error and returns the exit status: 0 for none, 2 for a daemon.UsageError, 1 for
// any other.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error() + "\n") { // a line for each of several errors
		fmt.Fprintf(stderr, "zmtpd: %s", line)
	}
	if _, ok := errors.AsType[*daemon.UsageError](err); ok {
		return 2
	}
	return 1
}

var errHelpShown = errors.New("help was shown")

// helpFlag prints the help of its command.
type helpFlag bool

// IgnoreDefault tells kong not to set the flag's default.
func (helpFlag) IgnoreDefault() {}

// BeforeReset is called by kong when the flag is given, before anything is checked.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	return errHelpShown
}

// helpCommand is zmtpd help, which run handles.
type helpCommand struct {
	Command []string `arg:"" optional:"" help:"Command to describe."`
}

// versionFlag prints the version.
type versionFlag bool

// IgnoreDefault tells kong not to set the flag's default.
func (versionFlag) IgnoreDefault() {}

// BeforeReset is called by kong when the flag is given, before anything is checked.
func (versionFlag) BeforeReset(ctx *kong.Context) error {
	if err := (versionCommand{}).Run(&daemon.Stdio{Out: ctx.Stdout}); err != nil {
		return err
	}
	return errHelpShown
}
