package kafka

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/testkit"
)

// Records on their way count in the memory budget, and all memory is returned at the end. They are
// also delivered if the budget has no memory.
func TestMemory(t *testing.T) {
	for _, limit := range []int64{256 << 20, 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			c := newCluster(t, kfake.SeedTopics(1, "zeek"))
			answer := make(chan struct{})
			c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				c.SleepControl(func() { <-answer })
				return nil, nil, false
			})
			budget := memory.New(limit, nil)
			s := newTestSink(t, Config{Brokers: c.ListenAddrs(), Memory: budget,
				options: []kgo.Opt{kgo.RequestTimeoutOverhead(patience)}})
			r := newResults(t)
			const small, large = 30, 20_000
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for i := range 20 {
					s.Send(testkit.Context(t), r.entry("node", batch(t, "p", numbers(i*small,
						small)...)))
				}
				s.Send(testkit.Context(t), r.entry("node", batch(t, "p", numbers(20*small,
					large)...)))
			}()
			testkit.Eventually(t, "the text of the large batch", func() bool {
				return s.rendering.Used() > 0 && s.quota.Used() > 1<<20
			})
			want := s.cfg.clientBytes() + s.rendering.Used() + s.quota.Used()
			if got := budget.Stats().ByKind["kafka"]; got != want {
				t.Errorf("%d bytes count in the budget, want %d", got, want)
			}
			close(answer)
			testkit.Done(t, "delivery", sent)
			shut(t, s)
			if errs := r.failed(); len(errs) > 0 {
				t.Error(errs)
			}
			consume(t, c, 20*small+large, []string{"zeek"})
			if st := budget.Stats(); st.Used != 0 || st.Holders != 0 {
				t.Errorf("at the end %d bytes are used by %d holders", st.Used, st.Holders)
			}
		})
	}
}

// Without a broker, any number of records stay within their quotas, and Close returns the memory.
func TestMemoryGivenUp(t *testing.T) {
	budget := memory.New(256<<20, nil)
	s := newTestSink(t, Config{Brokers: []string{"127.0.0.1:1"}, Memory: budget,
		MaxBuffered: 1 << 20})
	r := newResults(t)
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 40 {
		go s.Send(ctx, r.entry(fmt.Sprint("node", i), batch(t, "p", numbers(0, 500)...)))
	}
	testkit.Eventually(t, "full quotas", func() bool {
		return s.rendering.Used() >= maxRendering*s.room() && s.quota.Used() > 0
	})
	if n, most := budget.Stats().Peak, s.cfg.clientBytes()+maxRendering*s.room()+4<<20; n > most {
		t.Errorf("%d bytes were used, want at most %d", n, most)
	}
	cancel()
	ended, end := context.WithTimeout(t.Context(), time.Millisecond)
	defer end()
	testkit.Eventually(t, "Send returns", func() bool { return s.rendering.Used() == 0 })
	_ = s.Close(ended)
	if st := budget.Stats(); st.Used != 0 {
		t.Errorf("at the end %d bytes are used", st.Used)
	}
}
