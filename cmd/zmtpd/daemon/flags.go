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
	MaxMessageSize           ByteSize        `group:"limits" reload:"" default:"288MiB" help:"Largest message that a peer may send; 0: no limit. A Zeek node may send log batches of some 256 MB. A larger message is lost, with a warning, and its connection is closed."`
	MaxConnections           connectionLimit `group:"limits" reload:"" placeholder:"N" help:"Connections that one socket accepts; 0: no limit. At the limit, a connection that has sent nothing makes room; if there is none, the new one is refused. Default: a third of the file descriptors that log files and HTTP leave."`
	MaxConnectionsPerAddress connectionLimit `group:"limits" reload:"" placeholder:"N" help:"Connections that one socket accepts from one IPv4 address or IPv6 /64; 0: no limit. Default: half of --max-connections."`
	HandshakeTimeout         Positive        `group:"limits" reload:"" default:"30s" help:"Close a connection whose handshake takes longer."`
	HeartbeatInterval        Duration        `group:"limits" reload:"" default:"0s" help:"Send a PING to peers that have been silent for so long; 0: never. zmtpd always answers the PINGs of peers."`
	HeartbeatTTL             HeartbeatTTL    `name:"heartbeat-ttl" group:"limits" reload:"" default:"0s" help:"TTL in each PING: the peer may close the connection when it hears nothing for so long. At most 65.5s, the most that libzmq can take; 0: none."`
	IPv6                     bool            `name:"ipv6" help:"Listen on IPv6 too where an endpoint has * for its address, and resolve names to IPv6 addresses."`
}

// Socket returns the configuration of a socket without its queues.
func (f *SocketFlags) Socket(log *slog.Logger) zmtp.Config {
	most := f.MaxConnections.or(defaultConnections(descriptorLimit()))
	return zmtp.Config{
		MaxMessageSize: Limit(f.MaxMessageSize),
		MaxConnections: most, MaxConnectionsPerAddress: f.MaxConnectionsPerAddress.or(most / 2),
		HandshakeTimeout:  time.Duration(f.HandshakeTimeout),
		HeartbeatInterval: time.Duration(f.HeartbeatInterval),
		HeartbeatTTL:      time.Duration(f.HeartbeatTTL),
		IPv6:              f.IPv6,
		Logger:            log,
	}
}

// Duration is a time of 0 or more on the command line.
type Duration time.Duration

// UnmarshalText parses it.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := parseDuration(text)
	if err == nil && v < 0 {
		err = fmt.Errorf("%s is negative; write 0s or more", text)
	}
	*d = Duration(v)
	return err
}

func (d Duration) String() string { return time.Duration(d).String() }

// Positive is a time of more than 0 on the command line.
type Positive time.Duration

// UnmarshalText parses it.
func (p *Positive) UnmarshalText(text []byte) error {
	d, err := parseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%s is too short; write more than 0s", text)
	}
	*p = Positive(d)
	return err
}

func (p Positive) String() string { return time.Duration(p).String() }

// parseDuration parses a time with its unit.
func parseDuration(text []byte) (time.Duration, error) {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return 0, fmt.Errorf("%q is no duration; write numbers with units, as in 500ms, 30s or "+
			"1h30m", text)
	}
	return d, nil
}

// maxHeartbeatTTL is the longest TTL that libzmq can take. ZMTP has tenths of a second (RFC 37);
// libzmq keeps milliseconds in 16 bits (stream_engine_base.cpp).
const maxHeartbeatTTL = 65500 * time.Millisecond

// HeartbeatTTL is the TTL of a PING on the command line.
type HeartbeatTTL time.Duration

// UnmarshalText parses it.
func (h *HeartbeatTTL) UnmarshalText(text []byte) error {
	d, err := parseDuration(text)
	if err == nil && (d < 0 || d > maxHeartbeatTTL || d%(100*time.Millisecond) != 0) {
		err = fmt.Errorf("%s is no TTL; write tenths of a second from 0s to %v", text,
			maxHeartbeatTTL)
	}
	*h = HeartbeatTTL(d)
	return err
}

func (h HeartbeatTTL) String() string { return time.Duration(h).String() }

// HighWaterMark is a limit on messages, 0 for none.
type HighWaterMark int

// UnmarshalText parses it.
func (h *HighWaterMark) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return fmt.Errorf("%q is no high-water mark; write a number of messages, 0 for no limit",
			text)
	}
	*h = HighWaterMark(n)
	return nil
}

// Count is a number of 0 or more on the command line.
type Count int

// UnmarshalText parses it.
func (c *Count) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return fmt.Errorf("%q is no count; write a whole number of 0 or more", text)
	}
	*c = Count(n)
	return nil
}

// ByteSize is a number of bytes on the command line: 1048576, 64MiB, 1.5GiB.
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
		return fmt.Errorf("%q is no share; write a percentage from 0%% to 100%%", text)
	}
	*s = Share(v / 100)
	return nil
}

func (s Share) String() string { return strconv.FormatFloat(100*float64(s), 'g', -1, 64) + "%" }

// Limit converts a share to a limit of a package in which 0 stands for the default and a negative
// number for 0.
func (s Share) Limit() float64 {
	if s == 0 {
		return -1
	}
	return float64(s)
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

// String returns the limit as UnmarshalText takes it, "" if it was not given.
func (l connectionLimit) String() string {
	if !l.set {
		return ""
	}
	return strconv.Itoa(l.n)
}

// or returns the limit, or other if it was not given.
func (l connectionLimit) or(other int) int {
	if l.set {
		return l.n
	}
	return other
}

// Limit converts a limit of a flag, where 0 stands for none, to one of package zmtp, where 0 stands
// for the default and a negative number for none.
func Limit[T HighWaterMark | ByteSize](n T) int64 {
	if n == 0 {
		return -1
	}
	return int64(n)
}
