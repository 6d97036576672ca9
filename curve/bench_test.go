package curve

import (
	"context"
	"fmt"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// BenchmarkPushPull measures the traffic between two sockets over TCP, with CURVE and without.
func BenchmarkPushPull(b *testing.B) {
	serverKey, serverSecret := GenerateKeyPair()
	_, clientSecret := GenerateKeyPair()
	for name, m := range map[string][2]func(wire.Metadata) zmtp.Mechanism{
		"NULL": {},
		"CURVE": {newClient(b, serverKey, clientSecret).Mechanism,
			newServer(b, open, serverSecret).Mechanism},
	} {
		for _, size := range []int{100, 500, 65536} {
			b.Run(fmt.Sprintf("mechanism=%s/size=%d", name, size), func(b *testing.B) {
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				pull := zmtp.NewPull(zmtp.Config{Mechanism: m[1]})
				defer pull.Close()
				push := zmtp.NewPush(zmtp.Config{Mechanism: m[0]}, zmtp.PushOptions{})
				defer push.Close()
				bound, err := pull.Listen("tcp://127.0.0.1:*")
				if err != nil {
					b.Fatal(err)
				}
				if err := push.Connect(bound); err != nil {
					b.Fatal(err)
				}
				message := zmtp.NewMessage(make([]byte, size))
				send := func(n int) {
					for range n {
						if err := push.Send(ctx, message); err != nil {
							b.Error(err)
							return
						}
					}
				}
				send(1)
				if _, err := pull.Recv(ctx); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(size))
				b.ResetTimer()
				go send(b.N)
				for n := 0; n < b.N; {
					batch, err := pull.RecvBatch(ctx)
					if err != nil {
						b.Fatal(err)
					}
					n += batch.Len()
					batch.Release()
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

// BenchmarkHandshake measures the computation of server and client together for one connection.
func BenchmarkHandshake(b *testing.B) {
	for b.Loop() {
		newPair(b, open).finish(b)
	}
}
