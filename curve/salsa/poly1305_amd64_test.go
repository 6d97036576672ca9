package salsa

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// number returns the sum of the limbs. Each is shifted by the sum of the previous shifts.
func number(limbs []uint64, shifts ...uint) *big.Int {
	n, at := new(big.Int), uint(0)
	for i, limb := range limbs {
		n.Add(n, new(big.Int).Lsh(new(big.Int).SetUint64(limb), at))
		at += shifts[i]
	}
	return n
}

// limb draws a limb of the given number of bits. Often it is all ones, a power of two or near one,
// where carries go wrong most easily.
func limb(t *rapid.T, bits uint) uint64 {
	mask := uint64(1)<<bits - 1
	return rapid.OneOf(
		rapid.Uint64(),
		rapid.Map(rapid.IntRange(-6, 6), func(n int) uint64 { return uint64(n) }),
		rapid.Custom(func(t *rapid.T) uint64 {
			return 1<<rapid.UintRange(20, bits).Draw(t, "power") +
				uint64(rapid.IntRange(-6, 6).Draw(t, "near"))
		}),
	).Draw(t, "limb") & mask
}

func TestLimbs(t *testing.T) {
	p := new(big.Int).Lsh(big.NewInt(1), 130)
	bound := new(big.Int).Add(p, new(big.Int).Lsh(big.NewInt(1), 64))
	p.Sub(p, big.NewInt(5))
	check := func(t interface{ Fatalf(string, ...any) }, limbs []uint64, shift uint, w0, w1,
		w2 uint64) {
		want, got := number(limbs, shift, shift, shift, shift, shift),
			number([]uint64{w0, w1, w2}, 64, 64, 64)
		if got.Cmp(bound) >= 0 {
			t.Fatalf("limbs %x give words %x, which are too large", limbs, got)
		}
		if want.Mod(want, p).Cmp(got.Mod(got, p)) != 0 {
			t.Fatalf("limbs %x give words %x, want %x", limbs, got, want)
		}
	}
	t.Run("44 bits", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			bits := rapid.SampledFrom([]uint{44, 48, 60}).Draw(t, "bits")
			limbs := []uint64{limb(t, bits), limb(t, bits), limb(t, bits)}
			w0, w1, w2 := fromLimbs(limbs[0], limbs[1], limbs[2])
			check(t, limbs, 44, w0, w1, w2)
			a0, a1, a2 := toLimbs(w0, w1, w2)
			if a0 > mask44 || a1 > mask44 || a2 > 1<<43 {
				t.Fatalf("words %x, %x, %x give limbs %x, %x, %x, which are too large", w0, w1,
					w2, a0, a1,
					a2)
			}
			check(t, []uint64{a0, a1, a2}, 44, w0, w1, w2)
		})
	})
	t.Run("26 bits", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			bits := rapid.SampledFrom([]uint{26, 30, 60}).Draw(t, "bits")
			limbs := [5]uint64{limb(t, bits), limb(t, bits), limb(t, bits), limb(t, bits),
				limb(t, bits)}
			w0, w1, w2 := fromLimbs26(limbs)
			check(t, limbs[:], 26, w0, w1, w2)
			again := toLimbs26(w0, w1, w2)
			for j, limb := range again {
				if limb > mask26 && (j < 4 || limb > 1<<27) {
					t.Fatalf("words %x, %x, %x give limbs %x, which are too large", w0, w1, w2,
						again)
				}
			}
			check(t, again[:], 26, w0, w1, w2)
		})
	})
	t.Run("a carry through all limbs", func(t *testing.T) {
		limbs := []uint64{mask44, mask44, mask42 + 1}
		w0, w1, w2 := fromLimbs(limbs[0], limbs[1], limbs[2])
		check(t, limbs, 44, w0, w1, w2)

		// The first round leaves 3·2^26-3 and ones. In the second one a carry goes through all of
		// them, and then the first limb is too large again.
		const over = 26843546 // five times that is 2^27+2
		few := [5]uint64{mask26 - 4, mask26, mask26, mask26, mask26 + over<<26}
		w0, w1, w2 = fromLimbs26(few)
		check(t, few[:], 26, w0, w1, w2)
	})
}
