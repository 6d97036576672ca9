package memory

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

const (
	modelLimit = 64 << 20
	modelSmall = modelLimit / 256
	modelUnit  = modelLimit / 1000
)

// modelHolder is a holder of the model.
type modelHolder struct {
	*Holder
	floor, pinned int64
	reserved      atomic.Int64
	asked         atomic.Int64 // bytes of the Reserve that waits, or 0
	stop          chan struct{}
	evictions     int
}

type model struct {
	b       *Budget
	holders []*modelHolder
}

// For any actions of the holders: the used memory is the sum of what they hold, floors included.
// Only Add, floors and memory within a floor exceed the limit. No holder waits that may go on. At
// the end no memory is in use.
func TestAgainstModel(t *testing.T) {
	type step struct{ what, which, n int }
	steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{rapid.IntRange(0, 8).Draw(t, "what"), rapid.IntRange(0, 9).Draw(t, "which"),
			rapid.IntRange(1, 400).Draw(t, "n")}
	}), 1, 80)
	rapid.Check(t, func(rt *rapid.T) {
		all, n := steps.Draw(rt, "steps"), rapid.IntRange(1, 5).Draw(rt, "holders")
		floors := rapid.SliceOfN(rapid.Int64Range(0, 50), n, n).Draw(rt, "floors")
		var err error
		synctest.Test(t, func(t *testing.T) {
			m := &model{b: New(modelLimit, nil)}
			for _, floor := range floors {
				h := &modelHolder{floor: floor * modelUnit}
				h.Holder = m.b.NewHolder("test", h.floor, func(error) { h.evictions++ })
				m.holders = append(m.holders, h)
			}
			for i, s := range all {
				if err = m.step(s.what, m.holders[s.which%n], int64(s.n)*modelUnit); err == nil {
					synctest.Wait()
					err = m.check()
				}
				if err != nil {
					err = fmt.Errorf("step %d, %v: %w", i, s, err)
					break
				}
			}
			if end := m.end(); err == nil {
				err = end
			}
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func (m *model) step(what int, h *modelHolder, n int64) error {
	free := modelLimit - m.used()
	switch what {
	case 0, 1, 2: // Reserve
		if h.asked.Load() != 0 {
			return nil
		}
		h.stop = make(chan struct{})
		h.asked.Store(n)
		go func(stop chan struct{}) {
			if h.Reserve(n, 0, stop) {
				h.reserved.Add(n)
			}
			h.asked.Store(0)
		}(h.stop)
	case 3: // TryReserve
		delta := max(h.reserved.Load()+n-h.floor, 0) - max(h.reserved.Load()-h.floor, 0)
		left := free - delta
		want := delta == 0 || h.reserved.Load()+h.pinned+n <= max(left-modelLimit/4, modelSmall) &&
			left >= 0
		if got := h.TryReserve(n); got != want {
			return fmt.Errorf("TryReserve gives %v with %d held and %d free", got,
				h.reserved.Load(), free)
		} else if got {
			h.reserved.Add(n)
		}
	case 4: // Add
		h.Add(n)
		h.reserved.Add(n)
	case 5, 6: // Release
		n = min(n, h.reserved.Load())
		h.reserved.Add(-n)
		h.Release(n)
	case 7: // TryPin, Unpin
		if h.pinned > 0 {
			h.Unpin(h.pinned)
			h.pinned = 0
			return nil
		}
		want := h.reserved.Load()+n <= max(h.floor, free-modelLimit/4) ||
			h.reserved.Load()+n <= modelSmall && free >= 0
		if got := h.TryPin(n); got != want {
			return fmt.Errorf("TryPin gives %v with %d held and %d free", got, h.reserved.Load(),
				free)
		} else if got {
			h.pinned = n
		}
	case 8: // the wait is cancelled
		if h.asked.Load() > 0 {
			close(h.stop)
		}
	}
	return nil
}

// used returns the memory that the budget should report as used.
func (m *model) used() (n int64) {
	for _, h := range m.holders {
		n += max(h.reserved.Load(), h.floor)
	}
	return n
}

func (m *model) check() error {
	st, used := m.b.Stats(), m.used()
	if st.Used != used || st.ByKind["test"] != used || st.Peak < used {
		return fmt.Errorf("%d bytes are held: %+v", used, st)
	}
	waiting := 0
	for i, h := range m.holders {
		if h.Held() != h.reserved.Load()+h.pinned {
			return fmt.Errorf("holder %d has %d and %d, it says %d", i, h.reserved.Load(), h.pinned,
				h.Held())
		}
		if h.asked.Load() == 0 {
			continue
		}
		waiting++
		delta := max(h.reserved.Load()+h.asked.Load()-h.floor, 0) - max(h.reserved.Load()-h.floor,
			0)
		free := modelLimit - used - delta
		// A release within a floor, which frees nothing, does not check the queue. The next tick
		// does.
		if free >= 0 && h.reserved.Load()+h.pinned+h.asked.Load() <= max(2*(free-modelLimit/8),
			modelSmall) {
			time.Sleep(between)
			synctest.Wait()
			if h.asked.Load() > 0 {
				return fmt.Errorf("holder %d waits for %d, has %d, %d are free", i, h.asked.Load(),
					h.reserved.Load(), free)
			}
			return m.check()
		}
	}
	if m.b.Stats().Waiting != waiting {
		return fmt.Errorf("%d wait: %+v", waiting, m.b.Stats())
	}
	return nil
}

// end releases everything.
func (m *model) end() error {
	for _, h := range m.holders {
		if h.asked.Load() > 0 {
			close(h.stop)
		}
		synctest.Wait()
	}
	for _, h := range m.holders {
		// the last releases may come after the holder is closed
		h.Release(h.reserved.Load() / 2)
		h.Close()
		h.Close()
		h.Release(h.reserved.Load() - h.reserved.Load()/2)
		h.Unpin(h.pinned)
	}
	time.Sleep(between)
	synctest.Wait()
	if st := m.b.Stats(); st.Used != 0 || st.Holders != 0 || st.Waiting != 0 || m.b.pressed.Load() {
		return fmt.Errorf("in the end: %+v", st)
	}
	return nil
}
