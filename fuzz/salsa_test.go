package fuzz_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"golang.org/x/crypto/nacl/secretbox"

	"zmtpd/curve/salsa"
)

// salsaSeeds are inputs of FuzzSalsa: a byte for the key, then three bytes for each message.
func salsaSeeds(testing.TB) [][]byte {
	return [][]byte{
		{0, 0, 0, 1},
		// small messages, which share vectors
		{1, 100, 0, 1, 100, 0, 2, 100, 0, 3, 100, 0, 4, 100, 0, 5},
		{2, 0x40, 0x1f, 1, 32, 0, 2, 0xf4, 1, 3}, // a large message before small ones
		append([]byte{3}, bytes.Repeat([]byte{0xff, 0, 0x80}, 20)...),
	}
}

// A batch of any sizes is sealed and opened as secretbox does it one by one. Opening ends at the
// first message that was changed.
func FuzzSalsa(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) < 4 || len(program) > 200 {
			return
		}
		shared := sha256.Sum256(program[:1])
		long := [24]byte{program[0]}
		var c salsa.Cipher
		c.Init(&shared, (*[16]byte)(long[:]))

		var texts [][]byte
		var seal, open []salsa.Message
		for p := program[1:]; len(p) >= 3; p = p[3:] {
			size, nonce := int(binary.LittleEndian.Uint16(p))%9000, uint64(p[2])<<uint(p[2]%57)
			text := make([]byte, size)
			for i := range text {
				text[i] = byte(i) ^ p[2]
			}
			sealed := make([]byte, salsa.Overhead+size)
			texts = append(texts, text)
			seal = append(seal, salsa.Message{Nonce: nonce, Dst: sealed, Src: text})
			open = append(open, salsa.Message{Nonce: nonce, Dst: make([]byte, size), Src: sealed})
		}
		c.Seal(seal)
		for i, m := range seal {
			binary.BigEndian.PutUint64(long[16:], m.Nonce)
			if want := secretbox.Seal(nil, texts[i], &long, &shared); !bytes.Equal(m.Dst, want) {
				t.Fatalf("message %d of %d, %d bytes, is not what secretbox makes", i, len(seal),
					len(texts[i]))
			}
		}

		last := program[len(program)-1]
		bad := int(last) % len(open)
		open[bad].Src[int(program[1])%len(open[bad].Src)] ^= 1 << (last % 8)
		if n := c.Open(open); n != bad {
			t.Fatalf("%d of %d messages are good, but message %d was changed", n, len(open), bad)
		}
		for i, m := range open {
			if i < bad && !bytes.Equal(m.Dst, texts[i]) {
				t.Fatalf("message %d of %d is opened to another text", i, len(open))
			}
			if i >= bad && !bytes.Equal(m.Dst, make([]byte, len(m.Dst))) {
				t.Fatalf("message %d of %d is written, but message %d was refused", i, len(open),
					bad)
			}
		}
	})
}
