package zmtp

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawParts draws up to n parts, some of them long.
func drawParts(t *rapid.T, least, n int) [][]byte {
	var parts [][]byte
	for range rapid.IntRange(least, n).Draw(t, "parts") {
		size := rapid.SampledFrom([]int{0, 1, 255, 256, 20_000}).Draw(t, "size")
		parts = append(parts, bytes.Repeat([]byte{byte(len(parts))}, size))
	}
	return parts
}

// An envelope that is put before a message and taken off again leaves the message as it was, alone
// and in a batch; each form is the encoding of its parts.
func TestEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		envelope, parts := drawParts(t, 0, 3), drawParts(t, 1, 3)
		m := NewMessage(parts...)
		whole := m.Prepend(envelope...)
		want := NewMessage(slices.Concat(envelope, parts)...)
		if !bytes.Equal(whole.Wire(), want.Wire()) {
			t.Fatalf("%q before %q gives %q", envelope, parts, text(whole))
		}
		var builder BatchBuilder
		builder.Add([]byte("before"))
		builder.AddMessage(m, envelope...)
		builder.Add([]byte("behind"))
		b := builder.Batch()
		defer b.Release()
		check := func(what string, want Message) {
			t.Helper()
			if got := b.Message(1); !bytes.Equal(got.Wire(), want.Wire()) {
				t.Fatalf("%s: %q, want %q", what, text(got), text(want))
			}
			if n, size := b.Counts(1, 2); n != want.NumParts() || size != want.Size() {
				t.Fatalf("%s: %d parts of %d bytes, want %d of %d", what, n, size,
					want.NumParts(), want.Size())
			}
		}
		check("with the envelope", want)
		for _, id := range envelope {
			part, rest := whole.CutPart()
			if !bytes.Equal(part, id) {
				t.Fatalf("cut %q, want %q", part, id)
			}
			whole = rest
			if part, ok := b.CutPart(1); !ok || !bytes.Equal(part, id) {
				t.Fatalf("cut %q off a batch, %v, want %q", part, ok, id)
			}
			check("without a part", whole)
		}
		if !bytes.Equal(whole.Wire(), m.Wire()) {
			t.Fatalf("%q is left, want %q", text(whole), text(m))
		}
		for i, want := range []string{0: "before", 2: "behind"} {
			if want != "" && text(b.Message(i)) != want {
				t.Fatalf("its neighbour has become %q", text(b.Message(i)))
			}
		}
	})
}

// The last part of a message in a batch stays, since a batch has no message without parts.
func TestCutLastPart(t *testing.T) {
	b := batchOf(NewMessageString("only"))
	if part, ok := b.CutPart(0); ok || part != nil || text(b.Message(0)) != "only" {
		t.Errorf("%q, %v, %q is left", part, ok, text(b.Message(0)))
	}
	part, rest := NewMessageString("only").CutPart()
	if string(part) != "only" || rest.NumParts() != 0 {
		t.Errorf("%q, %d parts are left", part, rest.NumParts())
	}
	if part, rest = rest.CutPart(); part != nil || rest.NumParts() != 0 {
		t.Errorf("of the zero Message: %q, %d parts", part, rest.NumParts())
	}
}
