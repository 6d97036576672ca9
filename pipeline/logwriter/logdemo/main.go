// Logdemo shows how a Go program logs into a Zeek cluster. It writes a log "host" about the machine
// on which it runs.
//
//	zmtpd logger --listen tcp://127.0.0.1:5557 --dir /tmp/logs --format json
//	go run ./pipeline/logwriter/logdemo --connect tcp://127.0.0.1:5557
//	cat /tmp/logs/host.log
//
// Zeek's own logger needs a script that creates the stream:
//
//	module Host;
//
//	export {
//		redef enum Log::ID += { LOG };
//		type Event: enum { STARTED, RUNNING };
//		type Memory: record { heap: count &log; total: count &log; };
//		type Info: record {
//			ts: time &log;
//			name: string &log;
//			event: Event &log;
//			uptime: interval &log;
//			addrs: set[addr] &log &optional;
//			nets: set[subnet] &log &optional;
//			mem: Memory &log;
//			goroutines: count &log;
//			last_gc: time &log &optional;
//		};
//	}
//
//	event zeek_init() { Log::create_stream(Host::LOG, [$columns=Info, $path="host"]); }
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"time"

	"zmtpd/pipeline/logwriter"
	"zmtpd/zmtp"
)

// info is a record of the log "host".
type info struct {
	TS         time.Time                 `zeek:"ts"`
	Name       string                    `zeek:"name"`
	Event      string                    `zeek:"event,enum"`
	Uptime     time.Duration             `zeek:"uptime"`
	Addrs      []netip.Addr              `zeek:"addrs,set,optional"`
	Nets       map[netip.Prefix]struct{} `zeek:"nets,optional"`
	Memory     memory                    `zeek:"mem"`
	Goroutines uint                      `zeek:"goroutines"`
	LastGC     *time.Time                `zeek:"last_gc"`
}

// memory is the nested record mem, with the columns mem.heap and mem.total.
type memory struct {
	Heap  uint64 `zeek:"heap"`
	Total uint64 `zeek:"total"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "logdemo:", err)
		os.Exit(1)
	}
}

// run logs --count records, or fewer if ctx ends.
func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("logdemo", flag.ContinueOnError)
	connect := flags.String("connect", "tcp://127.0.0.1:5557", "endpoint of the logger")
	node := flags.String("node", "logdemo", "node id of the sender, unique in the cluster")
	count := flags.Int("count", 10, "number of records to log")
	interval := flags.Duration("interval", time.Second, "time between two records")
	patience := flags.Duration("patience", 10*time.Second,
		"time to wait for the logger at the end")
	if err := flags.Parse(args); err != nil {
		return err
	}

	push := zmtp.NewPush(zmtp.Config{}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect(*connect); err != nil {
		return err
	}
	w, err := logwriter.New[info](push,
		logwriter.Config{Node: *node, Stream: "Host::LOG", Path: "host"})
	if err != nil {
		return err
	}
	err = logHost(ctx, w, *count, *interval)

	ctx, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	err = cmp.Or(err, w.Close(ctx))
	if sent := push.Shutdown(ctx); sent != nil {
		err = cmp.Or(err, fmt.Errorf("the logger at %s has not taken all: %w", *connect, sent))
	}
	return err
}

// logHost logs count records. If ctx ends earlier, it returns nil.
func logHost(ctx context.Context, w *logwriter.Writer[info], count int,
	interval time.Duration) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	started := time.Now()
	tick := time.NewTicker(max(interval, 1))
	defer tick.Stop()
	for i := range count {
		record, err := observe(host, started)
		if err != nil {
			return err
		}
		if i == 0 {
			record.Event = "Host::STARTED"
		}
		if err := w.Write(ctx, record); err != nil {
			return err
		}
		if i == count-1 {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// observe returns a record about the host at this moment.
func observe(host string, started time.Time) (info, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	now := time.Now()
	record := info{
		TS: now, Name: host, Event: "Host::RUNNING", Uptime: now.Sub(started),
		Nets:       map[netip.Prefix]struct{}{},
		Memory:     memory{m.HeapAlloc, m.Sys},
		Goroutines: uint(runtime.NumGoroutine()),
	}
	if m.LastGC > 0 {
		at := time.Unix(0, int64(m.LastGC))
		record.LastGC = &at
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return info{}, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			record.Addrs = append(record.Addrs, p.Addr())
			record.Nets[p.Masked()] = struct{}{}
		}
	}
	return record, nil
}
