//go:build unix

package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

// TestPullKilled kills one of three PULLs of libzmq while messages wait for all: what had not gone
// out to it goes to the two others, once each, and in order for messages with a key.
func TestPullKilled(t *testing.T) {
	t.Parallel()
	for _, sticky := range []bool{false, true} {
		t.Run(fmt.Sprint("sticky=", sticky), func(t *testing.T) {
			t.Parallel()
			const n, sources, size = 150, 8, 2000
			cfg := zmtp.Config{SendHWM: n * sources, SendBuffer: 8192,
				ReconnectInterval: time.Second}
			opt := zmtp.PushOptions{Immediate: true}
			if sticky {
				opt.Key = func(m zmtp.Message) []byte { return m.Part(1) }
			}
			push := zmtp.NewPush(cfg, opt)
			t.Cleanup(func() { push.Close() })
			var pulls []*libzmqEnd
			var endpoints []string
			for range 3 {
				p := startPeer(t)
				pull := p.socket(t, "PULL", options{recvHWM: 10, recvBuf: 8192})
				pulls = append(pulls, pull)
				endpoints = append(endpoints, pull.listen("tcp://127.0.0.1:*"))
				if err := push.Connect(endpoints[len(endpoints)-1]); err != nil {
					t.Fatal(err)
				}
			}
			testkit.Eventually(t, "three peers", func() bool { return push.Stats().Peers == 3 })
			for i := range n {
				for source := range sources {
					if err := push.Send(testkit.Context(t),
						numbered("topic", fmt.Sprint(source), i, make([]byte, size))); err != nil {
						t.Fatal(err)
					}
				}
			}
			// Nobody receives. The victim is the one for which most waits.
			peers := push.Peers()
			victim := slices.MaxFunc(peers,
				func(a, b zmtp.PeerStats) int { return a.Queued - b.Queued })
			still := 0
			testkit.Eventually(t, "nothing more to go out", func() bool {
				for _, p := range push.Peers() {
					if p.ID == victim.ID {
						if still++; p.Written != victim.Written {
							still = 0
						}
						victim = p
					}
				}
				return victim.Queued > 0 && still == 100
			})
			dead := slices.Index(endpoints, victim.Endpoint)
			pulls[dead].peer.Kill()
			testkit.Eventually(t, "two peers", func() bool { return push.Stats().Peers == 2 })

			st := push.Stats()
			gone := victim.Out.Messages - uint64(victim.Queued) +
				st.Dropped[zmtp.DropConnectionLost]
			if st.Returned == 0 || st.Returned != victim.Out.Messages-gone {
				t.Errorf("%d messages came back of %d, of which %d had gone out", st.Returned,
					victim.Out.Messages, gone)
			}
			want := n*sources - int(gone)
			var alive []end
			for i, pull := range pulls {
				if i != dead {
					alive = append(alive, pull)
				}
			}
			got := gather(t, func() int { return want }, alive...)
			seen := map[string]bool{}
			for source, numbers := range got {
				for _, i := range numbers {
					seen[fmt.Sprint(source, " ", i)] = true
				}
			}
			if sticky { // each source is at one of them
				got.increasing(t)
			}
			if total := got.total(); total != want || len(seen) != want {
				t.Errorf("%d messages came, %d different ones, want %d: all but those that had "+
					"gone out to the dead one", total, len(seen), want)
			}
		})
	}
}
