package zmtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// batchOfAll returns a batch of messages as a read leaves them.
func batchOfAll(messages ...string) *Batch {
	b := new(Batch)
	var buf []byte
	for _, s := range messages {
		m := NewMessageString(s)
		parts, size := m.counts()
		b.spans = append(b.spans, span{len(buf), len(buf) + len(m.wire), parts, size})
		buf = append(buf, m.wire...)
	}
	b.slab = &slab{buf: buf}
	b.slab.refs.Store(1)
	return b
}

// TestInboxAgainstModel compares an inbox with one queue per peer, from which messages are taken
// round robin.
func TestInboxAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const hwm = 1000
		in := newInbox(hwm, 0, 0)
		pipes := make([]*inPipe, 4)
		queues := make([][][]string, len(pipes)) // batches of each pipe
		var turn []int
		for i := range pipes {
			pipes[i] = new(inPipe)
		}
		n := 0
		put := func(t *rapid.T, how func(p *inPipe, b *Batch)) {
			i := rapid.IntRange(0, len(pipes)-1).Draw(t, "peer")
			var all []string
			for range rapid.IntRange(1, 5).Draw(t, "messages") {
				all = append(all, fmt.Sprintf("%d:%d", i, n))
				n++
			}
			if pipes[i].msgs+len(all) >= hwm {
				return
			}
			b := batchOfAll(all...)
			how(pipes[i], b)
			if len(queues[i]) == 0 {
				turn = append(turn, i)
			}
			queues[i] = append(queues[i], all)
		}
		next := func(want []string) {
			i := turn[0]
			turn = turn[1:]
			if queues[i][0] = queues[i][0][len(want):]; len(queues[i][0]) == 0 {
				queues[i] = queues[i][1:]
			}
			if len(queues[i]) > 0 {
				turn = append(turn, i)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				put(t, func(p *inPipe, b *Batch) {
					sparse := rapid.Bool().Draw(t, "sparse")
					if sparse {
						b.slab.buf = append(b.slab.buf, make([]byte, 4*len(b.slab.buf))...)
					}
					if dropped := in.put(p, b); dropped != 0 {
						t.Fatalf("dropped %d", dropped)
					}
					if shared := b.slab.refs.Load() > 1; shared == sparse {
						t.Fatalf("a batch that uses little of its memory: %v, shares it: %v",
							sparse, shared)
					}
					if sparse {
						clear(b.slab.buf) // the read loop goes on with it
					}
				})
			},
			"force": func(t *rapid.T) { put(t, in.force) },
			"recv": func(t *rapid.T) {
				m, err := in.tryRecv()
				if len(turn) == 0 {
					if err != ErrWouldBlock {
						t.Fatalf("%q, %v from an empty inbox", text(m), err)
					}
					return
				}
				want := queues[turn[0]][0][:1]
				if err != nil || text(m) != want[0] {
					t.Fatalf("%q, %v, want %q", text(m), err, want)
				}
				next(want)
			},
			"recv batch": func(t *rapid.T) {
				b, err := in.tryRecvBatch()
				if len(turn) == 0 {
					if err != ErrWouldBlock {
						t.Fatalf("%v from an empty inbox", err)
					}
					return
				}
				want := queues[turn[0]][0]
				var got []string
				for m := range b.Messages() {
					got = append(got, text(m))
				}
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("%q, %v, want %q", got, err, want)
				}
				b.Release()
				next(want)
			},
			"": func(t *rapid.T) {
				count := 0
				for _, q := range queues {
					for _, b := range q {
						count += len(b)
					}
				}
				msgs, size, _ := in.level()
				if msgs != count || (size == 0) != (count == 0) {
					t.Fatalf("%d messages of %d bytes wait, want %d", msgs, size, count)
				}
			},
		})
		want := in.queue.msgs
		if dropped := in.discard(); dropped != want {
			t.Fatalf("dropped %d, want %d", dropped, want)
		}
		if msgs, size, _ := in.level(); msgs != 0 || size != 0 {
			t.Fatalf("%d messages of %d bytes are left", msgs, size)
		}
	})
}

// A peer that is not being read is read again when its queue has shrunk to half of the limit, not
// earlier.
func TestInboxRestartsAtHalf(t *testing.T) {
	for name, in := range map[string]*inbox{
		"messages": newInbox(10, 0, 0),
		"bytes":    newInbox(0, 10*int64(len(frame("m"))), 0),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := newInbox(in.hwm, in.maxBytes, 0)
				p := new(inPipe)
				done := false
				go func() {
					in.put(p, batchOfAll(slices.Repeat([]string{"m"}, 11)...))
					done = true
				}()
				for i := range 5 {
					synctest.Wait()
					if p.msgs != 10-i || done {
						t.Fatalf("%d messages wait after %d were received, done: %v", p.msgs, i,
							done)
					}
					in.tryRecv()
				}
				synctest.Wait()
				if p.msgs != 6 || !done {
					t.Fatalf("%d messages wait when half was received, done: %v", p.msgs, done)
				}
			})
		})
	}
}

// No message is lost when a context ends.
func TestRecvCancelledSwallowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox(0, 0, 0)
		p := new(inPipe)
		const n = 2000
		got := make(chan string, n)
		ctx, stop := context.WithCancel(t.Context())
		for range 4 {
			go func() {
				for ctx.Err() == nil {
					once, cancel := context.WithCancel(ctx)
					go cancel()
					m, err := in.recv(once)
					if err == nil {
						got <- text(m)
					} else if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				}
			}()
		}
		go func() {
			for i := range n {
				in.put(p, batchOfAll(fmt.Sprint(i)))
			}
		}()
		seen := map[string]bool{}
		for range n {
			seen[<-got] = true
		}
		stop()
		if len(seen) != n {
			t.Errorf("%d different messages, want %d", len(seen), n)
		}
	})
}

// One signal stands for all messages that have arrived: the receiver that takes it wakes the next
// one.
func TestEveryReceiverIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox(0, 0, 0)
		got := make(chan string, 5)
		for range 5 {
			go func() {
				m, err := in.recv(t.Context())
				if err != nil {
					t.Error(err)
				}
				got <- text(m)
			}()
		}
		synctest.Wait()
		in.put(new(inPipe), batchOfAll("1", "2", "3"))
		synctest.Wait()
		if len(got) != 3 {
			t.Errorf("%d of 3 messages were received by 5 who wait", len(got))
		}
		in.put(new(inPipe), batchOfAll("4", "5"))
		for range 5 {
			<-got
		}
		for range 5 {
			go func() {
				if _, err := in.recv(context.Background()); err != ErrClosed {
					t.Error(err)
				}
				got <- ""
			}()
		}
		synctest.Wait()
		in.finished()
		for range 5 {
			<-got
		}
	})
}

func TestRecvReturnsTheCause(t *testing.T) {
	in := newInbox(0, 0, 0)
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := in.recv(ctx); err != cause {
		t.Errorf("error %v", err)
	}
	in.put(new(inPipe), batchOfAll("there"))
	if m, err := in.recv(ctx); err != nil || text(m) != "there" {
		t.Errorf("%q, %v: what is there is received whatever the context", text(m), err)
	}
}

// Small messages share blocks of memory, but cannot see or change each other.
func TestSmallMessagesShareBlocks(t *testing.T) {
	in := newInbox(0, 0, 0)
	var want, got [][]byte
	for i := range 1000 {
		w := bytes.Repeat([]byte{byte(i)}, 1+i%(smallSize+20))
		want, got = append(want, w), append(got, in.copy(nil, w))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("message %d of %d bytes has changed", i, len(want[i]))
		}
		_ = append(got[i], 0xff) // must not write into the block
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("message %d was overwritten by append to its neighbour", i)
		}
	}
	if n := testing.AllocsPerRun(1000, func() { in.copy(nil, want[9]) }); n != 0 {
		t.Errorf("%v allocations for a small message", n)
	}
}
