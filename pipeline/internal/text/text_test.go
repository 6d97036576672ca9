package text

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"zmtpd/zmtp/memory"
)

func TestFit(t *testing.T) {
	large := make([]byte, 10, PieceBytes)
	copy(large, "0123456789")
	if b := Fit(&large); cap(*b) > 100 || string(*b) != "0123456789" {
		t.Errorf("capacity %d, %q", cap(*b), *b)
	}
	full := bytes.Repeat([]byte("x"), 5000)
	if b := Fit(&full); b != &full {
		t.Error("a full buffer is copied")
	}
}

func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQuota(nil, "", 10, 0)
		must := func(n int64) {
			if !q.Acquire(t.Context(), t.Context(), n) {
				t.Error("the share is not granted")
			}
		}
		must(100) // a single share may have any size
		order := make(chan int, 3)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if q.Acquire(t.Context(), ctx, 10) || ctx.Err() == nil {
				t.Error("Acquire succeeds although its context has ended")
			}
			order <- 0
		}()
		synctest.Wait()
		for i := 1; i < 3; i++ {
			go func() { must(5); order <- i }()
			synctest.Wait()
		}
		if q.TryAcquire(1) {
			t.Error("TryAcquire overtakes waiting users")
		}
		cancel() // a user that gives up makes room for the next ones
		synctest.Wait()
		if got := <-order; got != 0 || len(order) != 0 {
			t.Error(got, len(order))
		}
		q.Release(100)
		synctest.Wait()
		if q.Used() != 10 || len(order) != 2 {
			t.Errorf("%d bytes in use, %d users have got a share", q.Used(), len(order))
		}
		q.Release(5)
		q.Release(5)
		if q.Used() != 0 {
			t.Errorf("%d bytes in use", q.Used())
		}
	})
}

// If the budget has no room, the least part of a quota is granted, and no more.
func TestQuotaWithoutMemory(t *testing.T) {
	budget := memory.New(1<<20, nil)
	other := budget.NewHolder("other", 0, nil)
	other.Add(1 << 20)
	q := NewQuota(budget, "test", 1<<20, 200_000)
	defer q.Close()
	first, second := q.TryAcquire(100_000), q.TryAcquire(100_000)
	if !first || !second || q.TryAcquire(1) {
		t.Errorf("%d bytes are granted, want 200,000", q.Used())
	}
	if got := budget.Stats().ByKind["test"]; got != 200_000 {
		t.Errorf("%d bytes count in the budget, want 0", got)
	}
	other.Release(1 << 20)
	if !q.TryAcquire(1) {
		t.Error("nothing is granted although the budget has room again")
	}
	q.Release(200_001)
	if got := budget.Stats().Used; got != 0 {
		t.Errorf("%d bytes are not given back", got)
	}
}

// Even if other holders use the budget, every user gets its share at some time, the quota is never
// exceeded, and all memory is returned.
func TestQuotaNeverHangs(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			budget := memory.New(1<<20, nil)
			other := budget.NewHolder("other", 0, nil)
			q := NewQuota(budget, "test", rapid.Int64Range(1, 1<<20).Draw(r, "size"),
				rapid.Int64Range(0, 1<<20).Draw(r, "least"))
			users, held := 0, []int64{}
			got := make(chan int64, 1000)
			for range rapid.IntRange(1, 60).Draw(r, "steps") {
				switch n := rapid.Int64Range(1, 1<<20).Draw(r, "n"); rapid.IntRange(0, 3).Draw(r,
					"do") {
				case 0:
					users++
					go func() {
						if q.Acquire(t.Context(), t.Context(), n) {
							got <- n
						}
					}()
				case 1:
					other.Add(n)
				case 2:
					other.Release(other.Held())
				case 3:
					if len(held) > 0 {
						q.Release(held[0])
						held, users = held[1:], users-1
					}
				}
				synctest.Wait()
				for len(got) > 0 {
					held = append(held, <-got)
				}
				if users > 0 && len(held) == 0 {
					r.Fatal("users wait although no share is in use")
				}
				if used := q.Used(); used > q.size && len(held) > 1 {
					r.Fatalf("%d of %d bytes are in use, by %d users", used, q.size, len(held))
				}
			}
			for ; users > 0; users-- {
				q.Release(held[0])
				synctest.Wait()
				for held = held[1:]; len(got) > 0; {
					held = append(held, <-got)
				}
			}
			other.Release(other.Held())
			q.Close()
			if used := budget.Stats().Used; used != 0 {
				r.Fatalf("%d bytes are not given back", used)
			}
		})
	})
}
