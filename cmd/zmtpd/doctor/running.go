package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/cmd/zmtpd/statusapi"
	"zmtpd/forwarder/cluster"
)

func itoa(n int) string { return strconv.Itoa(n) }

// maxClockDifference is the most by which the clocks of two hosts may differ. The header Date has
// whole seconds.
const maxClockDifference = 2 * time.Second

// askDaemons asks the running daemons for their status. That of the own configuration need not run.
func (d *doctor) askDaemons(ctx context.Context) (running []*statusapi.Status) {
	client := statusapi.NewClient(d.in.Timeout)
	ask := func(url string) error {
		before := d.in.Machine.Now()
		s, err := client.Get(ctx, url)
		if err != nil {
			return err
		}
		after := d.in.Machine.Now()
		d.found.examined("the running zmtpd, %s", url)
		running = append(running, s)
		if !s.Date.IsZero() {
			behind, ahead := before.Sub(s.Date.Add(time.Second)), s.Date.Sub(after)
			if off := max(behind, ahead); off > maxClockDifference {
				d.found.add("clock-differs", url, "by %v", off.Round(time.Second))
			}
		}
		return nil
	}
	for _, address := range d.in.Status {
		url, err := statusapi.URL(address)
		if err == nil {
			err = ask(url)
		}
		if err != nil {
			d.found.add("nobody-listens", address, "no answer to /status: %v", daemon.RootCause(err))
		}
	}
	if z := d.in.Daemon; z != nil && z.HTTP != "" && len(d.in.Status) == 0 {
		if url, err := statusapi.URL(z.HTTP); err == nil {
			_ = ask(url) // it may not run yet
		}
	}
	return running
}

// checkListening checks the addresses of a daemon that does not run: whether it could listen there.
func (d *doctor) checkListening(ctx context.Context, running []*statusapi.Status) {
	z := d.in.Daemon
	if z == nil || len(running) > 0 {
		return
	}
	all := slices.Concat(z.XSub, z.XPub, z.Pull, z.Others)
	if z.HTTP != "" {
		all = append(all, Listener{"--http", "tcp://" + z.HTTP})
	}
	var silent []string // doors of stores at which nobody listens
	for _, l := range all {
		host, port, ok := splitTCP(l.Endpoint)
		if !ok || port == "*" {
			continue
		}
		if host == "*" {
			host = ""
		}
		listening, err := d.in.Machine.Listen(ctx, "tcp", net.JoinHostPort(host, port))
		_, unresolved := errors.AsType[*net.DNSError](err)
		switch {
		case err == nil:
			listening.Close()
			if slices.ContainsFunc(z.Stores.Doors, func(s Door) bool { return s.Listener == l }) {
				silent = append(silent, l.Endpoint)
			}
		case errors.Is(err, syscall.EADDRINUSE):
			what := "another process listens at " + l.Endpoint
			a := d.probe(ctx, l.Endpoint, "", nil)
			switch {
			case a.socket != "":
				what += ", with a ZeroMQ socket of type " + a.socket
			case a.fault == "not-zmtp":
				what += ", which does not speak ZeroMQ's protocol"
			}
			d.found.add("port-taken", l.Flag, "%s", what)
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			d.found.add("address-not-local", l.Flag, "%s", l.Endpoint)
		case unresolved:
			d.found.add("name-unresolved", l.Flag, "%v", err)
		default:
			d.found.add("address-not-local", l.Flag, "%s: %v", l.Endpoint, daemon.RootCause(err))
		}
	}
	// checkEndpoints says so of a daemon with endpoints of ZeroMQ.
	if len(silent) > 0 && len(z.XSub)+len(z.XPub)+len(z.Pull) == 0 {
		d.found.add("nobody-listens", "zmtpd "+z.Command, "it does not run: nobody listens at %s",
			strings.Join(silent, ", "))
	}
}

// checkRunning looks at what the running daemons say of themselves.
func (d *doctor) checkRunning(ctx context.Context, z *zeek, running []*statusapi.Status) {
	for _, s := range running {
		where := "/status of zmtpd " + s.Version
		if s.Version != d.in.Version {
			d.found.add("version-differs", where, "this binary is %s", d.in.Version)
		}
		if !s.Ready {
			d.found.add("not-ready", where, "%s", s.NotReady)
		}
		if s.Memory != nil && (s.Memory.Waiting > 0 || s.Memory.Closed > 0) {
			d.found.add("memory-exhausted", where, "%d peers wait, %d were closed", s.Memory.Waiting,
				s.Memory.Closed)
		}
		if f := s.Forwarder; f != nil {
			connected := map[string]bool{}
			for _, p := range f.XPub.Peers {
				connected[cluster.NameInID(p.Node)] = true
				if p.SlowSince != nil {
					d.found.add("slow-subscriber", name(p.Node, p.Address), "slow since %v, %d "+
						"messages wait", p.SlowSince.Format(time.DateTime), p.Queue)
				}
			}
			if n := total(f.Account.Dropped); n > 0 {
				d.found.add("losses", where, "subscribers lost %d events: %v", n, f.Account.Dropped)
			}
			for _, n := range z.nodes {
				if !connected[n.name] && !(n.kind == cluster.Logger && d.in.Daemon != nil &&
					d.leads(n.logs, d.in.Daemon.Pull)) {
					d.found.add("nodes-missing", n.name, "%s %s (%s) is not connected", n.kind,
						n.name, n.origin)
				}
			}
		}
		if l := s.Logger; l != nil {
			for _, sink := range l.Sinks {
				if n := sink.Lost(); n > 0 {
					d.found.add("losses", where, "sink %s lost %d records: %v", sink.Sink, n,
						sink.Dropped)
				}
			}
		}
		d.checkApplied(s, where)
	}
}

// checkApplied compares the endpoints of the running daemon with the configuration.
func (d *doctor) checkApplied(s *statusapi.Status, where string) {
	z := d.in.Daemon
	if z == nil || len(d.in.Status) > 0 {
		return // it need not be the daemon of this configuration
	}
	for _, l := range slices.Concat(z.XSub, z.XPub, z.Pull) {
		if ephemeral([]Listener{l}) || !strings.HasPrefix(l.Endpoint, "tcp://") {
			continue
		}
		applied := false
		for _, e := range s.Endpoints {
			applied = applied || e.Flag == l.Flag && (e.Endpoint == l.Endpoint ||
				samePort(e.Endpoint, l.Endpoint))
		}
		if !applied {
			d.found.add("configuration-not-applied", where, "it does not listen at %s %s", l.Flag,
				l.Endpoint)
		}
	}
}

func samePort(a, b string) bool {
	_, p, ok := splitTCP(a)
	_, q, okb := splitTCP(b)
	return ok && okb && p == q
}

// name returns the name of a node for people.
func name(id, address string) string {
	if n := cluster.NameInID(id); n != "" {
		return n
	}
	if id != "" {
		return id
	}
	return address
}

func total(byReason map[string]uint64) (n uint64) {
	for _, v := range byReason {
		n += v
	}
	return n
}

// checkLimits checks the limits of the process.
func (d *doctor) checkLimits(z *zeek) {
	z4 := d.in.Daemon
	if z4 == nil {
		return
	}
	limit := d.in.Machine.Descriptors()
	needed := daemonDescriptors(len(z.nodes))
	if limit > 0 && limit < needed {
		d.found.add("descriptors-low", "limit on file descriptors",
			"%d, and zmtpd needs %d for %d nodes", limit, needed, len(z.nodes))
	}
	available, source := d.in.Machine.Memory()
	switch {
	case available > 0 && z4.Memory > available:
		d.found.add("memory-low", "--memory", "%d MiB, and the %s has %d MiB", z4.Memory>>20,
			source, available>>20)
	case available > 0 && available < 192<<20: // 64 MiB beside the 128 MiB of the process
		d.found.add("memory-low", source, "it has %d MiB", available>>20)
	}
	// Batches of 1000 records of up to 256,000 bytes (Log::write_buffer_size,
	// Log::max_field_string_bytes).
	if n := z4.MaxMessageSize; len(z4.Pull) > 0 && n > 0 && n < 256_000_000 {
		d.found.add("message-size-low", "--max-message-size", "%d MiB", n>>20)
	}
}

// daemonDescriptors returns how many file descriptors a daemon needs for a number of nodes. The
// spare ones are for log files and HTTP.
func daemonDescriptors(nodes int) uint64 { return uint64(nodes)*3 + 256 }

// checkClock checks the clock of this host.
func (d *doctor) checkClock(context.Context) {
	now := d.in.Machine.Now()
	for _, path := range slices.Concat([]string{d.in.NodeCfg, d.in.ZeekctlCfg, d.in.ZeekConf, d.in.Layout},
		d.in.Scripts) {
		if path == "" {
			continue
		}
		if written, err := d.in.Machine.ModTime(path); err == nil &&
			written.Sub(now) > time.Minute {
			d.found.add("clock-wrong", path, "it was written at %v, and it is %v",
				written.Format(time.DateTime), now.Format(time.DateTime))
		}
	}
	if d.in.Machine.ClockUnsynchronized() {
		d.found.add("clock-not-synchronized", "kernel", "STA_UNSYNC is set")
	}
}

// checkFolders checks the folders into which the daemon writes.
func (d *doctor) checkFolders() {
	z := d.in.Daemon
	if z == nil {
		return
	}
	for _, f := range z.Folders {
		disk, err := d.in.Machine.Disk(f.Path)
		for f.Made && disk.Missing && f.Path != filepath.Dir(f.Path) { // zmtpd has to make it there
			f.Path = filepath.Dir(f.Path)
			disk, err = d.in.Machine.Disk(f.Path)
		}
		if err != nil {
			fault := "folder-not-writable"
			if disk.Missing {
				fault = "folder-missing"
			}
			d.found.add(fault, f.Flag, "%s: %v", f.Path, daemon.RootCause(err))
			continue
		}
		d.found.examined("folder %s, %s", f.Path, f.Flag)
		const least = 1 << 30
		switch {
		case disk.Free < least || disk.Free < disk.Size/20:
			d.found.add("disk-full", f.Flag, "%s: %d MiB of %d MiB are free", f.Path,
				disk.Free>>20, disk.Size>>20)
		case disk.InodesUsedUp:
			d.found.add("disk-full", f.Flag, "%s: no inodes are free", f.Path)
		case f.Spool > disk.Free:
			d.found.add("spool-too-large", f.Flag, "%s: --spool-bytes is %d MiB, and %d MiB are "+
				"free", f.Path, f.Spool>>20, disk.Free>>20)
		}
		if f.Spool > 0 && disk.InMemory {
			d.found.add("spool-in-memory", f.Flag, "%s", f.Path)
		}
		if slow, what := disk.slow(); slow {
			d.found.add("disk-slow", f.Flag, "%s: %s", f.Path, what)
		}
	}
}

// slow reports whether a disk is too slow for logs.
func (d *Disk) slow() (bool, string) {
	const least = 5e6
	if d.WriteTime > 0 {
		if rate := float64(d.Written) / d.WriteTime.Seconds(); rate < least {
			return true, fmt.Sprintf("%.1f MB/s", rate/1e6)
		}
	}
	return d.SyncTime > time.Second, fmt.Sprintf("a sync takes %v", d.SyncTime)
}

// checkVersions looks at the Zeek of this host.
func (d *doctor) checkVersions(ctx context.Context) {
	if d.in.Zeek == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text, err := d.in.Machine.Run(ctx, d.in.Zeek, "--version")
	if err != nil {
		d.found.add("zeek-broken", d.in.Zeek, "%v", err)
		return
	}
	text = strings.TrimSpace(text)
	d.found.examined("%s: %s", d.in.Zeek, text)
	if v, ok := version(text); ok && v[0] < 8 {
		d.found.add("zeek-version", d.in.Zeek, "%s", text)
	}
	if plugins, err := d.in.Machine.Run(ctx, d.in.Zeek, "-N"); err == nil &&
		!strings.Contains(plugins, "ZeroMQ") {
		d.found.add("zeek-without-zeromq", d.in.Zeek, "zeek -N lists no ZeroMQ")
	}
	if libraries, err := d.in.Machine.Run(ctx, "ldd", d.in.Zeek); err == nil {
		d.checkLibzmq(libraries)
	}
}

// checkLibzmq finds the version in the name of the file to which libzmq.so leads.
func (d *doctor) checkLibzmq(ldd string) {
	for line := range strings.Lines(ldd) {
		_, path, ok := strings.Cut(line, "=> ")
		if !ok || !strings.Contains(line, "libzmq") {
			continue
		}
		path, _, _ = strings.Cut(path, " ")
		file := d.in.Machine.Resolve(path)
		d.found.examined("libzmq: %s", file)
		// libzmq 4.3.x is libzmq.so.5.2.x, and 4.2.x is libzmq.so.5.1.x (its configure.ac).
		_, number, _ := strings.Cut(file, ".so.")
		if v, ok := version(number); ok && (v[0] < 5 || v[0] == 5 && v[1] < 2) {
			d.found.add("libzmq-version", path, "%s; that of libzmq 4.3.0 is libzmq.so.5.2.0", file)
		}
	}
}

// version returns the first two numbers of the first version in a text.
func version(text string) (v [2]int, ok bool) {
	for word := range strings.FieldsFuncSeq(text, func(c rune) bool {
		return c != '.' && (c < '0' || c > '9')
	}) {
		major, rest, found := strings.Cut(strings.Trim(word, "."), ".")
		minor, _, _ := strings.Cut(rest, ".")
		a, err := strconv.Atoi(major)
		b, err2 := strconv.Atoi(minor)
		if found && err == nil && err2 == nil {
			return [2]int{a, b}, true
		}
	}
	return v, false
}
