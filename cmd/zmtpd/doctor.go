package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/doctor"
)

type doctorCommand struct {
	Zeek       string          `placeholder:"DIR" help:"Folder in which Zeek is installed, as in /opt/zeek. Takes from it, unless a flag names another file: etc/node.cfg, etc/zeekctl.cfg, etc/zeek/zeek.conf, share/zeek/site/local.zeek and bin/zeek."`
	NodeCfg    string          `name:"node-cfg" placeholder:"FILE" help:"node.cfg of zeekctl."`
	ZeekctlCfg string          `name:"zeekctl-cfg" placeholder:"FILE" help:"zeekctl.cfg of zeekctl."`
	ZeekConf   string          `name:"zeek-conf" placeholder:"FILE" help:"zeek.conf of zeek-systemd-generator."`
	Layout     string          `placeholder:"FILE" help:"cluster-layout.zeek of the cluster."`
	Script     []string        `placeholder:"FILE" help:"Zeek script with redefs of Cluster::Backend::ZeroMQ, such as local.zeek or zmtpd.zeek (repeatable)."`
	Status     []string        `placeholder:"ADDRESS" help:"Address of --http of a running daemon, here or on another host (repeatable). Default: that of the command."`
	Offline    bool            `help:"Read files and look at this host only; connect to nothing."`
	Timeout    daemon.Positive `default:"3s" help:"Longest time to wait for one connection."`
	JSON       bool            `name:"json" help:"Print the result as one JSON object."`
	Command    []string        `arg:"" optional:"" passthrough:"" help:"Daemon to examine, with its flags. Default: up."`
}

// Help is shown by zmtpd doctor --help.
func (doctorCommand) Help() string {
	return `Finds what is wrong with a cluster, and says what to do, the most important first:

  zmtpd doctor up --config /etc/zmtpd/zmtpd.yaml
  zmtpd doctor --zeek /opt/zeek forwarder --xsub tcp://10.0.0.1:27761 --xpub tcp://10.0.0.1:27760
  zmtpd doctor --layout cluster-layout.zeek --script zmtpd.zeek up

It compares the files of Zeek, the configuration of zmtpd, and what listens and runs. It connects to
the endpoints without sending a message, and writes a small file into each folder of zmtpd, which it
removes again. It changes nothing else. Run it as zmtpd's user, on zmtpd's host.

The exit status is 0 if there is no fault, 1 if there are faults, and 2 if the command line is wrong.
Each fault has a name, under which docs/doctor.md describes it.`
}

// Run examines and prints.
func (c *doctorCommand) Run(ctx context.Context, std *daemon.Stdio, parse parser) error {
	in := doctor.Input{NodeCfg: c.NodeCfg, ZeekctlCfg: c.ZeekctlCfg, ZeekConf: c.ZeekConf,
		Layout: c.Layout, Scripts: c.Script, Status: c.Status, Offline: c.Offline, Timeout: time.Duration(c.Timeout),
		Version: versionString(), Getenv: os.Getenv, Machine: doctor.NewMachine()}
	if c.Zeek != "" {
		in.Zeek = filepath.Join(c.Zeek, "bin", "zeek")
		c.installed(&in.NodeCfg, "etc", "node.cfg")
		c.installed(&in.ZeekctlCfg, "etc", "zeekctl.cfg")
		c.installed(&in.ZeekConf, "etc", "zeek", "zeek.conf")
		if local := ""; len(in.Scripts) == 0 {
			if c.installed(&local, "share", "zeek", "site", "local.zeek"); local != "" {
				in.Scripts = []string{local}
			}
		}
	}
	command := c.Command
	if len(command) == 0 {
		command = []string{"up"}
	}
	if strings.HasPrefix(command[0], "-") {
		return daemon.Usagef("doctor has no flag %s (see zmtpd doctor --help); flags of a daemon "+
			"follow its name, as in zmtpd doctor up --dir logs", command[0])
	}
	parsed, err := parse(command)
	if err != nil {
		in.DaemonErr = parseError(err)
	} else if !daemon.IsDaemon(parsed) {
		return daemon.Usagef("doctor examines daemons, and %s is none; name up, forwarder, logger, "+
			"balance or store-server", parsed.Selected().Name)
	} else {
		in.Daemon, in.DaemonErr = doctorDaemon(parsed.Selected().Name,
			parsed.Selected().Target.Addr().Interface().(daemon.Command))
	}
	report := doctor.Examine(ctx, in)
	if c.JSON {
		encoder := json.NewEncoder(std.Out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(report)
	} else {
		err = report.WriteText(std.Out)
	}
	if err == nil && !report.Healthy {
		err = fmt.Errorf("doctor: faults found: %d", len(report.Faults))
	}
	return err
}

// installed sets the name of a file below --zeek, if it exists and no flag names another.
func (c *doctorCommand) installed(name *string, path ...string) {
	full := filepath.Join(append([]string{c.Zeek}, path...)...)
	if *name != "" {
		return
	}
	if _, err := os.Stat(full); err == nil {
		*name = full
	}
}

// doctorDaemon returns what the doctor has to know of a daemon's configuration.
func doctorDaemon(name string, command daemon.Command) (*doctor.Daemon, error) {
	flags := command.Common()
	keys, err := flags.ReadKeys()
	if err != nil {
		return nil, err
	}
	d := &doctor.Daemon{Command: name, HTTP: flags.HTTP, Keys: keys, Memory: flags.GivenMemory(),
		MaxMessageSize: int64(flags.MaxMessageSize), SecretFiles: secretFiles(flags.CurveSecretKeyFile)}
	if c, ok := command.(interface{ forwarder() *forwarderFlags }); ok {
		f := c.forwarder()
		d.XSub, d.XPub = listeners("--xsub", f.XSub), listeners("--xpub", f.XPub)
		d.Others = listeners("--tap", f.Tap)
		for _, address := range f.WebSocket {
			d.Others = append(d.Others, doctor.Listener{Flag: "--websocket",
				Endpoint: "tcp://" + address})
		}
	}
	if c, ok := command.(interface{ logger() *loggerFlags }); ok {
		f := c.logger()
		d.Pull = listeners("--listen", f.Listen)
		d.ClusterNode = f.ClusterNode
		if slices.Contains(f.Sink, sinkFiles) {
			d.Folders = append(d.Folders, doctor.Folder{Flag: "--dir", Path: f.Dir})
		}
		if f.Spool != "" {
			d.Folders = append(d.Folders, doctor.Folder{Flag: "--spool", Path: f.Spool,
				Made: true, Spool: int64(f.SpoolBytes)})
		}
		if f.Archive != "" {
			d.Folders = append(d.Folders, doctor.Folder{Flag: "--archive", Path: f.Archive,
				Made: true})
		}
	}
	switch c := command.(type) {
	case *balanceCommand:
		d.Pull = listeners("--listen", c.Listen)
	case *upCommand:
		err = c.storeFlags.addStores(d)
	case *storeServerCommand:
		err = c.storeFlags.addStores(d)
	}
	return d, err
}

func listeners(flag string, endpoints []string) (all []doctor.Listener) {
	for _, e := range endpoints {
		all = append(all, doctor.Listener{Flag: flag, Endpoint: e})
	}
	return all
}

// secretFiles returns the files that --curve-secret-key-file names, those in folders too.
func secretFiles(paths []string) (files []string) {
	for _, path := range paths {
		if inside, _ := filepath.Glob(filepath.Join(path, "*.key_secret")); len(inside) > 0 {
			files = append(files, inside...)
		} else {
			files = append(files, path)
		}
	}
	return files
}
