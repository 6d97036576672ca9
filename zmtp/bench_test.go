package zmtp

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// BenchmarkPushPull is the throughput of one connection over loopback TCP.
func BenchmarkPushPull(b *testing.B) { benchSizes(b, "tcp://127.0.0.1:*") }

// BenchmarkInproc is the throughput of one connection within the process.
func BenchmarkInproc(b *testing.B) { benchSizes(b, "inproc://bench") }

func benchSizes(b *testing.B, endpoint string) {
	for _, size := range []int{10, 100, 64 << 10, 256 << 10, 1 << 20} {
		for _, batch := range []bool{false, true} {
			name := fmt.Sprintf("%d bytes/Recv", size)
			if batch {
				name = fmt.Sprintf("%d bytes/RecvBatch", size)
			}
			b.Run(name, func(b *testing.B) { benchPushPull(b, endpoint, size, batch) })
		}
	}
}

func benchPushPull(b *testing.B, endpoint string, size int, batch bool) {
	pull, push := NewPull(Config{}), NewPush(Config{}, PushOptions{})
	bound, err := pull.Listen(endpoint)
	if err != nil {
		b.Fatal(err)
	}
	if err := push.Connect(bound); err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	body := make([]byte, size)
	if err := push.Send(ctx, NewMessage(body)); err != nil {
		b.Fatal(err)
	}
	if _, err := pull.Recv(ctx); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			if push.Send(ctx, NewMessage(body)) != nil {
				return
			}
		}
	}()
	for got := 0; got < b.N; {
		if !batch {
			if _, err := pull.Recv(ctx); err != nil {
				b.Fatal(err)
			}
			got++
			continue
		}
		all, err := pull.RecvBatch(ctx)
		if err != nil {
			b.Fatal(err)
		}
		got += all.Len()
		all.Release()
	}
	b.StopTimer()
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := push.Shutdown(limit); err != nil {
		b.Error(err)
	}
	if err := pull.Shutdown(limit); err != nil {
		b.Error(err)
	}
}
