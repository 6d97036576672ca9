package box

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	naclbox "golang.org/x/crypto/nacl/box"
	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
)

// slowSeal protects one frame as RFC 26 says, with NaCl's crypto_box.
func slowSeal(dst []byte, shared *[32]byte, d Direction, nonce uint64, inner byte,
	body []byte) []byte {
	var n [24]byte
	copy(n[:], d)
	binary.BigEndian.PutUint64(n[16:], nonce)
	message := append([]byte("\x07MESSAGE"), n[16:]...)
	message = naclbox.SealAfterPrecomputation(message, append([]byte{inner}, body...), &n, shared)
	return wire.AppendFrame(dst, 0, message)
}

var innerOf = map[wire.Flags]byte{0: 0, wire.More: 1, wire.Command: 2}

type frame struct {
	flags wire.Flags
	body  []byte
}

func drawKey(t *rapid.T) *[32]byte {
	draw := func(label string) *[32]byte {
		return (*[32]byte)(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, label))
	}
	public, _, err := naclbox.GenerateKey(bytes.NewReader(draw("peer's secret")[:]))
	if err != nil {
		t.Fatal(err)
	}
	var shared [32]byte
	naclbox.Precompute(&shared, public, draw("secret"))
	return &shared
}

func drawFrames(t *rapid.T) []frame {
	size := rapid.OneOf(
		rapid.IntRange(0, 300), // short and long headers, up to a few blocks
		rapid.IntRange(0, 5000),
		rapid.IntRange(0, 70_000),
	)
	frames := make([]frame, rapid.IntRange(0, 40).Draw(t, "frames"))
	var noise [32]byte
	for i := range frames {
		body := make([]byte, size.Draw(t, "size"))
		noise[0]++
		for j := range body {
			body[j] = byte(j*7) ^ noise[j%32]
		}
		frames[i] = frame{rapid.SampledFrom([]wire.Flags{0, wire.More, wire.Command}).
			Draw(t, "flags"),
			body}
	}
	return frames
}

// unaligned returns a copy of b that begins at any offset and has other bytes behind it.
func unaligned(t *rapid.T, b []byte, label string) []byte {
	offset := rapid.IntRange(0, 64).Draw(t, label)
	room := make([]byte, offset+len(b)+64)
	return append(room[:offset], b...)[offset:]
}

func TestSealIsNaClBoxAndOpenIsItsInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shared := drawKey(t)
		d := rapid.SampledFrom([]Direction{FromClient, FromServer}).Draw(t, "direction")
		nonce := rapid.Uint64Range(1, 1<<63).Draw(t, "nonce")
		frames := drawFrames(t)

		var plain, want []byte
		for i, f := range frames {
			plain = wire.AppendFrame(plain, f.flags, f.body)
			want = slowSeal(want, shared, d, nonce+uint64(i), innerOf[f.flags], f.body)
		}

		s := NewSealer(shared, d, nonce)
		before := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "before")
		in := unaligned(t, plain, "offset of plaintext")
		var got []byte
		if rapid.Bool().Draw(t, "in two calls") && len(frames) > 0 {
			first := wire.FrameSize(len(frames[0].body))
			got = s.Seal(bytes.Clone(before), in[:first])
			got = s.Seal(got, in[first:])
		} else {
			got = s.Seal(bytes.Clone(before), in)
		}
		if !bytes.Equal(in, plain) {
			t.Fatal("Seal changed its input")
		}
		if !bytes.Equal(got, append(bytes.Clone(before), want...)) {
			t.Fatal("Seal differs from NaCl's crypto_box")
		}

		stream := unaligned(t, want, "offset of stream")
		opened, err := NewOpener(shared, d, nonce-1).Open(bytes.Clone(before), stream)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(opened, append(bytes.Clone(before), plain...)) {
			t.Fatal("Open does not return the sealed frames")
		}
		if len(opened)-len(before) > len(want) {
			t.Fatal("Open appended more bytes than the stream has")
		}
	})
}

// The test seals frames of every length up to several blocks in one call, and so at many
// alignments.
func TestEveryShortLength(t *testing.T) {
	var shared [32]byte
	rand.Read(shared[:])
	var plain, want []byte
	body := make([]byte, 1100)
	rand.Read(body)
	for n := range len(body) {
		plain = wire.AppendFrame(plain, wire.More, body[:n])
		want = slowSeal(want, &shared, FromServer, uint64(n+2), 1, body[:n])
	}
	if got := NewSealer(&shared, FromServer, 2).Seal(nil, plain); !bytes.Equal(got, want) {
		t.Error("Seal differs from NaCl's crypto_box")
	}
	if got, err := NewOpener(&shared, FromServer, 1).Open(nil, want); err != nil ||
		!bytes.Equal(got, plain) {
		t.Errorf("Open does not return the sealed frames: %v", err)
	}
}

// reason returns the reason of an error of Open. It fails the test for any other error.
func reason(t *testing.T, err error) wire.Reason {
	t.Helper()
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		t.Fatalf("error is %v", err)
	}
	return e.Reason
}

// A changed bit anywhere in a MESSAGE is noticed. Open returns nothing of that frame and those
// behind it.
func TestEveryBitIsProtected(t *testing.T) {
	var shared [32]byte
	rand.Read(shared[:])
	first, last := []byte("the frame before"), []byte("the frame after")
	for _, size := range []int{0, 1, 31, 32, 100, 223, 300} {
		secret := bytes.Repeat([]byte("secret "), size/7+1)[:size]
		good := slowSeal(nil, &shared, FromClient, 3, 0, first)
		good = slowSeal(good, &shared, FromClient, 4, 0, secret)
		to := len(good)
		from := to - size - Overhead // the body: MORE and COMMAND of the header are not protected
		good = slowSeal(good, &shared, FromClient, 5, 0, last)

		want := wire.AppendFrame(nil, 0, first)
		dst := make([]byte, len(good))
		for bit := from * 8; bit < to*8; bit++ {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			clear(dst)
			got, err := NewOpener(&shared, FromClient, 2).Open(dst[:0], bad)
			if err == nil {
				t.Fatalf("size %d: change of bit %d, byte %d not noticed", size, bit%8, bit/8-from)
			}
			reason(t, err)
			if !bytes.Equal(got, want) {
				t.Fatalf("size %d: Open returned % x", size, got)
			}
			if left := dst[len(got):cap(got)]; size >= 31 && bytes.Contains(left, secret) ||
				bytes.Contains(left, last) {
				t.Fatalf("size %d: Open left plaintext in memory that was not authenticated", size)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	var shared, other [32]byte
	rand.Read(shared[:])
	rand.Read(other[:])
	seal := func(nonces ...uint64) (b []byte) {
		for _, n := range nonces {
			b = slowSeal(b, &shared, FromServer, n, 0, fmt.Append(nil, n))
		}
		return b
	}
	command := func(body string) []byte { return wire.AppendFrame(nil, wire.Command, []byte(body)) }
	for name, c := range map[string]struct {
		stream []byte
		opened []int // frames that Open returns
		want   wire.Reason
	}{
		"nonce of the previous command": {seal(1), nil, wire.InvalidSequence},
		"nonce 0":                       {seal(0), nil, wire.InvalidSequence},
		"repeated nonce":                {seal(2, 2), []int{2}, wire.InvalidSequence},
		"smaller nonce":                 {seal(2, 9, 8), []int{2, 9}, wire.InvalidSequence},
		"reordered":                     {seal(3, 2), []int{3}, wire.InvalidSequence},
		"another key": {slowSeal(nil, &other, FromServer, 2, 0, nil), nil,
			wire.Cryptographic},
		"our own direction, reflected": {slowSeal(nil, &shared, FromClient, 2, 0, nil), nil,
			wire.Cryptographic},
		"clear message": {wire.AppendFrame(nil, 0, []byte("hello")), nil,
			wire.MalformedCommand},
		"empty frame": {wire.AppendFrame(nil, 0, nil), nil, wire.MalformedCommand},
		"clear PING":  {wire.AppendPing(nil, 10), nil, wire.UnexpectedCommand},
		"clear ERROR": {wire.AppendError(nil, "400"), nil, wire.UnexpectedCommand},
		"short MESSAGE": {command("\x07MESSAGE" + string(make([]byte, 24))), nil,
			wire.MalformedMessage},
		"MESSAGE alone":             {command("\x07MESSAGE"), nil, wire.MalformedMessage},
		"reserved bit of the frame": {append(seal(2), 0x08, 0), []int{2}, wire.MalformedFrame},
	} {
		var want []byte
		for _, n := range c.opened {
			want = wire.AppendFrame(want, 0, fmt.Append(nil, n))
		}
		got, err := NewOpener(&shared, FromServer, 1).Open(nil, c.stream)
		if err == nil || reason(t, err) != c.want || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %v", name, got, err, c.want)
		}
	}
}

func TestOpenRefusesTruncatedStreams(t *testing.T) {
	var shared [32]byte
	stream := slowSeal(nil, &shared, FromServer, 1, 0, make([]byte, 300))
	for n := 1; n < len(stream); n++ {
		if got, err := NewOpener(&shared, FromServer, 0).Open(nil, stream[:n]); err == nil ||
			len(got) > 0 {
			t.Fatalf("the first %d of %d bytes: %q, %v", n, len(stream), got, err)
		}
	}
}

// MORE and COMMAND of the outer header and unknown bits of the inner flags are ignored. Gaps
// between nonces, and lengths in a longer form than necessary, are legal.
func TestOpenAccepts(t *testing.T) {
	var shared [32]byte
	rand.Read(shared[:])
	var stream, want []byte
	for i, outer := range []wire.Flags{0, wire.More, wire.Command, wire.More | wire.Command} {
		for inner := range 256 {
			at := len(stream)
			stream = slowSeal(stream, &shared, FromClient, uint64(3+(i*256+inner)*5), byte(inner),
				[]byte("body"))
			stream[at] |= byte(outer)
			var flags wire.Flags
			if inner&1 != 0 {
				flags |= wire.More
			}
			if inner&2 != 0 {
				flags |= wire.Command
			}
			want = wire.AppendFrame(want, flags, []byte("body"))
		}
	}
	short := slowSeal(nil, &shared, FromClient, 1<<63, 0, []byte("long header"))
	stream = append(stream, byte(wire.Long), 0, 0, 0, 0, 0, 0, 0, short[1])
	stream = append(stream, short[2:]...)
	want = wire.AppendFrame(want, 0, []byte("long header"))
	got, err := NewOpener(&shared, FromClient, 2).Open(nil, stream)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatal(err)
	}
}

func TestSealPanicsOnIncompleteFrames(t *testing.T) {
	frame := wire.AppendFrame(nil, 0, []byte("body"))
	for n := 1; n < len(frame); n++ {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bytes of a frame were sealed", n)
				}
			}()
			NewSealer(new([32]byte), FromClient, 3).Seal(nil, frame[:n])
		}()
	}
}

func TestNoAllocationPerFrame(t *testing.T) {
	var shared [32]byte
	var frames []byte
	for n := range 100 {
		frames = wire.AppendFrame(frames, 0, make([]byte, 7*n))
	}
	s, o := NewSealer(&shared, FromClient, 3), NewOpener(&shared, FromClient, 2)
	sealed, opened := make([]byte, 0, 2*len(frames)), make([]byte, 0, 2*len(frames))
	allocs := testing.AllocsPerRun(100, func() {
		sealed = s.Seal(sealed[:0], frames)
		var err error
		if opened, err = o.Open(opened[:0], sealed); err != nil || !bytes.Equal(opened, frames) {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
