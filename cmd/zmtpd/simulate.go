package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/simulation"
	"zmtpd/cmd/zmtpd/tool"
	"zmtpd/zmtp"
)

type simulateCommand struct {
	Workers daemon.Count `default:"4" help:"Workers."`
	Proxies daemon.Count `default:"1" help:"Proxies."`
	Slow    daemon.Count `default:"0" help:"Of the workers, those that take ten events a second. What they lose is not counted as lost."`
	Dying   daemon.Count `default:"0" help:"Of the workers, those that die, one every 2 s, and come back."`

	Events rate            `default:"500" placeholder:"N" help:"Events a second, of all nodes together."`
	Logs   rate            `default:"2000" placeholder:"N" help:"Log records a second, of all workers together."`
	For    daemon.Duration `default:"0s" help:"Time to simulate; 0s: until SIGINT or SIGTERM."`

	XSub   string  `name:"xsub" default:"tcp://127.0.0.1:5556" placeholder:"ENDPOINT" help:"Endpoint of the broker's XSUB."`
	XPub   string  `name:"xpub" default:"tcp://127.0.0.1:5555" placeholder:"ENDPOINT" help:"Endpoint of the broker's XPUB."`
	Push   string  `default:"tcp://127.0.0.1:5557" placeholder:"ENDPOINT" help:"Endpoint of the logger."`
	Status *string `placeholder:"URL" help:"The logger's /status, to compare what was written with what it received. Default http://127.0.0.1:9321/status; empty: no comparison."`

	daemon.ClientFlags
}

// Help is shown by zmtpd simulate --help.
func (simulateCommand) Help() string {
	return `It plays a manager, workers and proxies against a running broker and logger, and
prints at the end what was sent and what has arrived. The exit status is 1 if something is lost that
should have arrived. The broker and the logger must not be used by a real cluster at the same time.`
}

// defaultStatus is the URL of /status of a daemon with the default --http.
const defaultStatus = "http://127.0.0.1:9321/status"

// Run simulates the cluster.
func (c *simulateCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	socket, err := c.Socket()
	if err != nil {
		return err
	}
	line := tool.NewProgress(std.Err)
	config := simulation.Config{
		Workers: int(c.Workers), Proxies: int(c.Proxies), Slow: int(c.Slow), Dying: int(c.Dying),
		Events: float64(c.Events), Logs: float64(c.Logs),
		XSub: c.XSub, XPub: c.XPub, Push: c.Push, Status: defaultStatus, Socket: socket,
		Watch:  func(s *zmtp.Push) { tool.WatchConnections(s, line) },
		Logger: slog.New(slog.NewTextHandler(line, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if c.Status != nil {
		config.Status = *c.Status
	}
	if err := config.Check(); err != nil {
		return daemon.Usagef("%v", err)
	}
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.For))
		defer cancel()
	}
	report, err := simulation.Run(ctx, config, func(p func() simulation.Progress) (stop func()) {
		began := time.Now()
		return line.Show(func(now time.Time, columns int) string {
			return cut(simulationLine(p(), now.Sub(began)), columns)
		})
	})
	if err != nil {
		return err
	}
	if err := report.Write(std.Out); err != nil {
		return err
	}
	return report.Err()
}

// simulationLine describes the progress of a simulation after some time.
func simulationLine(p simulation.Progress, after time.Duration) string {
	line := fmt.Sprintf("%v: %d nodes up, %d events sent, %d received, %d log records",
		after.Round(time.Second), p.Up, p.Sent, p.Arrived, p.Records)
	if p.Deaths > 0 {
		line += fmt.Sprintf(", %d deaths", p.Deaths)
	}
	return line
}

// cut returns at most n bytes of an ASCII line.
func cut(line string, n int) string { return line[:min(len(line), max(n, 0))] }

// rate is a number a second: 20000 or 20000/s.
type rate float64

// UnmarshalText parses it.
func (r *rate) UnmarshalText(text []byte) error {
	v, err := strconv.ParseFloat(strings.TrimSuffix(string(text), "/s"), 64)
	if err != nil || !(v >= 0 && v <= 1e9) {
		return fmt.Errorf("%q is no rate; write a number a second, as in 20000/s", text)
	}
	*r = rate(v)
	return nil
}
