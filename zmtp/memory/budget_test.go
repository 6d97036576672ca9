package memory

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const mib = 1 << 20

// While large holders wait, a small one goes on.
func TestSmallHolderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, done := New(100*mib, nil), make(chan struct{})
		defer close(done)
		for range 10 {
			h := b.NewHolder("large", 0, nil)
			go func() {
				for h.Reserve(mib, 0, done) {
				}
			}()
		}
		synctest.Wait()
		little := b.NewHolder("small", 0, nil)
		for range 1000 {
			if !little.TryReserve(64<<10) || !little.Reserve(256<<10, 0, nil) {
				t.Fatalf("refused: %+v", b.Stats())
			}
			little.Release(320 << 10)
		}
		if st := b.Stats(); st.Waiting != 10 || st.Used > st.Limit || st.Used < 80*mib {
			t.Errorf("%+v", st)
		}
	})
}

// If a reservation has waited too long, the largest holders are closed one after the other until it
// succeeds.
func TestLargestIsClosedWhenShortageLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(100*mib, nil)
		var closed []int
		hold := func(i int, n int64) *Holder {
			var h *Holder
			h = b.NewHolder("peer", 0, func(err error) {
				closed = append(closed, i)
				if e, ok := errors.AsType[*ExhaustedError](err); !ok || e.Held != n ||
					e.Limit != 100*mib {
					t.Error(err)
				}
				h.Release(n)
				h.Close()
			})
			h.Add(n)
			return h
		}
		hold(0, 20*mib)
		hold(1, 40*mib)
		hold(2, 30*mib)
		small := hold(3, 5*mib)
		began := time.Now()
		if !small.Reserve(30*mib, 0, nil) {
			t.Fatal("the reservation is not granted")
		}
		if took := time.Since(began); took < patience || took > patience+4*between {
			t.Errorf("the reservation is granted after %v", took)
		}
		if !slices.Equal(closed, []int{1, 2}) || b.Stats().Evicted != 2 {
			t.Errorf("the holders %v were closed", closed)
		}
	})
}

// Many small holders that all wait for more do not wait for each other for ever: some are closed,
// and the others go on.
func TestSmallHoldersDoNotWaitForEver(t *testing.T) {
	for _, n := range []int{4, 40} {
		synctest.Test(t, func(t *testing.T) {
			const each = 200 << 10
			b := New(int64(n)*each*21/20, nil)
			var granted, closed atomic.Int32
			var all sync.WaitGroup
			begin := make(chan struct{}) // all holders have their memory
			for range n {
				done := make(chan struct{})
				h := b.NewHolder("peer", 1<<10, func(error) { close(done) })
				h.Add(each)
				all.Go(func() {
					<-begin
					held := int64(each)
					if h.Reserve(each, each, done) {
						granted.Add(1)
						held += each
						time.Sleep(time.Second)
					} else {
						closed.Add(1)
					}
					h.Release(held)
					h.Close()
				})
			}
			close(begin)
			all.Wait()
			if granted.Load() == 0 || closed.Load() == 0 || b.Stats().Used != 0 {
				t.Errorf("%d of %d granted, %d closed: %+v", granted.Load(), n, closed.Load(),
					b.Stats())
			}
		})
	}
}

// Memory that Add reserves beyond the limit causes a shortage like any other.
func TestLargestIsClosedWhenLimitIsExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(100*mib, nil)
		var closed atomic.Int32
		var h *Holder
		h = b.NewHolder("peer", 0, func(error) { closed.Add(1); h.Release(70 * mib) })
		h.Add(70 * mib)
		b.NewHolder("peer", 0, func(error) { t.Error("the smaller one is closed") }).Add(40 * mib)
		time.Sleep(patience - time.Second)
		if closed.Load() > 0 {
			t.Error("the holder is closed too early")
		}
		time.Sleep(time.Minute)
		if st := b.Stats(); closed.Load() != 1 || st.Used != 40*mib {
			t.Errorf("the holder is closed %d times: %+v", closed.Load(), st)
		}
	})
}

// If most of the memory belongs to holders that cannot be closed, a sink is too slow: peers wait
// and none is closed.
func TestNobodyIsClosedForASink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, done := New(100*mib, nil), make(chan struct{})
		b.NewHolder("sink", 0, nil).Add(80 * mib)
		peer := b.NewHolder("peer", 0, func(error) { t.Error("closed") })
		peer.Add(15 * mib)
		waited := false
		go func() { waited = !peer.Reserve(20*mib, 0, done) }()
		time.Sleep(time.Hour)
		close(done)
		synctest.Wait()
		if !waited {
			t.Error("granted")
		}
	})
}

// A reservation that waits is granted as soon as a new limit allows it.
func TestHigherLimitGrantsWaitingReservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(mib, nil)
		h := b.NewHolder("peer", 0, nil)
		granted := false
		go func() { granted = h.Reserve(10*mib, 0, nil) }()
		synctest.Wait()
		if granted {
			t.Error("the reservation is granted beyond the limit")
		}
		b.SetLimit(100 * mib)
		synctest.Wait()
		if !granted {
			t.Error("the reservation is not granted")
		}
	})
}

// Reservations from several goroutines add up, and no wake-up is lost.
func TestConcurrentUse(t *testing.T) {
	b := New(20*mib, nil)
	var all sync.WaitGroup
	for range 8 {
		h := b.NewHolder("peer", 32<<10, nil)
		for g := range 2 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(g)))
				for range 3000 {
					n := random.Int64N(mib) + 1
					switch {
					case random.IntN(2) == 0:
						h.Reserve(n, 0, nil)
					case !h.TryReserve(n):
						continue
					}
					h.Release(n)
				}
			})
		}
		defer h.Close()
	}
	all.Wait()
	if st := b.Stats(); st.Used != 8*32<<10 || st.Peak > st.Limit || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

// A nil Budget allows everything.
func TestNilBudget(t *testing.T) {
	var b *Budget
	b.SetLimit(1)
	h := b.NewHolder("peer", 1, nil)
	h.Add(mib)
	if !h.Reserve(mib, 0, nil) || !h.TryReserve(mib) || !h.TryPin(mib) || h.Held() != 0 ||
		b.Stats().Limit != 0 {
		t.Error("a nil Budget counts reservations")
	}
	h.Unpin(mib)
	h.Release(3 * mib)
	h.Close()
}

func BenchmarkReserve(b *testing.B) {
	budget := New(1<<40, nil)
	b.RunParallel(func(pb *testing.PB) {
		h := budget.NewHolder("peer", 32<<10, nil)
		defer h.Close()
		for pb.Next() {
			h.TryReserve(64 << 10)
			h.Release(64 << 10)
		}
	})
}

// A holder that needs more than it can ever get is closed itself, although others hold more.
func TestImpossibleReservationIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, done := New(100*mib, nil), make(chan struct{})
		b.NewHolder("peer", 0, func(error) { t.Error("the largest one is closed") }).Add(60 * mib)
		h := b.NewHolder("peer", 0, func(error) { close(done) })
		h.Add(10 * mib)
		if h.Reserve(90*mib, 0, done) {
			t.Error("granted")
		}
	})
}
