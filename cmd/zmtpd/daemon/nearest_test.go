package daemon

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"listen", "sndhwm", "sndbytes", "to", "overload"}
	for typed, want := range map[string]string{
		"lisen": "listen", "sndhwmm": "sndhwm", "overlaod": "overload", "ot": "",
		"x": "", "": "", "connect": "", "snd-bytes": "sndbytes",
	} {
		if got := nearest(typed, known); got != want {
			t.Errorf("nearest to %q is %q, want %q", typed, got, want)
		}
	}
}
