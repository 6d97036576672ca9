package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"zmtpd/cmd/zmtpd/benchmark"
	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/curve"
	"zmtpd/curve/zeekkeys"
	"zmtpd/zmtp"
)

type benchCommand struct {
	Listen  string `xor:"side" placeholder:"ENDPOINT" help:"Be the far side: listen on this endpoint, as in tcp://*:5570, and answer until SIGINT or SIGTERM. Its address appears on standard error."`
	Connect string `xor:"side" placeholder:"ENDPOINT" help:"Measure against the far side at this endpoint."`

	Size        []daemon.ByteSize `default:"100,1KiB,64KiB" help:"Sizes of messages: at most 32, each 1 byte to 64MiB."`
	For         daemon.Positive   `default:"1s" help:"Time of each measurement."`
	Connections daemon.Count      `default:"200" help:"Connections to set up one after the other, within the time of --for."`
	Timeout     daemon.Positive   `default:"10s" help:"Longest time to wait for an answer of the far side."`
	JSON        bool              `name:"json" help:"Print one JSON object instead of a table."`

	Curve bool `group:"security" help:"Without --listen and --connect: encrypt with CURVE, with keys made for this run."`
	daemon.ClientFlags
	CurveClients   []string `group:"security" placeholder:"PATH" help:"With --listen: certificate file with the public key of a client that may connect, or a folder of which all files *.key are taken (repeatable)."`
	CurveClientKey []string `group:"security" sep:"none" placeholder:"[NAME=]KEY" help:"With --listen: public key of a client that may connect (repeatable)."`
	PlainUsers     string   `group:"security" placeholder:"FILE" help:"With --listen: file with the users of PLAIN that may connect: lines of a name, a space and a password."`

	// Child is for the far side that bench itself starts: it ends with its standard input.
	Child bool `hidden:""`
}

// Help is shown by zmtpd bench --help.
func (benchCommand) Help() string {
	return `Without --listen and --connect, bench starts the far side itself and measures over
the loopback interface. The far side is a ROUTER, the near side a DEALER.

Throughput is that of single sends in one direction, until the last message has arrived. Latency is
the time to the far side and back of one message at a time. Connection set-up is the time from the
call of Connect to the first answer, with TCP and ZMTP handshakes.

With --listen, --curve-secret-key-file is the server's, and --curve-clients or --curve-client-key
names the clients. It takes 1000 CURVE handshakes a second, and 250 from one address.`
}

// Run measures, or is the far side.
func (c *benchCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	if c.Listen != "" {
		return c.serve(ctx, std)
	}
	if len(c.CurveClients)+len(c.CurveClientKey) > 0 || c.PlainUsers != "" {
		return daemon.Usagef("--curve-clients, --curve-client-key and --plain-users are for " +
			"--listen")
	}
	config := benchmark.Config{Endpoint: c.Connect, For: time.Duration(c.For),
		Connections: int(c.Connections), Timeout: time.Duration(c.Timeout)}
	for _, size := range c.Size {
		config.Sizes = append(config.Sizes, int(min(int64(size), benchmark.MaxSize+1)))
	}
	if err := config.Check(); err != nil {
		return &daemon.UsageError{Err: err}
	}
	var err error
	if c.Connect != "" {
		if c.Curve {
			return daemon.Usagef("--curve with --connect: give --curve-server-key and " +
				"--curve-secret-key-file instead")
		}
		if config.Socket, err = c.Socket(); err != nil {
			return err
		}
		return c.measure(ctx, std, config)
	}
	if c.Given() {
		return daemon.Usagef("keys or a user without --listen or --connect: for CURVE use " +
			"--curve, which makes keys")
	}
	child, stop, err := c.startFar(ctx, std)
	if err != nil {
		return err
	}
	config.Endpoint, config.Socket = child.endpoint, child.socket
	return errors.Join(c.measure(ctx, std, config), stop())
}

// measure measures and prints.
func (c *benchCommand) measure(ctx context.Context, std *daemon.Stdio,
	config benchmark.Config) error {
	line := tool.NewProgress(std.Err)
	var stage atomic.Pointer[string]
	config.Stage = func(name string) { stage.Store(&name) }
	config.Watch = func(s *zmtp.Dealer) { tool.WatchConnections(s, line) }
	stop := line.Show(func(_ time.Time, columns int) string {
		if name := stage.Load(); name != nil {
			return cut(*name, columns)
		}
		return ""
	})
	report, err := benchmark.Run(ctx, config)
	stop()
	if errors.Is(err, zmtp.ErrEndpoint) {
		return daemon.EndpointError("--connect", config.Endpoint, err)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(std.Out).Encode(report)
	}
	return report.Write(std.Out)
}

// serve is the far side.
func (c *benchCommand) serve(ctx context.Context, std *daemon.Stdio) error {
	if c.Curve || c.CurveServerKey != "" || c.CurveKeylog != "" || c.PlainUsername != "" {
		return daemon.Usagef("--listen takes its keys from --curve-secret-key-file and " +
			"--curve-clients or --curve-client-key, and the users of PLAIN from --plain-users; " +
			"remove the other flags")
	}
	flags := daemon.AccessFlags{CurveClients: c.CurveClients, CurveClientKey: c.CurveClientKey,
		CurveHandshakeRate: curve.DefaultHandshakeRate, PlainUsers: c.PlainUsers}
	if c.CurveSecretKeyFile != "" {
		flags.CurveSecretKeyFile = []string{c.CurveSecretKeyFile}
	}
	if c.Child {
		flags.CurveHandshakeRate = 0
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, std.In)
			cancel()
		}()
	}
	mechanism, err := flags.Server()
	if err != nil {
		return err
	}
	s := benchmark.NewFar(zmtp.Config{Mechanism: mechanism},
		slog.New(slog.NewTextHandler(std.Err, &slog.HandlerOptions{Level: slog.LevelWarn})))
	defer s.Close()
	bound, err := s.Listen(c.Listen)
	if err != nil {
		return daemon.ListenError("--listen", c.Listen, err)
	}
	fmt.Fprintf(std.Err, listeningOn+"%s\n", bound)
	return benchmark.Serve(ctx, s)
}

// listeningOn is what stands before the address of a far side.
const listeningOn = "zmtpd: listening on "

// farSide is a far side that startFar has started.
type farSide struct {
	endpoint string
	socket   zmtp.Config // to connect to it
}

// startFar starts the far side as another process of this program. stop ends it.
func (c *benchCommand) startFar(ctx context.Context, std *daemon.Stdio) (f farSide,
	stop func() error, err error) {
	program, err := os.Executable()
	if err != nil {
		return f, nil, fmt.Errorf("cannot start the far side: %w", err)
	}
	keys := map[string]string{} // an empty one counts as none
	for _, name := range zeekkeys.Names() {
		keys[name] = ""
	}
	if c.Curve {
		server, serverSecret := curve.GenerateKeyPair()
		client, clientSecret := curve.GenerateKeyPair()
		keys[zeekkeys.ServerPublic], keys[zeekkeys.ServerSecret] = server.String(),
			serverSecret.Text()
		keys[zeekkeys.ClientPublic] = client.String()
		side, err := curve.NewClient(server, clientSecret)
		if err != nil {
			return f, nil, err
		}
		f.socket.Mechanism = side.Mechanism
	}
	cmd := exec.CommandContext(ctx, program, "bench", "--child", "--listen", "tcp://127.0.0.1:*")
	cmd.Args[0] = os.Args[0]
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ZMTPD_") { // those are flags of this process
			cmd.Env = append(cmd.Env, variable)
		}
	}
	for name, key := range keys {
		cmd.Env = append(cmd.Env, name+"="+key) // the last value of a variable counts
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return f, nil, err
	}
	out, err := cmd.StderrPipe()
	if err != nil {
		return f, nil, err
	}
	if err := cmd.Start(); err != nil {
		return f, nil, fmt.Errorf("cannot start the far side: %w", err)
	}
	lines := bufio.NewReader(out)
	copied := make(chan struct{})
	first, err := lines.ReadString('\n')
	go func() {
		defer close(copied)
		_, _ = lines.WriteTo(std.Err)
	}()
	stop = func() error {
		in.Close()
		late := time.AfterFunc(time.Duration(c.Timeout), func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		<-copied
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("the far side: %w", err)
		}
		return nil
	}
	var ok bool
	f.endpoint, ok = strings.CutPrefix(strings.TrimSpace(first), listeningOn)
	if !ok {
		return f, nil, errors.Join(fmt.Errorf("the far side does not listen: %q", first), err,
			stop())
	}
	return f, stop, nil
}
