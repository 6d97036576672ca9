package fuzz_test

import (
	"bytes"
	"testing"

	"zmtpd/forwarder/event"
)

// The seeds in testdata/event and testdata/eventjson are events that a Zeek node has published, in
// both formats.

// hasLossy reports whether the value contains doubles or times, of which JSON loses digits.
func hasLossy(r event.Raw) bool {
	switch r.Kind() {
	case event.Real, event.Timestamp:
		return true
	}
	for e := range r.Elements() {
		if hasLossy(e) {
			return true
		}
	}
	for key, value := range r.Entries() {
		if hasLossy(key) || hasLossy(value) {
			return true
		}
	}
	return false
}

// A value is refused, or the Go values made from it encode to the same value with its elements in
// order, which is then stable, and its JSON reads back as the same value.
func FuzzEvent(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := event.Parse(b)
		if err != nil {
			return
		}
		canonical(t, r)
		if e, err := event.AsEvent(r); err == nil {
			if e.Args.Len() > len(b) || len(e.Name) > len(b) {
				t.Fatalf("%d arguments in %d bytes", e.Args.Len(), len(b))
			}
			e.NetworkTime()
		}
	})
}

// A text is refused, or becomes a value with the properties of FuzzEvent.
func FuzzEventJSON(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := event.ParseJSON(nil, text)
		if err != nil {
			return
		}
		if len(b) > len(text) {
			t.Fatalf("%d bytes of %d characters", len(b), len(text))
		}
		r, err := event.Parse(b)
		if err != nil {
			t.Fatalf("a value that was read is refused: %v", err)
		}
		canonical(t, r)
	})
}

func canonical(t *testing.T, r event.Raw) {
	first, err := event.Append(nil, r.Value())
	if err != nil {
		return // elements are equal once the bits behind a prefix are gone
	}
	again, err := event.Parse(first)
	if err != nil {
		t.Fatalf("a value that was encoded is refused: %v", err)
	}
	if second, err := event.Append(nil, again.Value()); err != nil || !bytes.Equal(first, second) {
		t.Fatalf("encoded again: %v\n%x\n%x", err, first, second)
	}
	json := event.AppendJSON(nil, again)
	b, err := event.ParseJSON(nil, json)
	if !hasLossy(again) && (err != nil || !bytes.Equal(b, first)) {
		t.Fatalf("%s: %v\n%x\n%x", json, err, b, first)
	}
}
