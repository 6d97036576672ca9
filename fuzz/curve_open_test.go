package fuzz_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	naclbox "golang.org/x/crypto/nacl/box"

	"zmtpd/curve/box"
	"zmtpd/zmtp/wire"
)

var curveShared = [32]byte{1, 2, 3}

// curveTraffic are seeds of FuzzCurveOpen: no change, and changes of each kind.
func curveTraffic(testing.TB) [][]byte {
	return [][]byte{
		{}, {0}, {'x', 3, 0, 40, 1}, {'c', 0}, {'d', 1}, {'s', 0, 1}, {'c', 2, 'c', 2}, {'t', 10},
		{'x', 0, 0, 0, 1}, {'x', 0, 0, 0, 4},
		{'x', 1, 0, 17, 1, 'd', 0, 'c', 3}, {'f', 32}, {'f', 40},
	}
}

// slowOpen does what Open must do, frame by frame and with NaCl's box.
func slowOpen(stream []byte, last uint64) (out []byte, ok bool) {
	for len(stream) > 0 {
		_, size, n, err := wire.ParseHeader(stream)
		if err != nil || n == 0 || size > int64(len(stream)-n) {
			return out, false
		}
		body := stream[n : n+int(size)]
		stream = stream[n+int(size):]
		if len(body) < 33 || string(body[:8]) != "\x07MESSAGE" {
			return out, false
		}
		nonce := [24]byte([]byte("CurveZMQMESSAGEC\x00\x00\x00\x00\x00\x00\x00\x00"))
		copy(nonce[16:], body[8:])
		number := binary.BigEndian.Uint64(body[8:])
		text, opens := naclbox.OpenAfterPrecomputation(nil, body[16:], &nonce, &curveShared)
		if number <= last || !opens {
			return out, false
		}
		last = number
		flags := wire.Flags(text[0] & 1)
		if text[0]&2 != 0 {
			flags |= wire.Command
		}
		out = wire.AppendFrame(out, flags, text[1:])
	}
	return out, true
}

// The input changes, repeats and exchanges sealed frames on their way. Open does what slowOpen
// does. It returns the frames that were sealed, in order, perhaps without some.
func FuzzCurveOpen(f *testing.F) {
	addSeeds(f)
	var plain [][]byte
	var sealed [][]byte
	s := box.NewSealer(&curveShared, box.FromClient, 3)
	for i, size := range []int{0, 1, 31, 32, 100, 222, 223, 255, 256, 1000, 5000} {
		frame := wire.AppendFrame(nil, []wire.Flags{0, wire.More, wire.Command}[i%3],
			bytes.Repeat([]byte{byte(i)}, size))
		plain = append(plain, frame)
		sealed = append(sealed, s.Seal(nil, frame))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		var frames [][]byte
		for _, frame := range sealed {
			frames = append(frames, bytes.Clone(frame))
		}
		next := func() int {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return int(b)
		}
		for len(script) > 0 && len(frames) > 0 && len(frames) < 50 {
			switch op := next(); op {
			case 'x': // a changed byte
				frame := frames[next()%len(frames)]
				at := next()<<8 | next()
				if len(frame) > 0 {
					frame[at%len(frame)] ^= byte(next())
				}
			case 'c': // a copy at the end
				frames = append(frames, bytes.Clone(frames[next()%len(frames)]))
			case 'd': // a loss
				i := next() % len(frames)
				frames = append(frames[:i:i], frames[i+1:]...)
			case 's': // an exchange
				i, j := next()%len(frames), next()%len(frames)
				frames[i], frames[j] = frames[j], frames[i]
			case 't': // a cut
				i := next() % len(frames)
				frames[i] = frames[i][:next()%(len(frames[i])+1)]
			case 'f': // a frame that is not a MESSAGE
				body := append([]byte("\x07MESSAGE"), make([]byte, next())...)
				frames = append(frames, wire.AppendFrame(nil, 0, body))
			default: // a frame in clear
				frames = append(frames, wire.AppendFrame(nil, 0, script))
			}
		}
		stream := bytes.Join(frames, nil)
		want, ok := slowOpen(stream, 2)
		dst := []byte("before")
		got, err := box.NewOpener(&curveShared, box.FromClient, 2).Open(dst, bytes.Clone(stream))
		if (err == nil) != ok || !bytes.Equal(got, append(dst, want...)) {
			t.Fatalf("opened % x, %v, want % x, %v", got, err, want, ok)
		}
		if len(got)-len(dst) > len(stream) {
			t.Fatalf("%d bytes of %d", len(got), len(stream))
		}
		at := 0
		for rest := got[len(dst):]; len(rest) > 0; at++ {
			if at == len(plain) {
				t.Fatalf("% x was never sealed, or not in this order", rest)
			}
			rest = bytes.TrimPrefix(rest, plain[at])
		}
	})
}
