package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"zmtpd/capture"
	"zmtpd/capture/live"
	"zmtpd/capture/rewrite"
	"zmtpd/cmd/zmtpd/daemon"
)

// ringFlags say which packets are captured, and how. Names are those of Zeek's options
// AF_Packet::*, and so are the defaults, but for those that package live explains.
type ringFlags struct {
	Interface    []string        `short:"i" required:"" placeholder:"NAME" help:"Interface (repeatable)."`
	BufferSize   daemon.ByteSize `default:"128MiB" help:"Size of the ring of each interface."`
	BlockSize    daemon.ByteSize `default:"128KiB" help:"Size of a block of the ring: a multiple of the page size, and larger than any packet, also those that the kernel has merged (GRO)."`
	BlockTimeout daemon.Positive `default:"10ms" help:"How long the kernel may hold back packets until a block is full."`
	Promiscuous  bool            `default:"true" negatable:"" help:"Capture packets for other hosts, too."`
	HWTimestamps bool            `name:"hw-timestamps" help:"Take times from the device."`
	FanoutID     *uint16         `name:"fanout-id" placeholder:"N" help:"Share the packets among all programs with this fanout group on the interface. Zeek's workers are group 23: in that group, packets would be taken from them. Default: none."`
	FanoutMode   live.FanoutMode `default:"hash" help:"How a member of the group is chosen: hash, lb, cpu, rollover, rnd, qm, cbpf or ebpf."`
	FanoutDefrag bool            `help:"Reassemble IP fragments before a member is chosen."`
	Filter       []string        `arg:"" optional:"" help:"Filter as in tcpdump, which the kernel applies, as in: tcp port 5555 or 5556."`
}

func (f *ringFlags) config() live.Config {
	c := live.Config{Interfaces: f.Interface, Filter: strings.Join(f.Filter, " "),
		BufferSize: int(f.BufferSize), BlockSize: int(f.BlockSize),
		BlockTimeout: time.Duration(f.BlockTimeout), Promiscuous: f.Promiscuous,
		HardwareTimestamps: f.HWTimestamps}
	if f.FanoutID != nil {
		c.Fanout = &live.Fanout{ID: *f.FanoutID, Mode: f.FanoutMode, Defrag: f.FanoutDefrag}
	}
	return c
}

const filterHelp = `Filters know ip, ip6, arp, tcp, udp, icmp, icmp6, sctp, port, portrange, host,
net, ip proto, ether host, vlan, less, greater, with src and dst, and, or, not and parentheses.`

type captureLiveCommand struct {
	ringFlags
	captureFlags
	Write         string          `placeholder:"FILE" help:"Write all packets that pass the packet filter to this file, in pcapng format; they are selected by nothing else."`
	StatsInterval daemon.Duration `default:"0s" help:"Print the ring's counters to standard error so often; 0s: at the end only."`
}

// Help is shown by zmtpd capture live --help.
func (captureLiveCommand) Help() string { return filterHelp }

// Validate is called by kong.
func (c *captureLiveCommand) Validate() error { return c.captureFlags.Validate() }

// Run shows what passes until ctx ends.
func (c *captureLiveCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	if err := checkOutputs(c.Write, c.WriteNull, nil); err != nil {
		return err
	}
	show, err := c.captureFlags.open(std)
	if err != nil {
		return err
	}
	return errors.Join(c.capture(ctx, std, show), show.close(ctx))
}

func (c *captureLiveCommand) capture(ctx context.Context, std *daemon.Stdio,
	show *captureShow) error {
	var packets *rewrite.Packets
	if c.Write != "" {
		out, err := os.OpenFile(c.Write, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		defer out.Close()
		packets = rewrite.NewPackets(out)
	}
	var ring *live.Source
	next := time.Now().Add(time.Duration(c.StatsInterval))
	cfg := c.config()
	cfg.Idle = func() {
		// Errors come again when the end flushes.
		_ = show.out.Flush()
		if packets != nil {
			_ = packets.Flush()
		}
		if now := time.Now(); c.StatsInterval > 0 && now.After(next) {
			next = now.Add(time.Duration(c.StatsInterval))
			fmt.Fprintf(std.Err, "zmtpd: %s\n", ringLine(ring.Stats()))
		}
	}
	ring, err := live.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer ring.Close()
	fmt.Fprintf(std.Err, "zmtpd: capturing on %s\n", strings.Join(c.Interface, ", "))
	source := capture.Source(ring)
	if packets != nil {
		source = rewrite.Tee{Source: ring, To: packets}
	}
	err = show.all(ctx, source)
	if packets != nil {
		if e := packets.Flush(); e != nil {
			err = errors.Join(err, fmt.Errorf("--write %s: %w", c.Write, e))
		}
	}
	fmt.Fprintf(std.Err, "zmtpd: %s\n", ringLine(ring.Stats()))
	return err
}

// ringLine describes counters.
func ringLine(s live.Stats) string {
	return fmt.Sprintf("%d packets received, %d bytes, %d dropped of %d (%.2f %%)", s.Received,
		s.Bytes, s.Dropped, s.Link, dropShare(s))
}

// dropShare returns how many percent were dropped.
func dropShare(s live.Stats) float64 {
	if s.Link == 0 {
		return 0
	}
	return 100 * float64(s.Dropped) / float64(s.Link)
}

type captureStatsCommand struct {
	ringFlags
	Rings    int             `default:"1" help:"Rings that share the packets, each read by a thread of its own, as Zeek's workers do: a fanout group."`
	Interval daemon.Positive `default:"1s" help:"Time between two outputs."`
	Count    int             `placeholder:"N" help:"Stop after N outputs. Default: never."`
	Format   string          `enum:"text,json" default:"text" help:"Format of the output: text, or json (an object a line)."`
}

// Help is shown by zmtpd capture stats --help.
func (captureStatsCommand) Help() string {
	return "It reads the packets and looks at none: what it drops, a faster reader may not. " +
		filterHelp
}

// Validate is called by kong.
func (c *captureStatsCommand) Validate() error {
	if c.Rings < 1 || c.Rings > 256 {
		return fmt.Errorf("--rings %d: write 1 to 256", c.Rings)
	}
	return nil
}

// Run prints counters until ctx ends.
func (c *captureStatsCommand) Run(ctx context.Context, std *daemon.Stdio) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := c.config()
	if c.Rings > 1 && cfg.Fanout == nil {
		cfg.Fanout = &live.Fanout{ID: uint16(os.Getpid()), Mode: c.FanoutMode,
			Defrag: c.FanoutDefrag}
	}
	var rings []*live.Source
	var readers sync.WaitGroup
	failed := make(chan error, c.Rings)
	defer func() {
		cancel()
		readers.Wait()
		for _, r := range rings {
			r.Close()
		}
	}()
	for range c.Rings {
		r, err := live.Open(ctx, cfg)
		if err != nil {
			return err
		}
		rings = append(rings, r)
		readers.Go(func() {
			for ctx.Err() == nil {
				if _, err := r.Next(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	return c.print(ctx, std, rings, failed)
}

func (c *captureStatsCommand) print(ctx context.Context, std *daemon.Stdio, rings []*live.Source,
	failed <-chan error) error {
	ticker := time.NewTicker(time.Duration(c.Interval))
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case <-ticker.C:
		}
		stats := make([]live.Stats, len(rings))
		for i, r := range rings {
			stats[i] = r.Stats()
		}
		if err := c.printOnce(std, stats); err != nil || n == c.Count {
			return err
		}
	}
}

// printOnce prints the counters since the start.
func (c *captureStatsCommand) printOnce(std *daemon.Stdio, rings []live.Stats) error {
	var sum live.Stats
	most := uint64(0)
	for _, s := range rings {
		sum = sum.Add(s)
		most = max(most, s.Link)
	}
	// How many times its share the busiest member gets.
	imbalance := 0.0
	if sum.Link > 0 {
		imbalance = float64(most) * float64(len(rings)) / float64(sum.Link)
	}
	if c.Format == "json" {
		type ring struct {
			Received uint64 `json:"received"`
			Bytes    uint64 `json:"bytes"`
			Link     uint64 `json:"link"`
			Dropped  uint64 `json:"dropped"`
		}
		members := make([]ring, len(rings))
		for i, s := range rings {
			members[i] = ring(s)
		}
		return json.NewEncoder(std.Out).Encode(struct {
			Time      time.Time `json:"ts"`
			Sum       ring      `json:"sum"`
			Imbalance float64   `json:"imbalance"`
			Rings     []ring    `json:"rings"`
		}{time.Now(), ring(sum), imbalance, members})
	}
	text := ringLine(sum) + "\n"
	if len(rings) > 1 {
		text = fmt.Sprintf("%s, the busiest ring gets %.2f times its share\n", ringLine(sum),
			imbalance)
		for i, s := range rings {
			text += fmt.Sprintf("  ring %d: %s\n", i, ringLine(s))
		}
	}
	_, err := fmt.Fprint(std.Out, text)
	return err
}
