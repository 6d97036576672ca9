package zeek

import (
	"math"
	"math/rand/v2"
	"testing"

	"zmtpd/zmtp/testkit"
)

// The shortcut for millionths gives the digits of Grisu2, also for numbers that are just not
// millionths.
func TestWholeMicrosIsGrisu(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	taken := 0
	check := func(v float64) {
		if v <= 0 {
			return
		}
		var digits [20]byte
		n, exp := grisu2(&digits, v)
		want := string(appendDecimal(nil, digits[:n], exp))
		if got := string(appendJSONDouble(nil, v)); got != want {
			t.Fatalf("%v (%#x): %s, want %s", v, math.Float64bits(v), got, want)
		}
		if _, ok := wholeMicros(v); ok {
			taken++
		}
	}
	values := 100_000
	if testkit.Nightly() {
		values = 2_000_000
	}
	for range values {
		micros := r.Uint64() >> (11 + r.IntN(53)) // of every magnitude
		v := float64(micros) / 1e6
		check(v)
		check(math.Nextafter(v, 0))
		check(math.Nextafter(v, math.Inf(1)))
		check(v + math.Ldexp(r.Float64()-0.5, -r.IntN(40)))
	}
	for e := range 64 {
		power := math.Ldexp(1, e-20)
		for _, v := range []float64{power, math.Nextafter(power, 0), math.Nextafter(power, 1e30)} {
			check(v)
		}
	}
	if taken < values/2 {
		t.Errorf("the shortcut was taken %d times", taken)
	}
}
