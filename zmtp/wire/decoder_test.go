package wire

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// item is what a slow, obviously correct reading of a stream finds.
type item struct {
	command bool
	bytes   string // of a message: its wire form without commands; of a command: its body
}

// drive feeds stream to a Decoder in the given pieces and collects what it finds.
func drive(d *Decoder, stream []byte, cut func(left int) int) ([]item, error) {
	var found []item
	var buf []byte
	for len(stream) > 0 {
		n := cut(len(stream))
		buf = append(buf, stream[:n]...)
		stream = stream[n:]
		for {
			size, parts, bytes := d.Whole(buf)
			it, err := d.Next(buf)
			if size > 0 && (err != nil || it.Kind != AMessage || it.Size != size ||
				it.Parts != parts || it.Bytes != bytes || it.From != size) {
				panic("Whole and Next disagree")
			}
			if err != nil {
				return found, err
			}
			switch it.Kind {
			case AMessage:
				found = append(found, item{false, string(buf[:it.Size])})
			case ACommand:
				found = append(found, item{true, string(it.Body)})
			}
			buf = buf[it.From:it.To]
			if it.Kind == NeedMore {
				if it.Size <= len(buf) {
					panic("NeedMore asks for what is there")
				}
				break
			}
		}
	}
	return found, nil
}

// genStream draws messages with commands before, inside and behind them, and what must be found.
func genStream(t *rapid.T) (stream []byte, want []item) {
	body := rapid.SliceOfN(rapid.Byte(), 0, 300)
	for range rapid.IntRange(0, 6).Draw(t, "messages") {
		parts := rapid.IntRange(1, 4).Draw(t, "parts")
		var message []byte
		for i := range parts {
			for rapid.IntRange(0, 3).Draw(t, "command") == 0 {
				cmd := AppendPing(nil, 1)
				want = append(want, item{true, string(cmd[2:])})
				stream = append(stream, cmd...)
			}
			flags := More
			if i == parts-1 {
				flags = 0
			}
			b := body.Draw(t, "body")
			frame := AppendFrame(nil, flags, b)
			if len(b) < 256 && rapid.Bool().Draw(t, "long form") {
				frame = append([]byte{byte(flags | Long), 0, 0, 0, 0, 0, 0, 0, byte(len(b))}, b...)
			}
			message = append(message, frame...)
			stream = append(stream, frame...)
		}
		want = append(want, item{false, string(message)})
	}
	return stream, want
}

func TestDecoderFindsTheSameWhateverTheCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream, want := genStream(t)
		got, err := drive(new(Decoder), stream, func(left int) int {
			return rapid.IntRange(1, min(left, 40)).Draw(t, "cut")
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%d items, want %d", len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("item %d is %x, want %x", i, got[i].bytes, want[i].bytes)
			}
		}
	})
}

func TestDecoderRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in     []byte
		reason Reason
	}{
		"reserved bit":      {[]byte{0x08, 0}, MalformedFrame},
		"command with more": {[]byte{0x05, 0}, MalformedFrame},
		"top bit of size":   {[]byte{0x02, 0x80, 0, 0, 0, 0, 0, 0, 0}, MalformedFrame},
		"largest size": {[]byte{0x02, 0x7f, 255, 255, 255, 255, 255, 255, 255},
			MessageTooLarge},
		"above the limit":  {[]byte{0x00, 101}, MessageTooLarge},
		"long command":     {[]byte{0x06, 0, 0, 0, 0, 0, 2, 0, 1}, CommandTooLarge},
		"many empty parts": {bytes.Repeat([]byte{0x01, 0}, 60), MessageTooLarge},
		"sum of the parts": {append(AppendFrame(nil, More, make([]byte, 60)), 0x00, 50),
			MessageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decoder{MaxMessageSize: 100}
			_, err := d.Next(c.in)
			if e, ok := err.(*Error); !ok || e.Reason != c.reason {
				t.Fatalf("error %v, want %v", err, c.reason)
			}
		})
	}
}

func TestDecoderAcceptsUpToTheLimit(t *testing.T) {
	d := Decoder{MaxMessageSize: 100}
	it, err := d.Next(AppendFrame(nil, 0, make([]byte, 100)))
	if err != nil || it.Kind != AMessage {
		t.Fatal(it, err)
	}
}

func BenchmarkDecoder(b *testing.B) {
	var stream []byte
	n := 0
	for len(stream) < 60<<10 {
		for _, p := range []int{20, 34, 13} {
			stream = AppendFrame(stream, More, make([]byte, p))
		}
		stream = AppendFrame(stream, 0, make([]byte, 100))
		n++
	}
	b.ReportAllocs()
	for b.Loop() {
		var d Decoder
		for rest := stream; len(rest) > 0; {
			it, err := d.Next(rest)
			if err != nil {
				b.Fatal(err)
			}
			rest = rest[it.From:it.To]
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/msg")
}

// A peer may put any number of commands into a message. Their cost must not grow with the square of
// their number: they cost about as much as the same commands before the message.
func TestCommandsInsideAMessageCostLittle(t *testing.T) {
	const number = 1 << 16
	begin := AppendFrame(nil, More, make([]byte, 1<<20))
	commands := bytes.Repeat([]byte{byte(Command), 2, 1, 'x'}, number)
	end := []byte{0, 1, 'e'}
	fastest := func(stream []byte) time.Duration {
		best := time.Duration(math.MaxInt64)
		for range 3 {
			start := time.Now()
			found, err := drive(new(Decoder), slices.Clone(stream),
				func(left int) int { return left })
			best = min(best, time.Since(start))
			if err != nil || len(found) != number+1 {
				t.Fatal(len(found), err)
			}
			if last := found[number].bytes; last != string(begin)+string(end) {
				t.Fatalf("the message has %d bytes", len(last))
			}
		}
		return best
	}
	before, inside := fastest(slices.Concat(commands, begin, end)),
		fastest(slices.Concat(begin, commands, end))
	if inside > 20*before {
		t.Errorf("commands inside a message take %v, before it %v", inside, before)
	}
}

// TestDecoderTruncated cuts a stream at every byte: what is there is found, and nothing else, and
// no error.
func TestDecoderTruncated(t *testing.T) {
	var stream []byte
	ends := map[int]int{0: 0} // items found when that many bytes are there
	add := func(b []byte, item bool) {
		for _, c := range b {
			stream = append(stream, c)
			ends[len(stream)] = ends[len(stream)-1]
		}
		if item {
			ends[len(stream)]++
		}
	}
	add(AppendFrame(nil, 0, nil), true)
	add(AppendFrame(nil, More, []byte("part")), false)
	add(AppendPing(nil, 1), true)
	add(AppendFrame(nil, More, make([]byte, 300)), false)
	add(AppendCommand(nil, "X", make([]byte, 300)), true)
	add(AppendFrame(nil, 0, []byte("last")), true)
	add(AppendSubscription(nil, false, true, []byte("t")), true)
	for i := range len(stream) + 1 {
		for _, step := range []int{1, 7, len(stream)} {
			found, err := drive(new(Decoder), slices.Clone(stream[:i]),
				func(left int) int { return min(left, step) })
			if err != nil || len(found) != ends[i] {
				t.Fatalf("%d bytes in steps of %d: %d items, %v, want %d", i, step, len(found), err,
					ends[i])
			}
		}
	}
}

// The limit counts all parts of a message; what would go beyond it is refused by its header.
func TestDecoderLimitIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream, want := genStream(t)
		d := Decoder{MaxMessageSize: rapid.Int64Range(1, 1000).Draw(t, "limit")}
		found, err := drive(&d, stream,
			func(left int) int { return rapid.IntRange(1, left).Draw(t, "cut") })
		for i, it := range want {
			_, _, header, _ := ParseHeader([]byte(it.bytes))
			if size := int64(len(it.bytes) - header); it.command || size <= d.MaxMessageSize {
				continue
			}
			// Of the commands inside of it some may have been found before its fault.
			if reason(err) != MessageTooLarge || len(found) > i ||
				!slices.Equal(found, want[:len(found)]) {
				t.Fatalf("%d items, %v; message %d is above %d", len(found), err, i,
					d.MaxMessageSize)
			}
			return
		}
		if err != nil || !slices.Equal(found, want) {
			t.Fatalf("%d items, %v, want %d", len(found), err, len(want))
		}
	})
}

// The header of the first frame beyond MaxParts is refused, whichever of Next and Whole sees it.
func TestDecoderMaxParts(t *testing.T) {
	message := append(bytes.Repeat([]byte{byte(More), 0}, 5), 0, 0)
	for limit, want := range map[int]Reason{0: ReasonNone, 5: TooManyParts, 6: ReasonNone} {
		d := Decoder{MaxParts: limit}
		stream := append(message, make([]byte, MaxHeaderSize)...) // Whole wants some bytes behind
		if size, parts, _ := d.Whole(stream); (size == len(message)) != (want == ReasonNone) ||
			size > 0 && parts != 6 {
			t.Errorf("limit %d: Whole gives %d bytes, %d parts", limit, size, parts)
		}
		it, err := d.Next(message)
		if e, ok := errors.AsType[*Error](err); ok != (want != ReasonNone) || ok &&
			e.Reason != want || !ok && it.Parts != 6 {
			t.Errorf("limit %d: %+v, %v", limit, it, err)
		}
	}
}
