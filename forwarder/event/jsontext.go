package event

import (
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parseReal reads a double. A whole number without point or exponent is none, as for Zeek.
func parseReal(s string) (float64, bool) {
	switch s {
	case "nan":
		return math.NaN(), true
	case "inf":
		return math.Inf(1), true
	case "-inf":
		return math.Inf(-1), true
	}
	if !strings.ContainsAny(s, ".eE") || strings.Trim(s, "0123456789.eE+-") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(v, 0) {
		return 0, false
	}
	return v, true
}

// parseText appends a value that stands in quotes.
func parseText(dst []byte, kind Kind, s string) (_ []byte, ok bool) {
	var err error
	switch kind {
	case Address:
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil {
			dst, err = appendAddr(dst, a)
		}
	case Subnet:
		var p netip.Prefix
		if p, err = netip.ParsePrefix(s); err == nil {
			dst, err = appendPrefix(dst, p)
		}
	case PortNumber:
		var p Port
		if p, err = parsePort(s); err == nil {
			dst, err = appendPort(dst, p)
		}
	case Timestamp:
		var t time.Time
		if t, err = parseTimestamp(s); err == nil {
			dst, err = appendTime(dst, t)
		}
	case Timespan:
		ns, valid := parseTimespan(s)
		return appendUint64(dst, Timespan, uint64(ns)), valid
	}
	return dst, err == nil
}

// parsePort reads 80/tcp. Without a protocol it is TCP, with one that is not known it is unknown.
func parsePort(s string) (Port, error) {
	number, proto, found := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	p := Port{Number: uint16(n), Proto: ProtoTCP}
	if found {
		p.Proto = Proto(max(0, slices.Index(protoNames[:], proto)))
	}
	return p, err
}

// parseTimestamp reads 2006-01-02T15:04:05, with a fraction or not, and with a zone or in UTC.
func parseTimestamp(s string) (time.Time, error) {
	const layout = "2006-01-02T15:04:05"
	if i := strings.IndexAny(s[min(len(s), len(layout)):], "Z+-"); i >= 0 {
		return time.Parse(layout+"Z07:00", s)
	}
	return time.Parse(layout, s)
}

var units = []struct {
	name string
	ns   uint64
}{
	{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"min", 60e9}, {"s", 1e9}, {"h", 3600e9},
}

// parseTimespan reads a number, which may have a sign and a fraction, and a unit. What is less than
// a nanosecond is cut off.
func parseTimespan(s string) (ns int64, ok bool) {
	s, negative := strings.CutPrefix(s, "-")
	if !negative {
		s = strings.TrimPrefix(s, "+")
	}
	for _, unit := range units {
		number, found := strings.CutSuffix(s, unit.name)
		if !found {
			continue
		}
		whole, fraction, _ := strings.Cut(number, ".")
		if whole == "" && fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
			return 0, false
		}
		n, err := strconv.ParseUint("0"+whole, 10, 64)
		high, total := bits.Mul64(n, unit.ns)
		total, carry := bits.Add64(total, fractionOf(fraction, unit.ns), 0)
		limit := uint64(math.MaxInt64)
		if negative {
			limit++
		}
		if err != nil || high|carry != 0 || total > limit {
			return 0, false
		}
		if negative {
			return int64(-total), true
		}
		return int64(total), true
	}
	return 0, false
}

// fractionOf returns 0.digits times n.
func fractionOf(digits string, n uint64) uint64 {
	digits = digits[:min(len(digits), 18)]
	v, _ := strconv.ParseUint("0"+digits, 10, 64)
	scale := uint64(1)
	for range digits {
		scale *= 10
	}
	high, low := bits.Mul64(v, n)
	q, _ := bits.Div64(high, low, scale)
	return q
}
