package zmtp

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A batch has the messages that were added, whatever their sizes. It does not change when its
// builder is used again.
func TestBatchBuilder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b BatchBuilder
		var want []Message
		add := func() {
			want = nil
			for range rapid.IntRange(1, 10).Draw(t, "messages") {
				var parts [][]byte
				for range rapid.IntRange(1, 4).Draw(t, "parts") {
					size := rapid.SampledFrom([]int{0, 1, 255, 256, 5000, 70_000, 150_000}).
						Draw(t, "size")
					parts = append(parts, bytes.Repeat([]byte{byte(len(want))}, size))
				}
				m := NewMessage(parts...)
				want = append(want, m)
				if rapid.Bool().Draw(t, "as a message") {
					b.AddMessage(m)
				} else {
					b.Add(parts...)
				}
			}
		}
		check := func(batch *Batch, want []Message) {
			if batch.Len() != len(want) {
				t.Fatalf("%d messages, want %d", batch.Len(), len(want))
			}
			for i, m := range want {
				if !bytes.Equal(batch.Message(i).Wire(), m.Wire()) {
					t.Fatalf("message %d differs", i)
				}
				parts, size := m.counts()
				if p, s := batch.Counts(i, i+1); p != parts || s != size {
					t.Fatalf("message %d counts %d parts and %d bytes, want %d and %d", i, p, s,
						parts, size)
				}
			}
		}
		add()
		first, wantFirst := b.Batch(), want
		if b.Len() != 0 || b.Size() != 0 || b.Batch().Len() != 0 {
			t.Fatal("the builder is not empty")
		}
		add()
		second := b.Batch()
		check(first, wantFirst)
		check(second, want)
		first.Release()
		check(second, want)
		second.Release()
	})
}

func TestBatchBuilderIgnoresNothing(t *testing.T) {
	var b BatchBuilder
	b.Add()
	b.AddMessage(Message{})
	if b.Len() != 0 {
		t.Error("a message without parts was added")
	}
	push := NewPush(Config{}, PushOptions{})
	defer closeNow(t, push)
	empty := b.Batch()
	defer empty.Release()
	if n, err := push.SendBatch(t.Context(), empty); n != 0 || err != nil {
		t.Errorf("a batch without messages: %d, %v", n, err)
	}
}

// A batch that is released right after SendBatch arrives whole, copied or not.
func TestBuiltBatchesArrive(t *testing.T) {
	ctx := t.Context()
	pull, push := NewPull(Config{}), NewPush(Config{}, PushOptions{})
	defer closeNow(t, pull)
	defer closeNow(t, push)
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Connect(bound); err != nil {
		t.Fatal(err)
	}
	sizes := []int{10, 3000, 20_000, 200_000}
	const batches, each = 16, 20
	sent := make(chan error, 1)
	go func() {
		var b BatchBuilder
		for i := range batches {
			for j := range each {
				b.Add([]byte(fmt.Sprint(i)),
					bytes.Repeat([]byte{byte(i), byte(j)}, sizes[i%len(sizes)]))
			}
			batch := b.Batch()
			_, err := push.SendBatch(ctx, batch)
			batch.Release()
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for i := range batches {
		for j := range each {
			m, err := pull.Recv(ctx)
			if err != nil {
				t.Fatal(err)
			}
			want := []byte(fmt.Sprint(i))
			if !bytes.Equal(m.Part(0), want) ||
				!bytes.Equal(m.Part(1),
					bytes.Repeat([]byte{byte(i), byte(j)}, sizes[i%len(sizes)])) {
				t.Fatalf("message %d of batch %d differs", j, i)
			}
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func ExamplePush_SendBatch() {
	ctx := context.Background()
	pull, push := NewPull(Config{}), NewPush(Config{}, PushOptions{})
	defer pull.Close()
	defer push.Close()
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := push.Connect(bound); err != nil {
		fmt.Println(err)
		return
	}
	var b BatchBuilder
	for _, host := range []string{"192.0.2.1", "192.0.2.2"} {
		b.Add([]byte("seen"), []byte(host))
	}
	batch := b.Batch()
	n, err := push.SendBatch(ctx, batch)
	batch.Release()
	fmt.Println(n, err)
	for range n {
		m, err := pull.Recv(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s\n", slices.Collect(m.Parts()))
	}
	// Output:
	// 2 <nil>
	// [seen 192.0.2.1]
	// [seen 192.0.2.2]
}
