package loglimit

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(3)
		admitted := func(cause string, n int) (admitted int) {
			for i := range n {
				if _, ok := l.Admit(cause, fmt.Sprint(i)); ok {
					admitted++
				}
			}
			return admitted
		}
		for range 10 {
			l.Admit("a", "again and again")
		}
		if n := admitted("a", 1000); n != 2 {
			t.Errorf("%d of a thousand subjects, beside one", n)
		}
		if n := admitted("b", 1000); n != 3 {
			t.Errorf("%d subjects of another cause", n)
		}
		time.Sleep(Window + time.Second)
		if more, ok := l.Admit("a", "again and again"); !ok || more != 998 {
			t.Errorf("in the next window: %v, %d others", ok, more)
		}
		if more, ok := l.Admit("a", "new"); !ok || more != 0 {
			t.Errorf("the second event: %v, %d others", ok, more)
		}
		if n := len(l.causes["a"].seen); n != 2 {
			t.Errorf("%d subjects are held", n)
		}
	})
}
