package fuzz_test

import (
	"bytes"
	"testing"

	"zmtpd/z85"
)

func z85Texts(testing.TB) [][]byte {
	return [][]byte{
		[]byte("HelloWorld"), // RFC 32
		[]byte("Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"),
		[]byte("D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"),
		[]byte("%nSc0"), // the largest group
		[]byte("%nSc1"), // one more than the largest group
		[]byte("#####"),
		[]byte("Hello,Worl"),
		[]byte("Hell"),
	}
}

func z85Data(testing.TB) [][]byte {
	return [][]byte{
		{0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B},
		{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
		bytes.Repeat([]byte{0x55}, 32),
		{1, 2, 3},
	}
}

// An accepted text is exactly the encoding of its data, which has the length that DecodedLen gives.
func FuzzZ85Decode(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		dst := []byte("before")
		got, err := z85.AppendDecode(dst, text)
		if err != nil {
			if !bytes.Equal(got, dst) {
				t.Fatalf("failed with %v and returned %q", err, got)
			}
			return
		}
		data, ok := bytes.CutPrefix(got, dst)
		if !ok || len(data) != z85.DecodedLen(len(text)) {
			t.Fatalf("%d characters gave %q", len(text), got)
		}
		if again, err := z85.AppendEncode(nil, data); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q reads back as %q, error %v", text, again, err)
		}
	})
}

func FuzzZ85Encode(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		dst := []byte("before")
		got, err := z85.AppendEncode(dst, data)
		if (err != nil) != (len(data)%4 != 0) {
			t.Fatalf("%d bytes: %v", len(data), err)
		}
		if err != nil {
			return
		}
		text, ok := bytes.CutPrefix(got, dst)
		if !ok || len(text) != z85.EncodedLen(len(data)) {
			t.Fatalf("%d bytes gave %q", len(data), got)
		}
		if again, err := z85.AppendDecode(nil, text); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("% x reads back as % x, error %v", data, again, err)
		}
	})
}
