package event

import (
	"bytes"
	"os"
	"testing"

	"zmtpd/zmtp/testkit"
)

// recorded returns the payloads of the events that a Zeek node has published, in one of the
// formats.
func recorded(t testing.TB, name string) (payloads [][]byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for _, parts := range testkit.Recorded(t, name, b) {
		payloads = append(payloads, parts[len(parts)-1])
	}
	return payloads
}

// has reports whether r is of one of the kinds or has a value of them in it.
func has(r Raw, kinds ...Kind) bool {
	for _, k := range kinds {
		if r.Kind() == k {
			return true
		}
	}
	for e := range r.Elements() {
		if has(e, kinds...) {
			return true
		}
	}
	for key, value := range r.Entries() {
		if has(key, kinds...) || has(value, kinds...) {
			return true
		}
	}
	return false
}

// TestGolden reads every event that a Zeek node has published, makes the same bytes of it again,
// and converts it to the other format and back. What Zeek's JSON loses of doubles and times stays
// lost.
func TestGolden(t *testing.T) {
	bin, json := recorded(t, "bin.bin"), recorded(t, "json.bin")
	if len(bin) != 173 || len(json) != len(bin) {
		t.Fatalf("%d and %d events", len(bin), len(json))
	}
	for i := range bin {
		r, err := Parse(bin[i])
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if _, err := AsEvent(r); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		again, err := Append(nil, r.Value())
		if err != nil || !bytes.Equal(again, bin[i]) {
			t.Errorf("%d: encoded again: %v\n%x\n%x", i, err, again, bin[i])
		}
		if got := AppendJSON(nil, r); !bytes.Equal(got, json[i]) {
			t.Errorf("%d: as JSON:\n%s\n%s", i, got, json[i])
		}
		parsed, err := ParseJSON(nil, json[i])
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if got := AppendJSON(nil, parsed); !bytes.Equal(got, json[i]) {
			t.Errorf("%d: from JSON and back:\n%s\n%s", i, got, json[i])
		}
		if !bytes.Equal(parsed, bin[i]) && !has(r, Real, Timestamp) {
			t.Errorf("%d: from JSON:\n%x\n%x", i, parsed, bin[i])
		}
	}
}

// TestGoldenCut: a part of an event is an error, never a value and never a panic.
func TestGoldenCut(t *testing.T) {
	for i, b := range recorded(t, "bin.bin") {
		for n := 0; n < len(b); n += 1 + len(b)/500 {
			if _, err := Parse(b[:n]); err == nil {
				t.Errorf("%d: %d of %d bytes are a value", i, n, len(b))
			}
		}
		if _, err := Parse(append(bytes.Clone(b), 0)); err == nil {
			t.Errorf("%d: something may follow", i)
		}
	}
	for i, b := range recorded(t, "json.bin") {
		for n := 0; n < len(b); n += 1 + len(b)/500 {
			if _, err := ParseJSON(nil, b[:n]); err == nil {
				t.Errorf("%d: %d of %d characters are a value", i, n, len(b))
			}
		}
	}
}
