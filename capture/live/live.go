// Package live gives the packets of interfaces: on Linux from an AF_PACKET ring (TPACKET_V3), with
// Zeek's options and defaults; on FreeBSD and macOS from the BPF device. A Source is a
// capture.Source.
package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Config is the configuration of a Source. The defaults are Zeek's (scripts/base/init-bare.zeek,
// module AF_Packet), but for BlockSize.
type Config struct {
	Interfaces []string
	// Filter is an expression of package filter, which the kernel applies. Default: all packets.
	Filter string
	// BufferSize is the size of the ring of each interface in bytes. Default 128 MiB.
	BufferSize int
	// BlockSize is the size of its blocks in bytes: a multiple of the page size, and larger than
	// any packet, of which the rest is lost otherwise. Default 131072: packets that the kernel has
	// merged or not yet divided (GRO, GSO) have up to 64 KiB, and Zeek's default is half of that.
	// The BPF device has one buffer of that size.
	BlockSize int
	// BlockTimeout is how long the kernel may hold packets back until a block is full. Default
	// 10 ms.
	BlockTimeout time.Duration
	// Promiscuous also gives packets for other hosts.
	Promiscuous bool
	// HardwareTimestamps takes times from the device, which must be able to give them.
	HardwareTimestamps bool
	// Fanout shares the packets among all sources of a group. Default: none, so that no packets are
	// taken away from a Zeek worker, whose default is group 23.
	Fanout *Fanout
	// Idle is called when no packet waits, before the Source does. Default: nothing.
	Idle func()
}

// Fanout is a group of sources on the same interface.
type Fanout struct {
	ID     uint16
	Mode   FanoutMode
	Defrag bool // reassemble IP fragments before a source is chosen
}

// FanoutMode is how the kernel chooses a source for a packet.
type FanoutMode uint16

// The modes, in the kernel's numbers.
const (
	FanoutHash FanoutMode = iota
	FanoutLB
	FanoutCPU
	FanoutRollover
	FanoutRnd
	FanoutQM
	FanoutCBPF
	FanoutEBPF
	numFanoutModes
)

var fanoutNames = [numFanoutModes]string{"hash", "lb", "cpu", "rollover", "rnd", "qm", "cbpf",
	"ebpf"}

// String returns the name of the mode.
func (m FanoutMode) String() string {
	if m < numFanoutModes {
		return fanoutNames[m]
	}
	return fmt.Sprintf("fanout_mode_%d", uint16(m))
}

// UnmarshalText parses the name of a mode, also in Zeek's form AF_Packet::FANOUT_HASH.
func (m *FanoutMode) UnmarshalText(text []byte) error {
	name := strings.ToLower(string(text))
	name = strings.TrimPrefix(strings.TrimPrefix(name, "af_packet::"), "fanout_")
	for i, known := range fanoutNames {
		if name == known {
			*m = FanoutMode(i)
			return nil
		}
	}
	return fmt.Errorf("%.100q is no fanout mode: write one of %s", text,
		strings.Join(fanoutNames[:], ", "))
}

// Stats are the counters of a Source since it was opened.
type Stats struct {
	Received uint64 // packets that were read, after the filter
	Bytes    uint64 // of them
	Link     uint64 // packets that matched, those that were dropped included
	Dropped  uint64 // of them, those for which the ring had no room
}

// Add returns the sums of two sets of counters.
func (s Stats) Add(t Stats) Stats {
	return Stats{s.Received + t.Received, s.Bytes + t.Bytes, s.Link + t.Link, s.Dropped + t.Dropped}
}

// ErrUnsupported says that packets cannot be captured on this operating system.
var ErrUnsupported = errors.New("capture: packets of interfaces cannot be captured on " +
	runtime.GOOS + ": capture them to a file with another tool, and read that")

const (
	defaultBufferSize   = 128 << 20
	defaultBlockSize    = 128 << 10
	defaultBlockTimeout = 10 * time.Millisecond
	// pollTime is how often a Source that waits looks whether its context has ended.
	pollTime = 100 * time.Millisecond
)

// Open starts to capture. The Source ends with io.EOF when ctx ends. Close it afterwards.
func Open(ctx context.Context, cfg Config) (*Source, error) {
	if len(cfg.Interfaces) == 0 {
		return nil, errors.New("capture: no interface")
	}
	if cfg.BufferSize == 0 {
		cfg.BufferSize = defaultBufferSize
	}
	if cfg.BlockSize == 0 {
		cfg.BlockSize = defaultBlockSize
	}
	if cfg.BlockTimeout == 0 {
		cfg.BlockTimeout = defaultBlockTimeout
	}
	if cfg.Idle == nil {
		cfg.Idle = func() {}
	}
	return open(ctx, cfg)
}

// permissionError says what to do about missing privileges.
func permissionError(what string, err error) error {
	program, e := os.Executable()
	if e != nil {
		program = "zmtpd"
	}
	return fmt.Errorf("capture: %s: %w: the process needs the capability CAP_NET_RAW; run it as "+
		"root, or once: sudo setcap cap_net_raw+ep %s", what, err, program)
}
