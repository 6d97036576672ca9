package z85

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var rfc32 = []byte{0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B}

// The values are from RFC 32, section "Test Case".
func TestRFC32(t *testing.T) {
	if got, err := AppendEncode(nil, rfc32); err != nil || string(got) != "HelloWorld" {
		t.Errorf("encoded %q, %v", got, err)
	}
	if got, err := AppendDecode(nil, []byte("HelloWorld")); err != nil || !bytes.Equal(got, rfc32) {
		t.Errorf("decoded % X, %v", got, err)
	}
}

// The key pair is from libzmq's tests (tests/testutil_security.hpp). Its binary form is from
// libsodium.
func TestKeys(t *testing.T) {
	for _, text := range []string{
		"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
		"D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs",
	} {
		key, err := AppendDecode(nil, []byte(text))
		if err != nil || len(key) != 32 {
			t.Errorf("%s: %d bytes, %v", text, len(key), err)
		}
		if again, err := AppendEncode(nil, key); err != nil || string(again) != text {
			t.Errorf("%s reads back as %s, error %v", text, again, err)
		}
	}
}

// slowEncode follows the text of RFC 32: each group is a number in base 85.
func slowEncode(data []byte) string {
	var s strings.Builder
	for group := range slices.Chunk(data, 4) {
		v := new(big.Int).SetBytes(group)
		for power := int64(4); power >= 0; power-- {
			digit := new(big.Int)
			digit.Div(v, new(big.Int).Exp(big.NewInt(85), big.NewInt(power), nil))
			s.WriteByte(alphabet[digit.Mod(digit, big.NewInt(85)).Int64()])
		}
	}
	return s.String()
}

// slowDecode returns the data, or kind and position of the first fault.
func slowDecode(text []byte) (data []byte, kind string, position int) {
	if len(text)%5 != 0 {
		return nil, "length", len(text)
	}
	for n, group := range slices.Collect(slices.Chunk(text, 5)) {
		v := new(big.Int)
		for i, c := range group {
			digit := strings.IndexByte(alphabet, c)
			if digit < 0 {
				return nil, "alphabet", 5*n + i
			}
			v.Mul(v, big.NewInt(85)).Add(v, big.NewInt(int64(digit)))
		}
		if v.BitLen() > 32 {
			return nil, "overflow", 5 * n
		}
		data = append(data, v.FillBytes(make([]byte, 4))...)
	}
	return data, "", 0
}

func kindOf(err error) (kind string, position int) {
	var length *LengthError
	var alphabet *AlphabetError
	var overflow *OverflowError
	switch {
	case errors.As(err, &length):
		return "length", length.Length
	case errors.As(err, &alphabet):
		return "alphabet", alphabet.Position
	case errors.As(err, &overflow):
		return "overflow", overflow.Position
	}
	return "", 0
}

func TestEncodeAgainstSlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "data")
		dst := rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "dst")
		got, err := AppendEncode(dst, data)
		if len(data)%4 != 0 {
			if kind, n := kindOf(err); kind != "length" || n != len(data) ||
				!bytes.Equal(got, dst) {
				t.Fatalf("%d bytes: %q, %v", len(data), got, err)
			}
			return
		}
		if err != nil || string(got) != string(dst)+slowEncode(data) ||
			len(got) != len(dst)+EncodedLen(len(data)) {
			t.Fatalf("encoded %q, %v, want %q", got, err, slowEncode(data))
		}
		back, err := AppendDecode(dst, got[len(dst):])
		if err != nil || !bytes.Equal(back, slices.Concat(dst, data)) ||
			len(back) != len(dst)+DecodedLen(EncodedLen(len(data))) {
			t.Fatalf("the data read back as % x, error %v", back, err)
		}
	})
}

func TestDecodeAgainstSlow(t *testing.T) {
	// mostly digits, and large ones often enough for an overflow
	char := rapid.OneOf(
		rapid.SampledFrom([]byte(alphabet)), rapid.SampledFrom([]byte(alphabet[:80])),
		rapid.SampledFrom([]byte("#%0")))
	text := rapid.Custom(func(t *rapid.T) []byte {
		b := rapid.SliceOfN(char, 0, 60).Draw(t, "digits")
		if rapid.Bool().Draw(t, "whole groups") {
			b = b[:len(b)/5*5]
		}
		if len(b) > 0 && rapid.IntRange(0, 3).Draw(t, "spoil") == 0 {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		return b
	})
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		text, dst := text.Draw(t, "text"), []byte("dst")
		want, kind, position := slowDecode(text)
		got, err := AppendDecode(dst, text)
		gotKind, gotPosition := kindOf(err)
		if gotKind != kind || gotPosition != position || (err == nil) != (kind == "") {
			t.Fatalf("%q: %v, want %s at %d", text, err, kind, position)
		}
		if !bytes.Equal(got, slices.Concat(dst, want)) {
			t.Fatalf("%q: decoded % x, want % x", text, got[len(dst):], want)
		}
		seen[kind]++
	})
	for _, kind := range []string{"", "length", "alphabet", "overflow"} {
		if seen[kind] == 0 {
			t.Errorf("no text with fault %q was drawn", kind)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		text string
		want string
	}{
		{"Hell", "z85: text of 4 bytes: the length must be a multiple of 5"},
		{"Hello,Worl", `z85: byte 5 of the text, ",", is not in the alphabet`},
		{"Hello\xffWorl", `z85: byte 5 of the text, "\xff", is not in the alphabet`},
		{"HelloHell\"", `z85: byte 9 of the text, "\"", is not in the alphabet`},
		{"Hello%nSc1", "z85: the five characters from byte 5 of the text on exceed 32 bits"},
		{"#####", "z85: the five characters from byte 0 of the text on exceed 32 bits"},
	} {
		got, err := AppendDecode([]byte("x"), []byte(tt.text))
		if err == nil || err.Error() != tt.want || string(got) != "x" {
			t.Errorf("%q: %q, %v, want %s", tt.text, got, err, tt.want)
		}
	}
	if _, err := AppendEncode(nil, rfc32[:7]); err == nil ||
		err.Error() != "z85: data of 7 bytes: the length must be a multiple of 4" {
		t.Errorf("7 bytes: %v", err)
	}
	// the largest group
	if got, err := AppendDecode(nil, []byte("%nSc0")); err != nil ||
		!bytes.Equal(got, []byte{255, 255, 255, 255}) {
		t.Errorf("largest group: % x, %v", got, err)
	}
}

func TestNoAllocation(t *testing.T) {
	text, data := make([]byte, 0, 10), make([]byte, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		text, _ = AppendEncode(text[:0], rfc32)
		data, _ = AppendDecode(data[:0], text)
	}); n != 0 || !bytes.Equal(data, rfc32) {
		t.Errorf("%v allocations", n)
	}
}

func ExampleAppendEncode() {
	text, err := AppendEncode(nil, []byte{0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B})
	fmt.Println(string(text), err)
	// Output: HelloWorld <nil>
}

func BenchmarkEncode(b *testing.B) {
	data := bytes.Repeat(rfc32, 4)
	var text []byte
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		text, _ = AppendEncode(text[:0], data)
	}
}

func BenchmarkDecode(b *testing.B) {
	text := bytes.Repeat([]byte("HelloWorld"), 4)
	var data []byte
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		data, _ = AppendDecode(data[:0], text)
	}
}
