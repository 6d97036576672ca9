package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"zmtpd/pipeline/spool"
	"zmtpd/zmtp/memory"
)

// Batches read from the spool count in the memory budget. If others have used it up, the outlet
// goes on with one batch at a time, in order. At the end all memory is returned.
func TestOutletMemory(t *testing.T) {
	const batches, size = 40, 10_000
	for _, taken := range []bool{false, true} {
		t.Run(fmt.Sprint("taken=", taken), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := memory.New(8<<20, nil)
				other := budget.NewHolder("other", 0, nil)
				sink := &handSink{}
				o, err := NewOutlet(sink, OutletConfig{Name: "s", MaxBytes: batches * size / 2,
					SpoolFirst: true, Memory: budget, Spool: &spool.Config{Dir: t.TempDir()}})
				if err != nil {
					t.Fatal(err)
				}
				if taken {
					other.Add(8 << 20)
				}
				for i := range batches {
					offer(t, o, "node", "p", i, size)
				}
				var got, want []string
				for i := range batches {
					synctest.Wait()
					held := budget.Stats().ByKind["sinks"]
					switch n := sink.holds(); {
					case n == 0:
						t.Fatalf("no batch comes after %d batches", i)
					case held < int64(n)*size || held > int64(n)*(size+1000):
						t.Fatalf("%d bytes count in the budget, the sink has %d batches", held, n)
					case taken && n != 1:
						t.Fatalf("%d batches are in memory, want 1", n)
					case !taken && i == 0 && n < batches/3:
						t.Fatalf("%d batches are in memory, want half", n)
					}
					got = append(got, sink.deliver(0))
					want = append(want, fmt.Sprintf("p %06d", i))
				}
				if !slices.Equal(got, want) {
					t.Errorf("got %q", got)
				}
				if err := o.Close(t.Context()); err != nil {
					t.Error(err)
				}
				other.Release(other.Held())
				other.Close()
				if st := budget.Stats(); st.Used != 0 || st.Holders != 0 {
					t.Errorf("at the end %d bytes are used by %d holders", st.Used, st.Holders)
				}
			})
		})
	}
}

// takingSink needs no memory of the entries that it holds.
type takingSink struct{ handSink }

func (s *takingSink) Send(ctx context.Context, e *Entry) {
	s.handSink.Send(ctx, e)
	e.Taken()
}

// Copies of small batches that may have to go to the spool count in the budget until the end.
func TestOutletMemoryOfCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := memory.New(64<<20, nil)
		o, err := NewOutlet(&takingSink{}, OutletConfig{Name: "s", Memory: budget,
			Spool: &spool.Config{Dir: t.TempDir()}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			offer(t, o, "node", "p", i, 100)
		}
		synctest.Wait()
		if got := budget.Stats().ByKind["sinks"]; got != 4*keptSize {
			t.Errorf("%d bytes count in the budget, want those of an arena", got)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_ = o.Close(ended)
		if st := budget.Stats(); st.Used != 0 {
			t.Errorf("at the end %d bytes are used", st.Used)
		}
	})
}

// A record that makes room in the spool is in memory only while it is counted. So is a window that
// goes to the spool. The memory of batches that were given up is returned.
func TestOutletMemoryDropsOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := memory.New(64<<20, nil)
		o, err := NewOutlet(&handSink{}, OutletConfig{Name: "s", MaxBytes: 1 << 20,
			DropOldest: true, Memory: budget,
			Spool: &spool.Config{Dir: t.TempDir(), MaxBytes: 4 << 20, SegmentBytes: 1 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 12 {
			offer(t, o, "node", "p", i, 600_000)
		}
		synctest.Wait()
		if st := o.Stats(); st.Dropped[ReasonSpoolFull].Messages == 0 {
			t.Errorf("nothing was dropped: %+v", st)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_ = o.Close(ended)
		if st := budget.Stats(); st.Used != 0 || st.Peak > 3<<20 {
			t.Errorf("at the end %d bytes are used, the peak is %d", st.Used, st.Peak)
		}
	})
}
