package await

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffGrowsFromMinToMax(t *testing.T) {
	for _, c := range []struct {
		b    Backoff
		want string
	}{
		{Backoff{}, "[50ms 100ms 200ms 400ms 800ms 1s 1s]"},
		{Backoff{Min: time.Second, Max: 3 * time.Second}, "[1s 2s 3s 3s 3s 3s 3s]"},
		{Backoff{Max: 20 * time.Millisecond}, "[20ms 20ms 20ms 20ms 20ms 20ms 20ms]"},
	} {
		b := c.b
		var got []time.Duration
		for i := range 7 {
			if b.First() != (i == 0) {
				t.Errorf("%+v: First is wrong before pause %d", c.b, i)
			}
			got = append(got, b.Next())
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%+v: %v, want %s", c.b, got, c.want)
		}
		if b.Reset(); !b.First() || b.Next() != got[0] {
			t.Errorf("%+v: the pause after Reset is not the first one", c.b)
		}
	}
}

func TestSleepEndsWithEitherContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
		defer cancel()
		var b Backoff
		if !b.Sleep(ctx, t.Context()) || b.Sleep(t.Context(), ctx) || ctx.Err() == nil {
			t.Error("Sleep does not end with its contexts, or ends before")
		}
	})
}
