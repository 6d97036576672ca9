// Package z85 encodes binary data as text (RFC 32, rfc.zeromq.org/spec/32). Four bytes, taken as a
// big-endian number, become five digits in base 85, the most significant one first. CURVE keys have
// this form: 32 bytes in 40 characters.
//
// There is no padding: the length of data is a multiple of 4, and that of text a multiple of 5.
package z85

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// alphabet lists the digits in the order of their values (RFC 32, "Formal Specification").
const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

// none marks a byte that is not a digit. All digits are below 85.
const none = 0xff

// digits maps each byte to its value as a digit.
var digits = func() (t [256]uint8) {
	for i := range t {
		t[i] = none
	}
	for value, c := range []byte(alphabet) {
		t[c] = uint8(value)
	}
	return t
}()

// A LengthError reports data or text of a length that RFC 32 does not allow.
type LengthError struct {
	Length   int // of the input, in bytes
	Multiple int // of which the length must be a multiple: 4 for AppendEncode, 5 for AppendDecode
}

func (e *LengthError) Error() string {
	what := "text"
	if e.Multiple == 4 {
		what = "data"
	}
	return fmt.Sprintf("z85: %s of %d bytes: the length must be a multiple of %d", what, e.Length,
		e.Multiple)
}

// An AlphabetError reports a byte of a text that is not one of the 85 digits.
type AlphabetError struct {
	Position int // position in the text, from 0
	Byte     byte
}

func (e *AlphabetError) Error() string {
	return fmt.Sprintf("z85: byte %d of the text, %q, is not in the alphabet", e.Position,
		[]byte{e.Byte})
}

// An OverflowError reports five digits with a value that does not fit in four bytes. RFC 32 does
// not mention the case; libzmq refuses it as well.
type OverflowError struct {
	Position int // of the first of the five digits, from 0
}

func (e *OverflowError) Error() string {
	const text = "z85: the five characters from byte %d of the text on exceed 32 bits"
	return fmt.Sprintf(text, e.Position)
}

// EncodedLen returns the length of the text for n bytes of data. n must be a multiple of 4.
func EncodedLen(n int) int { return n / 4 * 5 }

// DecodedLen returns the length of the data in a text of n bytes. n must be a multiple of 5.
func DecodedLen(n int) int { return n / 5 * 4 }

// AppendEncode appends the text for src to dst and returns the extended slice. The two must not
// overlap. The error is a *[LengthError]; then it returns dst. It allocates only to grow dst.
func AppendEncode(dst, src []byte) ([]byte, error) {
	if len(src)%4 != 0 {
		return dst, &LengthError{Length: len(src), Multiple: 4}
	}
	dst = slices.Grow(dst, EncodedLen(len(src)))
	for ; len(src) > 0; src = src[4:] {
		v := binary.BigEndian.Uint32(src)
		dst = append(dst,
			alphabet[v/(85*85*85*85)],
			alphabet[v/(85*85*85)%85],
			alphabet[v/(85*85)%85],
			alphabet[v/85%85],
			alphabet[v%85])
	}
	return dst, nil
}

// AppendDecode appends the data for the text src to dst and returns the extended slice. The two
// must not overlap. The error is a *[LengthError], or an *[AlphabetError] or *[OverflowError] for
// the first faulty group of five digits; then it returns dst. Different texts give different data.
// It allocates only to grow dst.
func AppendDecode(dst, src []byte) ([]byte, error) {
	if len(src)%5 != 0 {
		return dst, &LengthError{Length: len(src), Multiple: 5}
	}
	out := slices.Grow(dst, DecodedLen(len(src)))
	for at := 0; at < len(src); at += 5 {
		group := src[at : at+5 : at+5]
		var v uint64
		for i, c := range group {
			d := digits[c]
			if d == none {
				return dst, &AlphabetError{Position: at + i, Byte: c}
			}
			v = v*85 + uint64(d)
		}
		if v > 1<<32-1 {
			return dst, &OverflowError{Position: at}
		}
		out = binary.BigEndian.AppendUint32(out, uint32(v))
	}
	return out, nil
}
