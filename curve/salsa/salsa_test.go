package salsa

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/crypto/nacl/secretbox"
	"pgregory.net/rapid"
)

// A channel is a key, prepared for this package and for x/crypto.
type channel struct {
	Cipher
	shared [32]byte
	prefix [16]byte
}

func newChannel(random *rand.ChaCha8) *channel {
	c := &channel{}
	random.Read(c.shared[:])
	random.Read(c.prefix[:])
	c.Init(&c.shared, &c.prefix)
	return c
}

// secretbox seals a text with x/crypto, from the full nonce of 24 bytes.
func (c *channel) secretbox(nonce uint64, text []byte) []byte {
	var long [24]byte
	copy(long[:], c.prefix[:])
	binary.BigEndian.PutUint64(long[16:], nonce)
	return secretbox.Seal(nil, text, &long, &c.shared)
}

func newRandom(seed uint64) *rand.ChaCha8 {
	var b [32]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	return rand.NewChaCha8(b)
}

func randomBytes(random *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	random.Read(b)
	return b
}

// The test seals texts of every size up to some groups of blocks, and of sizes around larger
// borders.
func TestSealIsSecretbox(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		random := newRandom(1)
		check := func(size int) {
			c, nonce, text := newChannel(random), random.Uint64(), randomBytes(random, size)
			want := c.secretbox(nonce, text)
			sealed := make([]byte, size+Overhead)
			c.Seal([]Message{{Nonce: nonce, Dst: sealed, Src: text}})
			if !bytes.Equal(sealed, want) {
				t.Fatalf("a text of %d bytes is sealed as % x, want % x", size, sealed, want)
			}
			opened := make([]byte, size)
			if c.Open([]Message{{Nonce: nonce, Dst: opened, Src: want}}) != 1 ||
				!bytes.Equal(opened, text) {
				t.Fatalf("the sealed text of %d bytes does not open", size)
			}
		}
		for size := range 2200 {
			check(size)
		}
		for size := 4096; size < 70_000; size += 1 << 12 {
			for _, edge := range []int{-33, -32, -31, -1, 0, 1, 31, 32, 33, 64} {
				check(size + edge)
			}
		}
		check(70_000)
		check(2_100_000) // more than one call of assembly
	})
}

// A batch gives the same result as its messages one by one, wherever they are in memory. Nothing
// else is written.
func TestBatchIsSecretbox(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			random := newRandom(rapid.Uint64().Draw(t, "seed"))
			c := newChannel(random)
			largest := rapid.SampledFrom([]int{40, 150, 2000, 70_000}).Draw(t, "largest")
			sizes := rapid.SliceOfN(rapid.IntRange(0, largest), 0, 40).Draw(t, "sizes")
			if largest == 70_000 {
				sizes = sizes[:min(3, len(sizes))]
			}
			texts, sealed := make([][]byte, len(sizes)), make([][]byte, len(sizes))
			nonces := make([]uint64, len(sizes))
			for i, size := range sizes {
				nonces[i] = word.Draw(t, "nonce")
				texts[i] = randomBytes(random, size)
				sealed[i] = c.secretbox(nonces[i], texts[i])
			}
			checkLayout(t, "Seal", nonces, texts, sealed, 0, Overhead, func(msgs []Message) int {
				c.Seal(msgs)
				return len(msgs)
			})
			checkLayout(t, "Open", nonces, sealed, texts, Overhead, 0, c.Open)
		})
	})
}

// checkLayout puts messages into a buffer, one behind the other. It has them sealed or opened to
// places in the same buffer: the text of each moves towards the start or stays, but stays behind
// the message before it. The text begins at offset inHead of each input and at offset outHead of
// each output.
func checkLayout(t *rapid.T, what string, nonces []uint64, in, want [][]byte, inHead, outHead int,
	do func([]Message) int) {
	const guard = 100
	var buf, expect []byte
	from, to := make([]int, len(in)), make([]int, len(in))
	for i := range in {
		gap := rapid.IntRange(Overhead, 50).Draw(t, "gap")
		buf = append(buf, bytes.Repeat([]byte{byte(i + 3)}, guard*(1-min(i, 1))+gap)...)
		from[i] = len(buf)
		buf = append(buf, in[i]...)

		first := guard
		if i > 0 {
			first = to[i-1] + len(want[i-1])
		}
		last := from[i] + inHead - outHead
		to[i] = rapid.OneOf(rapid.Just(last), rapid.Just(first),
			rapid.IntRange(first, last)).Draw(t, "to")
	}
	buf = append(buf, bytes.Repeat([]byte{1}, guard)...)
	expect = append(expect, buf...)
	msgs := make([]Message, len(in))
	for i := range in {
		msgs[i] = Message{Nonce: nonces[i], Dst: buf[to[i]:][:len(want[i])],
			Src: buf[from[i]:][:len(in[i])]}
	}
	for i := range in {
		copy(expect[to[i]:], want[i])
	}
	if n := do(msgs); n != len(in) {
		t.Fatalf("%s: %d of %d messages are good", what, n, len(in))
	}
	for i := range in {
		if !bytes.Equal(msgs[i].Dst, want[i]) {
			t.Fatalf("%s: message %d of %d, %d bytes: % x, want % x", what, i, len(in), len(in[i]),
				msgs[i].Dst, want[i])
		}
	}
	if !bytes.Equal(buf, expect) {
		t.Fatalf("%s has written outside of the destinations", what)
	}
}

// If any bit of tag, text or nonce is changed, the message is refused, those before it are opened,
// and nothing is written for it and those behind it.
func TestEveryBitCounts(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		for _, sizes := range [][]int{{0}, {100}, {700}, {2500}, {100, 32, 0, 77, 300},
			{20, 90, 90, 90, 90, 90, 90, 90, 90, 90, 90}} {
			random := newRandom(2)
			c := newChannel(random)
			var msgs []Message
			var texts [][]byte
			for i, size := range sizes {
				texts = append(texts, randomBytes(random, size))
				msgs = append(msgs, Message{Nonce: uint64(i), Dst: make([]byte, size),
					Src: c.secretbox(uint64(i), texts[i])})
			}
			check := func(bad int, what string, bit int) {
				for i := range msgs {
					clear(msgs[i].Dst)
				}
				if n := c.Open(msgs); n != bad {
					t.Fatalf("%v: message %d, bit %d of its %s changed: %d are good", sizes,
						bad, bit, what, n)
				}
				for i := range msgs {
					want := texts[i]
					if i >= bad {
						want = make([]byte, len(want))
					}
					if !bytes.Equal(msgs[i].Dst, want) {
						t.Fatalf("%v: message %d with bit %d of its %s changed: message %d is % x",
							sizes, bad, bit,
							what, i, msgs[i].Dst)
					}
				}
			}
			for bad := range msgs {
				m := &msgs[bad]
				for bit := range len(m.Src) * 8 {
					m.Src[bit/8] ^= 1 << (bit % 8)
					check(bad, "sealed form", bit)
					m.Src[bit/8] ^= 1 << (bit % 8)
				}
				for bit := range 64 {
					m.Nonce ^= 1 << bit
					check(bad, "nonce", bit)
					m.Nonce ^= 1 << bit
				}
			}
			check(len(msgs), "nothing", 0)
		}
	})
}

func TestOpenRefusesMessagesShorterThanTag(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		c := newChannel(newRandom(3))
		for size := range Overhead {
			good, opened := c.secretbox(1, []byte("text")), make([]byte, 4)
			if n := c.Open([]Message{{Nonce: 1, Dst: opened, Src: good},
				{Nonce: 2, Src: make([]byte, size)},
				{Nonce: 3}}); n != 1 || string(opened) != "text" {
				t.Errorf("%d bytes: %d are good, %q", size, n, opened)
			}
		}
	})
}

// With Flip the result is that of a text with another first byte, in both directions.
func TestFlip(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		c := newChannel(newRandom(7))
		var seal, open []Message
		for i, text := range []string{"", "x", "text", strings.Repeat("text", 100)} {
			seal = append(seal, Message{Nonce: uint64(i), Dst: make([]byte, len(text)+Overhead),
				Src: []byte(text), Flip: 0x83})
			open = append(open, Message{Nonce: uint64(i), Dst: make([]byte, len(text)),
				Src:  seal[i].Dst,
				Flip: 0x83})
		}
		c.Seal(seal)
		for i, m := range seal {
			text := bytes.Clone(m.Src)
			if len(text) > 0 {
				text[0] ^= 0x83
			}
			if want := c.secretbox(m.Nonce, text); !bytes.Equal(m.Dst, want) {
				t.Errorf("message %d is sealed as % x, want % x", i, m.Dst, want)
			}
		}
		if n := c.Open(open); n != len(open) {
			t.Fatalf("%d messages are good", n)
		}
		for i, m := range open {
			if !bytes.Equal(m.Dst, seal[i].Src) {
				t.Errorf("message %d is opened as %q", i, m.Dst)
			}
		}
	})
}

func TestWrongLengthsPanic(t *testing.T) {
	c := newChannel(newRandom(4))
	sealed := c.secretbox(1, []byte("text"))
	for name, do := range map[string]func(){
		"Seal, short": func() { c.Seal([]Message{{Dst: make([]byte, 19), Src: []byte("text")}}) },
		"Seal, long":  func() { c.Seal([]Message{{Dst: make([]byte, 21), Src: []byte("text")}}) },
		"Open, short": func() { c.Open([]Message{{Dst: make([]byte, 3), Src: sealed}}) },
		"Open, long":  func() { c.Open([]Message{{Dst: make([]byte, 5), Src: sealed}}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			do()
		}()
	}
}

func TestNothingIsAllocated(t *testing.T) {
	eachKernel(t, func(t *testing.T) {
		c := newChannel(newRandom(5))
		for _, size := range []int{0, 100, 1000, 10_000} {
			var seal, open []Message
			for i := range 20 {
				text, sealed := make([]byte, size), make([]byte, size+Overhead)
				seal = append(seal, Message{Nonce: uint64(i), Dst: sealed, Src: text})
				open = append(open, Message{Nonce: uint64(i), Dst: text, Src: sealed})
			}
			if n := testing.AllocsPerRun(10, func() {
				c.Seal(seal)
				if c.Open(open) != len(open) {
					panic("not opened")
				}
			}); n != 0 {
				t.Errorf("%d bytes: %v allocations", size, n)
			}
		}
	})
}

func Benchmark(b *testing.B) {
	defer func(k kernel) { use = k }(use)
	for _, k := range kernels() {
		for _, size := range []int{32, 100, 500, 1500, 4096, 16384, 65536} {
			for _, batch := range []int{1, 64} {
				if batch*size > 1<<17 {
					continue
				}
				use = k
				c := newChannel(newRandom(6))
				seal, open := make([]Message, batch), make([]Message, batch)
				for i := range batch {
					text, sealed := make([]byte, size), make([]byte, size+Overhead)
					seal[i] = Message{Nonce: uint64(i), Dst: sealed, Src: text}
					open[i] = Message{Nonce: uint64(i), Dst: text, Src: sealed}
				}
				name := fmt.Sprintf("kernel=%s/size=%d/batch=%d", k, size, batch)
				b.Run("Seal/"+name, func(b *testing.B) {
					b.SetBytes(int64(size))
					for i := 0; i < b.N; i += batch {
						c.Seal(seal)
					}
				})
				c.Seal(seal)
				b.Run("Open/"+name, func(b *testing.B) {
					b.SetBytes(int64(size))
					for i := 0; i < b.N; i += batch {
						if c.Open(open) != batch {
							b.Fatal("not opened")
						}
					}
				})
			}
		}
	}
}
