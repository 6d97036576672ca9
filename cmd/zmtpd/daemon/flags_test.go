package daemon

import "testing"

func TestByteSize(t *testing.T) {
	for text, want := range map[string]ByteSize{
		"0": 0, "1": 1, "65536": 65536, "64KiB": 64 << 10, "64MiB": 64 << 20, "1.5GiB": 3 << 29,
		"2 GiB": 2 << 30,
	} {
		var s ByteSize
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1.5", "64kB", "MiB", "1e30", "NaN", "Inf",
		"0x", "9999999999GiB", "1MiB1"} {
		s := ByteSize(7)
		if err := s.UnmarshalText([]byte(text)); err == nil || s != 7 {
			t.Errorf("%q is accepted as %d", text, s)
		}
	}
}

func TestNoLimitIsNotTheDefault(t *testing.T) {
	if n := Limit(HighWaterMark(0)); n >= 0 {
		t.Errorf("no limit is %d, which package zmtp takes as its default", n)
	}
	if n := Limit(ByteSize(5)); n != 5 {
		t.Errorf("5 became %d", n)
	}
}

func TestHeartbeatTTL(t *testing.T) {
	for text, ok := range map[string]bool{"0s": true, "100ms": true, "65.5s": true,
		"65.6s": false, "66s": false, "-1s": false, "150ms": false, "x": false} {
		var h HeartbeatTTL
		if err := h.UnmarshalText([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
