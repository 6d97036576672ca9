package testkit

import (
	"context"
	"testing"
	"time"
)

// Patience is how long a test waits for what must happen. It is far longer than anything takes,
// because the machine may be busy with other work; only a test that fails waits that long.
const Patience = 60 * time.Second

// Eventually polls ok until it returns true, and fails the test if it does not within Patience.
// what completes the sentence "not within 1m0s: ...". In a bubble of testing/synctest the time is
// the bubble's.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Within(t, Patience, what, ok)
}

// Within is Eventually with another deadline, for what takes long by its nature.
func Within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	// Soon at first, for what is about to happen; then less often, to leave the processor to what
	// is waited for.
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 32*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(pause)
	}
}

// Done waits until c is closed, and fails the test if it is not within Patience. It does not take
// values from c that others wait for: c must be a channel that is only ever closed.
func Done(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(Patience):
		t.Fatalf("not within %v: %s", Patience, what)
	}
}

// Context returns the context of the test, which ends after Patience as well: a call that blocks for
// ever fails its test, and not all tests of the package when the time of go test is over. In a bubble
// of testing/synctest the time is the bubble's.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}
