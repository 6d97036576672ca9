package store

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"zmtpd/zmtp/memory"
)

// TestMemoryBudget checks that a store counts in the budget of the process, that a write for which
// the budget has no room is refused, and that the store goes on with less.
func TestMemoryBudget(t *testing.T) {
	const limit = 32 << 20
	budget := memory.New(limit, slog.New(slog.DiscardHandler))
	s, err := Open(Config{Name: "test", Memory: budget, History: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	value := Text(make([]byte, 100_000))
	put := func(i int) error {
		_, err := s.Apply(t.Context(), "", Write{Op: "put", Key: Text(fmt.Sprint(i)), Value: value})
		return err
	}
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = put(n)
	}
	used, st := budget.Stats().Used, s.Stats()
	if !errors.Is(err, BackendFailure) || used < st.Bytes || used > limit ||
		used > st.Bytes+2<<20 || st.Bytes < limit/5 {
		t.Fatalf("write %d: %v; %d bytes of entries, the budget has %d", n, err, st.Bytes, used)
	}
	if err := put(0); err != nil { // needs nothing more
		t.Error(err)
	}
	if _, err := s.Apply(t.Context(), "", Write{Op: "clear"}); err != nil {
		t.Error(err)
	}
	if err := put(n); err != nil {
		t.Error(err)
	}
	if used := budget.Stats().Used; used > 4<<20 {
		t.Errorf("after a clear the budget has %d bytes", used)
	}
	if err := s.Close(); err != nil || budget.Stats().Used != 0 {
		t.Errorf("after the end: %v, the budget has %d bytes", err, budget.Stats().Used)
	}
}
