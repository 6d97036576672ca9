package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"zmtpd/capture"
	"zmtpd/capture/cluster"
	"zmtpd/capture/printer"
	"zmtpd/capture/rewrite"
	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
	"zmtpd/pipeline"
	"zmtpd/pipeline/files"
	"zmtpd/pipeline/redef"
	"zmtpd/zmtp/wire"
)

type captureCommand struct {
	Read  captureReadCommand  `cmd:"" help:"Show what is in capture files."`
	Live  captureLiveCommand  `cmd:"" help:"Show what passes an interface."`
	Stats captureStatsCommand `cmd:"" help:"Show how many packets pass an interface, and are dropped."`
}

// captureFlags say what of a capture is shown, and how.
type captureFlags struct {
	Format  printer.Format `enum:"text,json,tsv" default:"text" help:"Format of the output: text, json (an object a line) or tsv."`
	Summary bool           `help:"Print a summary at the end: nodes, logs, events, topics, brokers, sessions and slow peers."`
	Quiet   bool           `short:"q" help:"Do not print events."`
	Logs    string         `placeholder:"DIR" help:"Write the log batches to log files in this folder, as zmtpd logger does."`

	Address []string `placeholder:"ADDRESS" help:"Only sessions of this address, network or port, as in 10.0.0.1, 10.0.0.0/8, 10.0.0.1:5555 or :5555 (repeatable)."`
	Socket  []string `placeholder:"TYPE" help:"Only sessions with a socket of this type, as in PUSH (repeatable)."`
	Topic   []string `sep:"none" placeholder:"PREFIX" help:"Only what has a topic with this prefix (repeatable)."`
	Event   []string `placeholder:"NAME" help:"Only Zeek events of this name, as in Cluster::hello (repeatable)."`
	Path    []string `placeholder:"PATH" help:"Only batches of this log, as in conn (repeatable)."`
	Command []string `placeholder:"NAME" help:"Only ZMTP commands of this name, as in SUBSCRIBE (repeatable)."`

	keyLogFlags
	WriteNull string `placeholder:"FILE" help:"Write the sessions to this file as if they had not been encrypted, in pcapng format."`

	MaxStreams     int             `default:"65536" help:"TCP connections that are followed at a time; the one that was idle for longest makes room."`
	MaxIdle        daemon.Duration `default:"1h" help:"Forget TCP connections that are idle for so long; 0s: never."`
	MaxMessageSize daemon.ByteSize `default:"288MiB" help:"Largest message that is decoded."`
}

// Validate is called by kong.
func (f *captureFlags) Validate() error {
	if f.MaxStreams < 1 {
		return fmt.Errorf("--max-streams %d: write 1 or more", f.MaxStreams)
	}
	_, err := f.filter()
	return err
}

func (f *captureFlags) filter() (*printer.Filter, error) {
	filter := &printer.Filter{Topics: f.Topic, Events: f.Event, Paths: f.Path}
	for _, s := range f.Address {
		a, err := printer.ParseAddress(s)
		if err != nil {
			return nil, fmt.Errorf("--address: %w", err)
		}
		filter.Addresses = append(filter.Addresses, a)
	}
	for _, s := range f.Socket {
		filter.Types = append(filter.Types, wire.SocketType(strings.ToUpper(s)))
	}
	for _, s := range f.Command {
		filter.Commands = append(filter.Commands, strings.ToUpper(s))
	}
	return filter, nil
}

type captureReadCommand struct {
	Files []string `arg:"" name:"file" help:"Capture in pcap or pcapng format, which may be compressed with gzip or zstd; - for standard input."`
	captureFlags
	Write string `placeholder:"FILE" help:"Write the packets of the sessions that are selected to this file, in pcapng format. It reads the captures twice."`
}

// Help is shown by zmtpd capture read --help.
func (captureReadCommand) Help() string {
	return `A session is recognized by its greeting, on any port. The filters --topic, --event,
--path and --command select together; --address and --socket narrow that down.`
}

// Validate is called by kong.
func (c *captureReadCommand) Validate() error {
	for _, name := range c.Files {
		if name == "-" && c.Write != "" {
			return errors.New("--write reads a capture twice, which standard input does not " +
				"allow: give a file")
		}
	}
	return c.captureFlags.Validate()
}

// Run reads the files.
func (c *captureReadCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	if err := checkOutputs(c.Write, c.WriteNull, c.Files); err != nil {
		return err
	}
	show, err := c.captureFlags.open(std)
	if err != nil {
		return err
	}
	err = c.read(ctx, std, show)
	if e := show.close(ctx); err == nil {
		err = e
	}
	if err == nil && c.Write != "" {
		err = c.writeSelected(std, show)
	}
	return err
}

func (c *captureReadCommand) read(ctx context.Context, std *daemon.Stdio, show *captureShow) error {
	for _, name := range c.Files {
		source, closeFile, err := openCapture(name, std.In)
		if err != nil {
			return err
		}
		err = show.all(ctx, source)
		closeFile()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// checkOutputs refuses outputs that would overwrite a capture that is read, or each other. An empty
// name stands for no output.
func checkOutputs(write, writeNull string, captures []string) error {
	if write != "" && writeNull != "" && sameFile(write, writeNull) {
		return daemon.Usagef("--write and --write-null would both write to %s: name another file "+
			"for one of them", write)
	}
	for _, name := range captures {
		if write != "" && sameFile(write, name) {
			return daemon.Usagef("--write %s would overwrite the capture %s: name another file",
				write, name)
		}
		if writeNull != "" && sameFile(writeNull, name) {
			return daemon.Usagef("--write-null %s would overwrite the capture %s: name another "+
				"file", writeNull, name)
		}
	}
	return nil
}

// sameFile reports whether two paths name one regular file, which need not exist yet. Devices such
// as /dev/null lose nothing when they are opened twice.
func sameFile(a, b string) bool {
	fa, err := os.Stat(a)
	if err != nil {
		return filepath.Clean(a) == filepath.Clean(b)
	}
	fb, err := os.Stat(b)
	return err == nil && fa.Mode().IsRegular() && os.SameFile(fa, fb)
}

// openCapture opens a capture file.
func openCapture(name string, stdin io.Reader) (source capture.Source, closeFile func(),
	err error) {
	in := stdin
	closeFile = func() {}
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, err
		}
		in, closeFile = f, func() { f.Close() }
	}
	if source, err = capture.OpenFile(in); err != nil {
		closeFile()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return source, closeFile, nil
}

// writeSelected copies the packets of the sessions of which something was selected.
func (c *captureReadCommand) writeSelected(std *daemon.Stdio, show *captureShow) error {
	out, err := os.OpenFile(c.Write, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	keep := func(p capture.Packet) bool {
		src, dst, ok := capture.Endpoints(p)
		return ok && show.selected.has(src, dst, p.Time)
	}
	var all rewrite.Files
	for _, name := range c.Files {
		all.Open = append(all.Open, func() (capture.Source, func(), error) {
			return openCapture(name, nil)
		})
	}
	n, err := rewrite.Copy(out, &all, keep)
	if err != nil {
		return fmt.Errorf("--write %s: %w", c.Write, err)
	}
	fmt.Fprintf(std.Err, "zmtpd: wrote %d packets to %s\n", n, c.Write)
	if show.selected.full {
		fmt.Fprintf(std.Err, "zmtpd: only the first %d sessions that are selected were written; "+
			"narrow the selection with --address\n", maxSelected)
	}
	return out.Close()
}

// captureShow shows the events of captures.
type captureShow struct {
	flags    *captureFlags
	filter   *printer.Filter
	options  capture.Options
	analyzer *cluster.Analyzer
	out      *printer.Writer
	std      *daemon.Stdio
	logger   *files.Logger // nil for none
	null     *rewrite.Null // nil for none
	nullFile *os.File
	keys     *curve.KeyLogFile
	stats    capture.Stats
	before   capture.Stats // of earlier files
	selected selection
}

// open opens what is written.
func (f *captureFlags) open(std *daemon.Stdio) (*captureShow, error) {
	filter, err := f.filter()
	if err != nil {
		return nil, err
	}
	s := &captureShow{flags: f, filter: filter, analyzer: cluster.New(cluster.Options{}), std: std,
		out:      printer.New(std.Out, f.Format, isTerminal(std.Out)),
		selected: selection{sessions: map[[2]netip.AddrPort][]selectedSession{}}}
	s.options = capture.Options{Select: filter.Select, MaxSessions: f.MaxStreams,
		MaxIdle: time.Duration(f.MaxIdle), MaxMessageSize: int64(f.MaxMessageSize),
		MaxBuffered: 2 * int64(f.MaxMessageSize)}
	if s.keys, err = f.keyLogFlags.open(); err != nil {
		return nil, err
	}
	if s.keys != nil {
		s.options.Keys = s.keys
	}
	if f.Logs != "" {
		options := redef.DefaultOptions()
		options.RotationInterval = 0
		log := slog.New(slog.NewTextHandler(std.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
		if s.logger, err = files.New(files.Config{Dir: f.Logs, Options: options,
			Logger: log}); err != nil {
			return nil, fmt.Errorf("--logs %s: %w", f.Logs, err)
		}
	}
	if f.WriteNull != "" {
		s.nullFile, err = os.OpenFile(f.WriteNull, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return nil, err
		}
		if s.null, err = rewrite.NewNull(s.nullFile); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

// all shows the events of a source until it ends. The end of ctx is an orderly end.
func (s *captureShow) all(ctx context.Context, source capture.Source) error {
	r := capture.New(source, s.options)
	defer func() { s.before = s.stats }()
	for ev, err := range r.Events(ctx) {
		s.stats = s.before.Add(r.Stats())
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = s.event(ctx, &ev)
		}
		if err != nil {
			return err
		}
	}
	s.stats = s.before.Add(r.Stats())
	return nil
}

// event shows one event.
func (s *captureShow) event(ctx context.Context, ev *capture.Event) error {
	item := s.analyzer.Observe(ev)
	if s.logger != nil && item.Kind == cluster.Log && s.filter.Match(ev, item) {
		err := s.logger.WriteBatch(ctx, item.Node, ev.Message.Part(3))
		if drop := (*pipeline.DropError)(nil); err != nil && !errors.As(err, &drop) {
			return err
		}
	}
	if s.null != nil {
		if err := s.null.Write(ev); err != nil {
			return err
		}
	}
	if !s.filter.Match(ev, item) {
		if ev.Kind == capture.Closed {
			s.selected.end(ev)
		}
		return nil
	}
	s.selected.add(ev)
	if s.flags.Quiet {
		return nil
	}
	return s.out.Write(ev, item, s.analyzer)
}

// close prints the summary and closes what was opened.
func (s *captureShow) close(ctx context.Context) error {
	var all []error
	if s.flags.Summary {
		all = append(all, s.out.Summary(s.analyzer.Summary(), s.stats))
	}
	all = append(all, s.out.Flush())
	if s.logger != nil {
		all = append(all, s.logger.Close(context.WithoutCancel(ctx)))
	}
	if s.null != nil {
		all = append(all, s.null.Flush(), s.nullFile.Close())
	}
	if s.keys != nil {
		all = append(all, s.keys.Close())
	}
	return errors.Join(all...)
}
