package wire

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestMetadata has the rules A21 and A22 of the conformance notes.
func TestMetadata(t *testing.T) {
	m := Metadata{{"Socket-Type", []byte("PUSH")}, {"X-a", nil}, {"", []byte("empty name")},
		{"x-A", []byte("second")}, {"identity", []byte{0}}}
	whole := map[int]bool{0: true}
	var b []byte
	for _, p := range m {
		b = AppendProperty(b, p.Name, p.Value)
		whole[len(b)] = true
	}
	if !bytes.Equal(b, AppendMetadata(nil, m)) {
		t.Error("AppendMetadata is not AppendProperty of each")
	}
	for i := range len(b) + 1 {
		got, err := ParseMetadata(b[:i])
		if whole[i] != (err == nil) || err != nil && (reason(err) != MalformedReady || got != nil) {
			t.Errorf("%d of %d bytes: %v, %v", i, len(b), got, err)
		}
	}
	got, err := ParseMetadata(b)
	if err != nil || len(got) != len(m) {
		t.Fatal(got, err)
	}
	clear(b) // names and values are copies
	for i := range m {
		if got[i].Name != m[i].Name || !bytes.Equal(got[i].Value, m[i].Value) {
			t.Errorf("property %d is %q", i, got[i])
		}
	}
	for name, want := range map[string]string{"SOCKET-TYPE": "PUSH", "X-A": "", "Identity": "\x00", "Routing-Id": "\x00", "routing-id": "\x00"} {
		if v, ok := got.Get(name); !ok || string(v) != want {
			t.Errorf("%s is %q, %v", name, v, ok)
		}
	}
	if v, ok := got.Get("X-b"); ok || v != nil {
		t.Errorf("a property that is not there is %q", v)
	}
	if _, err := ParseMetadata([]byte("\x01a\xff\xff\xff\xffabc")); reason(err) != MalformedReady {
		t.Errorf("a hostile length: %v", err)
	}
}

func TestMetadataRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Metadata
		for range rapid.IntRange(0, 5).Draw(t, "properties") {
			name := string(rapid.SliceOfN(rapid.Byte(), 0, 255).Draw(t, "name"))
			m = append(m, Property{name, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")})
		}
		got, err := ParseMetadata(AppendMetadata(nil, m))
		if err != nil || len(got) != len(m) {
			t.Fatal(got, err)
		}
		for i := range m {
			if got[i].Name != m[i].Name || !bytes.Equal(got[i].Value, m[i].Value) {
				t.Fatalf("%q, want %q", got[i], m[i])
			}
		}
	})
}
