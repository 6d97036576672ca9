package zmtp

import (
	"strings"
	"testing"
)

func TestMessageString(t *testing.T) {
	parts := strings.Split(strings.Repeat("x ", 18), " ")
	for want, m := range map[string]Message{
		`[]`:                                     {},
		`["weather/oslo" "snow"]`:                NewMessageString("weather/oslo", "snow"),
		`["" "\x00\xff"]`:                        NewMessageString("", "\x00\xff"),
		`["` + long(256) + `"]`:                  NewMessageString(long(256)),
		`["` + long(256) + `" and 44 bytes "y"]`: NewMessageString(long(300), "y"),
		`[` + strings.Repeat(`"x" `, 16) + `and 3 parts]`: NewMessageString(parts...),
	} {
		if got := m.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func long(n int) string { return strings.Repeat("a", n) }

// Two sets of options would have no clear meaning.
func TestOneSetOfOptions(t *testing.T) {
	defer func() {
		if r, _ := recover().(string); !strings.Contains(r, "2 zmtp.PushOptions") {
			t.Error(r)
		}
	}()
	NewPush(Config{}, PushOptions{}, PushOptions{Immediate: true})
	t.Error("two sets of options were accepted")
}
