package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"zmtpd/zmtp"
)

// SocketFlags are the limits of every socket of a daemon.
type SocketFlags struct {
	MaxMessageSize           ByteSize        `group:"limits" reload:"" default:"288MiB" help:"Largest message that a peer may send, 0 for no limit. A node of Zeek may send log batches of about 256 MB. A larger message is lost, with a warning, and its connection is closed."`
	MaxConnections           connectionLimit `group:"limits" reload:"" placeholder:"N" help:"Connections that one socket accepts, 0 for no limit. One more closes one that has sent nothing, else it is refused. Default: a third of what the limit on file descriptors leaves beside log files and HTTP."`
	MaxConnectionsPerAddress connectionLimit `group:"limits" reload:"" placeholder:"N" help:"The same for one IPv4 address, or one /64 of IPv6. Default: half of --max-connections."`
	HandshakeTimeout         Positive        `group:"limits" reload:"" default:"30s" help:"How long a new connection may take to become ready."`
	HeartbeatInterval        time.Duration   `group:"limits" reload:"" default:"0s" help:"How often to ask idle peers for a sign of life, 0 for never. Peers that ask are always answered."`
	HeartbeatTTL             HeartbeatTTL    `name:"heartbeat-ttl" group:"limits" reload:"" default:"0s" help:"What to tell peers with each question: for how long they may hear nothing of zmtpd. At most 65.5s, which is what libzmq can take; 0 for nothing."`
	IPv6                     bool            `name:"ipv6" help:"Let * mean all IPv6 and IPv4 addresses, and names resolve to IPv6."`
}

// Socket returns the configuration of a socket without its queues.
func (f *SocketFlags) Socket(log *slog.Logger) zmtp.Config {
	most := f.MaxConnections.or(defaultConnections(descriptorLimit()))
	return zmtp.Config{
		MaxMessageSize: Limit(f.MaxMessageSize),
		MaxConnections: most, MaxConnectionsPerAddress: f.MaxConnectionsPerAddress.or(most / 2),
		HandshakeTimeout:  time.Duration(f.HandshakeTimeout),
		HeartbeatInterval: f.HeartbeatInterval,
		HeartbeatTTL:      time.Duration(f.HeartbeatTTL),
		IPv6:              f.IPv6,
		Logger:            log,
	}
}

// Positive is a time of more than 0 on the command line.
type Positive time.Duration

// UnmarshalText parses it.
func (p *Positive) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if d <= 0 {
		return fmt.Errorf("%s: has to be more than 0", text)
	}
	*p = Positive(d)
	return nil
}

func (p Positive) String() string { return time.Duration(p).String() }

// maxHeartbeatTTL is the longest time that libzmq can take: it keeps tenths of a second, as
// milliseconds in 16 bits.
const maxHeartbeatTTL = 65500 * time.Millisecond

// HeartbeatTTL is a time on the command line that a peer can be told.
type HeartbeatTTL time.Duration

// UnmarshalText parses it.
func (h *HeartbeatTTL) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if d < 0 || d > maxHeartbeatTTL || d%(100*time.Millisecond) != 0 {
		return fmt.Errorf("%s: has to be tenths of a second, from 0s to %v", text, maxHeartbeatTTL)
	}
	*h = HeartbeatTTL(d)
	return nil
}

func (h HeartbeatTTL) String() string { return time.Duration(h).String() }

// HighWaterMark is a limit on messages, 0 for none.
type HighWaterMark int

// UnmarshalText parses it.
func (h *HighWaterMark) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return errors.New("a high-water mark is a number of messages, 0 for no limit")
	}
	*h = HighWaterMark(n)
	return nil
}

// ByteSize is a number of bytes on the command line: 1048576, 64MiB, 1.5GiB; 0 is no limit.
type ByteSize int64

// UnmarshalText parses it.
func (s *ByteSize) UnmarshalText(text []byte) error {
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
		*s = ByteSize(v)
		return nil
	}
	return fmt.Errorf("%q is no size; write bytes, or a number with KiB, MiB or GiB, as in 64MiB",
		text)
}

// String returns the size in the largest unit of which it is a whole number.
func (s ByteSize) String() string {
	for _, unit := range []struct {
		size ByteSize
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if s != 0 && s%unit.size == 0 {
			return fmt.Sprintf("%d%s", s/unit.size, unit.name)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

var byteUnits = []struct {
	suffix string
	size   float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"", 1}}

// Share is a part of a whole on the command line, as a percentage: 10%.
type Share float64

// UnmarshalText parses it.
func (s *Share) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(string(text), "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(v >= 0 && v <= 100) {
		return fmt.Errorf("%s is no share of the time; write a percentage from 0%% to 100%%", text)
	}
	*s = Share(v / 100)
	return nil
}

// connectionLimit is a number of connections on the command line, 0 for no limit.
type connectionLimit struct {
	set bool
	n   int
}

// UnmarshalText parses it.
func (l *connectionLimit) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return errors.New("a limit on connections is a number, 0 for no limit")
	}
	*l = connectionLimit{true, int(n)}
	return nil
}

// String returns the limit as UnmarshalText takes it, or nothing if it was not given.
func (l connectionLimit) String() string {
	if !l.set {
		return ""
	}
	return strconv.Itoa(l.n)
}

// or returns the limit, or another one if it was not given.
func (l connectionLimit) or(other int) int {
	if l.set {
		return l.n
	}
	return other
}

func (s Share) String() string { return strconv.FormatFloat(100*float64(s), 'g', -1, 64) + "%" }

// Limit converts a share to one for packages where 0 is the default and less is none.
func (s Share) Limit() float64 {
	if s == 0 {
		return -1
	}
	return float64(s)
}

// Limit converts a limit of a flag, where 0 is none, to one of package zmtp, where 0 is the default
// and less is none.
func Limit[T HighWaterMark | ByteSize](n T) int64 {
	if n == 0 {
		return -1
	}
	return int64(n)
}
