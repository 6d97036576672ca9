package zeek

import (
	"math"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// anyFloat64 draws doubles of any bits, of everyday sizes, and around the halves where rounding to
// six decimals changes its direction.
func anyFloat64() *rapid.Generator[float64] {
	return rapid.OneOf(
		rapid.Map(rapid.Uint64(), math.Float64frombits),
		rapid.Float64(),
		rapid.Float64Range(-1e10, 1e10),
		rapid.Float64Range(-2, 2),
		rapid.Map(rapid.Int64Range(-1<<52, 1<<52),
			func(n int64) float64 { return float64(n) / (1 << 20) }),
		// exact halves
		rapid.Map(rapid.Int64Range(-1<<30, 1<<30),
			func(n int64) float64 { return float64(n) / (1 << 7) }),
		rapid.Map(rapid.Int64Range(-1e10, 1e10),
			func(n int64) float64 { return (float64(n) + 0.5) / 1e6 }),
		rapid.Map(rapid.Int64(), func(n int64) float64 { return float64(n) }),
		rapid.Just(math.Copysign(0, -1)),
	)
}

func TestFixed6(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyFloat64().Draw(t, "v")
		want := strconv.FormatFloat(v, 'f', 6, 64)
		switch {
		case v != v && math.Signbit(v):
			want = "-nan"
		case v != v:
			want = "nan"
		case math.IsInf(v, 0):
			want = strings.TrimPrefix(strings.ToLower(want), "+")
		}
		if got := string(appendFixed6([]byte("x"), v)); got != "x"+want {
			t.Fatalf("%b: %s, want x%s", v, got, want)
		}
	})
}

func TestDouble(t *testing.T) {
	for v, want := range map[float64]string{
		3.14: "3.14", 50000: "50000.0", 1.1234567: "1.123457", 1.0000001: "1", 1e-7: "0",
		-1e-7: "-0",
		1e-10: "0.0", -1e-10: "-0.0", 1e22: "10000000000000000000000.0",
		2153226000.123457: "2153226000.123457",
		1.1234:            "1.1234", 0.0000123456789: "0.000012", -2.23e-308: "-0.0", 100: "100.0",
		0.1:         "0.1",
		10.5:        "10.5",
		math.Inf(1): "inf", math.Inf(-1): "-inf", 3.14e15: "3140000000000000.0",
	} {
		if got := string(appendDouble(nil, v)); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	if got := string(appendDouble(nil, math.Copysign(0, -1))); got != "0.0" {
		t.Errorf("-0: %s", got)
	}
	if got := string(appendDouble(nil, math.Copysign(math.NaN(), -1))); got != "nan" {
		t.Errorf("-NaN: %s", got)
	}
}

// The numbers are recorded from Zeek. Their digits differ from those of strconv, or they lie at a
// border between the notations.
func TestGrisuDigits(t *testing.T) {
	for v, want := range map[float64]string{
		1e23:                   "9.999999999999999e22",
		1234567890123456.8:     "1234567890123456.7",
		-3.556169393814842e-26: "-3.5561693938148423e-26",
		1238149735313913.2:     "1238149735313913.3",
		1700000000:             "1700000000.0",
		1e20:                   "100000000000000000000.0",
		1e21:                   "1e21",
		0.000001:               "0.000001",
		0.0000012345:           "0.0000012345",
		1e-7:                   "1e-7",
		12.34:                  "12.34",
		1.79e308:               "1.79e308",
		-2.23e-308:             "-2.23e-308",
		5e-324:                 "5e-324",
		math.MaxFloat64:        "1.7976931348623157e308",
		math.Inf(-1):           "null",
	} {
		if got := string(appendJSONDouble(nil, v)); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	if got := string(appendJSONDouble(nil, math.Copysign(0, -1))); got != "-0.0" {
		t.Errorf("-0: %s", got)
	}
	if got := string(appendJSONDouble(nil, math.NaN())); got != "null" {
		t.Errorf("NaN: %s", got)
	}
}

// The text of every double reads back as the same number and has at most 17 digits. It has more
// than one digit above the shortest only where Grisu2 does not look for the shortest: at the very
// end of the interval of decimals that read back.
func TestGrisuReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyFloat64().Draw(t, "v")
		got := string(appendJSONDouble(nil, v))
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if got != "null" {
				t.Fatalf("%v: %s", v, got)
			}
			return
		}
		back, err := strconv.ParseFloat(got, 64)
		if err != nil || math.Float64bits(back) != math.Float64bits(v) {
			t.Fatalf("%b: %s reads back as %v, %v", v, got, back, err)
		}
		shortest := strconv.FormatFloat(v, 'e', -1, 64)
		n, min := significant(got), significant(shortest)
		if n > 17 || n > min+1 && edge(v, shortest) < 0.99 {
			t.Fatalf("%b: %s has %d digits, the shortest is %s", v, got, n, shortest)
		}
		if !strings.ContainsAny(got, ".e") {
			t.Fatalf("%b: %s reads as an integer", v, got)
		}
	})
}

// edge returns the distance of a decimal from v, as a share of the distance from v to the end of
// the interval of the decimals that read back as v.
func edge(v float64, decimal string) float64 {
	d, ok := new(big.Rat).SetString(decimal)
	if !ok {
		panic(decimal)
	}
	exact := new(big.Rat).SetFloat64(v)
	off := new(big.Rat).Sub(d, exact)
	next := new(big.Rat).SetFloat64(math.Nextafter(v, math.Inf(off.Sign())))
	if next == nil || off.Sign() == 0 {
		return 0
	}
	part, _ := new(big.Rat).Quo(off, next.Sub(next, exact)).Float64()
	return 2 * part
}

// significant counts the significant digits of a number.
func significant(s string) int {
	s, _, _ = strings.Cut(s, "e")
	s = strings.Trim(strings.ReplaceAll(strings.TrimPrefix(s, "-"), ".", ""), "0")
	return len(s)
}

// The test computes the table anew.
func TestCachedPowers(t *testing.T) {
	if len(cachedPowers) != 87 {
		t.Fatalf("%d powers", len(cachedPowers))
	}
	ten := big.NewInt(10)
	for i, got := range cachedPowers {
		k := -348 + 8*i
		p := new(big.Float).SetPrec(4096).SetInt(new(big.Int).Exp(ten,
			big.NewInt(int64(max(k, -k))), nil))
		if k < 0 {
			p.Quo(big.NewFloat(1).SetPrec(4096), p)
		}
		mant := new(big.Float)
		exp := p.MantExp(mant) // mant is in [0.5, 1)
		mant.SetMantExp(mant, 64).SetMode(big.ToNearestEven).Add(mant, big.NewFloat(0.5))
		want, _ := mant.Uint64()
		if got != want {
			t.Errorf("10^%d: %#x, want %#x", k, got, want)
		}
		if e := k*217706>>16 - 63; e != exp-64 {
			t.Errorf("10^%d: exponent %d, want %d", k, e, exp-64)
		}
	}
}

// slowAddr finds the text of an address by trying every run of zeros.
func slowAddr(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	b := a.As16()
	var groups []string
	for i := 0; i < 16; i += 2 {
		groups = append(groups, strconv.FormatUint(uint64(b[i])<<8|uint64(b[i+1]), 16))
	}
	for n := 8; n >= 2; n-- {
		for i := 0; i+n <= 8; i++ {
			if strings.Join(groups[i:i+n], "") != strings.Repeat("0", n) {
				continue
			}
			if i == 0 && (n == 6 || n == 5 && groups[5] == "ffff" || n == 4 &&
				groups[4] == "ffff" && groups[5] == "0") {
				quad := netip.AddrFrom4([4]byte(b[12:])).String()
				return "::" + strings.Join(append(groups[n:6:6], quad), ":")
			}
			return strings.Join(groups[:i], ":") + "::" + strings.Join(groups[i+n:], ":")
		}
	}
	return strings.Join(groups, ":")
}

func anyAddr() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "v4") {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")))
		}
		groups := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom([]uint16{0, 0, 0, 0xffff}),
			rapid.Uint16()), 8, 8).Draw(t, "groups")
		var b [16]byte
		for i, g := range groups {
			b[2*i], b[2*i+1] = byte(g>>8), byte(g)
		}
		return netip.AddrFrom16(b)
	})
}

func TestAddr(t *testing.T) {
	for text, want := range map[string]string{
		"::": "::", "::1": "::1", "::0.1.0.2": "::0.1.0.2", "::ffff:1.2.3.4": "::ffff:1.2.3.4",
		"::ffff:0:102:304": "::ffff:0:1.2.3.4", "2001:db8::1:0:0:1": "2001:db8::1:0:0:1",
		"0:a9eb::9339:86b7:0:0": "0:a9eb::9339:86b7:0:0", "1::": "1::",
		"fe80::a:0:1": "fe80::a:0:1",
	} {
		if got := string(appendAddr(nil, netip.MustParseAddr(text).AsSlice())); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a := anyAddr().Draw(t, "addr")
		got := string(appendAddr([]byte("x"), a.AsSlice()))
		if want := "x" + slowAddr(a); got != want {
			t.Fatalf("%v: %s, want %s", a, got, want)
		}
		if back, err := netip.ParseAddr(got[1:]); err != nil || back != a {
			t.Fatalf("%v: %s reads back as %v, %v", a, got, back, err)
		}
	})
}

func TestISO8601(t *testing.T) {
	for v, want := range map[float64]string{
		-315619200:        "1960-01-01T00:00:00.000000Z",
		-0.4:              "1969-12-31T23:59:59.600000Z",
		-99:               "1969-12-31T23:58:21.000000Z",
		1700000000.5:      "2023-11-14T22:13:20.500000Z",
		0.9999999:         "1970-01-01T00:00:00.1000000Z", // does not carry
		-62135596800:      "1-01-01T00:00:00.000000Z",
		-62135596801:      "0-12-31T23:59:59.000000Z",
		-62167219201:      "-1-12-31T23:59:59.000000Z",
		253402300800:      "10000-01-01T00:00:00.000000Z",
		67768036191676792: "2147485547-12-31T23:59:52.000000Z",
		67768036191676808: "2000-01-01T00:00:00.000000",
		1e300:             "2000-01-01T00:00:00.000000",
		-1e300:            "2000-01-01T00:00:00.000000",
		math.Inf(1):       "2000-01-01T00:00:00.000000",
	} {
		if got := string(appendISO8601(nil, v)); got != `"`+want+`"` {
			t.Errorf("%f: %s, want %s", v, got, want)
		}
	}
	if got := string(appendISO8601(nil, math.NaN())); got != `"2000-01-01T00:00:00.000000"` {
		t.Errorf("NaN: %s", got)
	}
}

func TestTruncInt64(t *testing.T) {
	for v, want := range map[float64]int64{
		1.9: 1, -1.9: -1, 0x1p63: math.MinInt64, -0x1p63: math.MinInt64,
		0x1.fffffffffffffp62: 0x7ffffffffffffc00,
		math.Inf(1):          math.MinInt64, math.Inf(-1): math.MinInt64,
	} {
		if got := truncInt64(v); got != want {
			t.Errorf("%v: %d, want %d", v, got, want)
		}
	}
	if got := truncInt64(math.NaN()); got != math.MinInt64 {
		t.Errorf("NaN: %d", got)
	}
}

// The test tries all lengths, and the neighbours of each power of ten and two.
func TestAppendUint(t *testing.T) {
	check := func(v uint64) {
		for _, room := range []int{0, 1, 64} {
			dst := append(make([]byte, 0, 1+room), '>')
			if got, want := string(appendUint(dst, v)), ">"+strconv.FormatUint(v, 10); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	}
	for p := uint64(1); ; p *= 10 {
		check(p - 1)
		check(p)
		check(p + 1)
		if p > math.MaxUint64/10 {
			break
		}
	}
	for s := range 64 {
		check(1<<s - 1)
		check(1 << s)
	}
	check(math.MaxUint64)
	rapid.Check(t, func(t *rapid.T) { check(rapid.Uint64().Draw(t, "v")) })
}
