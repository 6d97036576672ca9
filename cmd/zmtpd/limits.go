package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"zmtpd/zmtp"
)

// socketFlags are the limits of every socket of a daemon.
type socketFlags struct {
	MaxMessageSize    byteSize      `group:"limits" default:"64MiB" help:"Largest message that a peer may send, 0 for no limit."`
	HandshakeTimeout  positive      `group:"limits" default:"30s" help:"How long a new connection may take to become ready."`
	HeartbeatInterval time.Duration `group:"limits" default:"0s" help:"How often to ask idle peers for a sign of life, 0 for never. Peers that ask are always answered."`
	HeartbeatTTL      heartbeatTTL  `name:"heartbeat-ttl" group:"limits" default:"0s" help:"What to tell peers with each question: for how long they may hear nothing of zmtpd. At most 65.5s, which is what libzmq can take; 0 for nothing."`
	IPv6              bool          `name:"ipv6" help:"Let * mean all IPv6 and IPv4 addresses, and names resolve to IPv6."`
}

// config returns the configuration of a socket without its queues.
func (f *socketFlags) config(log *slog.Logger) zmtp.Config {
	return zmtp.Config{
		MaxMessageSize:    limit(f.MaxMessageSize),
		HandshakeTimeout:  time.Duration(f.HandshakeTimeout),
		HeartbeatInterval: f.HeartbeatInterval,
		HeartbeatTTL:      time.Duration(f.HeartbeatTTL),
		IPv6:              f.IPv6,
		Logger:            log,
	}
}

// queues sets the limits of the queues; a flag's 0 is no limit.
func (f *forwarderFlags) queues(config zmtp.Config) zmtp.Config {
	config.SendHWM, config.SendBytes = int(limit(f.SndHWM)), limit(f.SndBytes)
	return config
}

// queues sets the limits of the queues.
func (f *loggerFlags) queues(config zmtp.Config) zmtp.Config {
	config.RecvHWM, config.RecvBytes = int(limit(f.RcvHWM)), limit(f.RcvBytes)
	config.TotalRecvBytes = limit(f.TotalRcvBytes)
	return config
}

// otherMemory is what a logger takes beside what the nodes have sent: records being rendered, what they wait in for their files, and
// what the garbage collector has not come to yet.
const otherMemory = 128 << 20

// limitMemory makes the garbage collector keep the process near the memory that the logger's limits allow. It works harder for it
// at a burst; what it cannot free it leaves. GOMEMLIMIT has precedence.
func (f *loggerFlags) limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	most := int64(math.MaxInt64)
	if f.TotalRcvBytes > 0 && int64(f.TotalRcvBytes) < most-otherMemory {
		most = int64(f.TotalRcvBytes) + otherMemory
	}
	debug.SetMemoryLimit(most)
}

// positive is a time of more than 0 on the command line.
type positive time.Duration

// UnmarshalText parses it.
func (p *positive) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if d <= 0 {
		return fmt.Errorf("%s: has to be more than 0", text)
	}
	*p = positive(d)
	return nil
}

// maxHeartbeatTTL is the longest time that libzmq can take: it keeps tenths of a second, as milliseconds in 16 bits.
const maxHeartbeatTTL = 65500 * time.Millisecond

// heartbeatTTL is a time on the command line that a peer can be told.
type heartbeatTTL time.Duration

// UnmarshalText parses it.
func (h *heartbeatTTL) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if d < 0 || d > maxHeartbeatTTL || d%(100*time.Millisecond) != 0 {
		return fmt.Errorf("%s: has to be tenths of a second, from 0s to %v", text, maxHeartbeatTTL)
	}
	*h = heartbeatTTL(d)
	return nil
}

// highWaterMark is a limit on messages, 0 for none.
type highWaterMark int

// UnmarshalText parses it.
func (h *highWaterMark) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return errors.New("a high-water mark is a number of messages, 0 for no limit")
	}
	*h = highWaterMark(n)
	return nil
}

// byteSize is a number of bytes on the command line: 1048576, 64MiB, 1.5GiB; 0 is no limit.
type byteSize int64

// UnmarshalText parses it.
func (s *byteSize) UnmarshalText(text []byte) error {
	for _, unit := range byteUnits {
		number, ok := strings.CutSuffix(string(text), unit.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		v *= unit.size
		if err != nil || !(v >= 0 && v < 1<<62) || v != math.Trunc(v) {
			break
		}
		*s = byteSize(v)
		return nil
	}
	return fmt.Errorf("%q is no size; write bytes, or a number with KiB, MiB or GiB, as in 64MiB", text)
}

var byteUnits = []struct {
	suffix string
	size   float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"", 1}}

// share is a part of a whole on the command line, as a percentage: 10%.
type share float64

// UnmarshalText parses it.
func (s *share) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(string(text), "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(v >= 0 && v <= 100) {
		return fmt.Errorf("%s is no share of the time; write a percentage from 0%% to 100%%", text)
	}
	*s = share(v / 100)
	return nil
}

// config returns the share for packages where 0 is the default and less is none.
func (s share) config() float64 {
	if s == 0 {
		return -1
	}
	return float64(s)
}

// limit makes a limit of package zmtp, where 0 is the default and less is none, of one
// where 0 is none.
func limit[T highWaterMark | byteSize](n T) int64 {
	if n == 0 {
		return -1
	}
	return int64(n)
}
