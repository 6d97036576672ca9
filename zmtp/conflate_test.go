package zmtp

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/zmtptest"
)

// With Conflate a PULL keeps the last of 20 messages, and goes on with the next (libzmq,
// test_conflate). The messages that it drops are counted.
func TestConflateReceived(t *testing.T) {
	for _, total := range []int64{0, 1 << 20} {
		bubble(t, func(t *testing.T, n *zmtptest.Network) {
			pull := NewPull(Config{Conflate: true, TotalRecvBytes: total})
			defer closeNow(t, pull)
			bind(t, n, pull.Socket, addr)
			r := rawPeer(t, n, PUSH, PULL, "")
			for i := range 20 {
				sendParts(r, fmt.Sprint(i), strings.Repeat("x", 1000*i))
				if i%3 == 0 {
					alive(r)
				}
			}
			alive(r)
			if got := received(t, pull); len(got) != 1 || !strings.HasPrefix(got[0], "19,") {
				t.Errorf("received %.20q", got)
			}
			sendParts(r, "next")
			mustRecv(t, pull, "next")
			if st := pull.Stats(); st.Dropped != (Drops{DropReplaced: 19}) || st.RecvQueued != 0 ||
				st.RecvQueuedBytes != 0 || st.RecvPinnedBytes != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// With Conflate a PUSH keeps the last message for an endpoint, alone and in batches, large and
// small, and never waits.
func TestConflateSent(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		push := NewPush(inMemory(n, Config{Conflate: true, SendHWM: 1}), PushOptions{})
		defer closeNow(t, push)
		if err := push.Connect("tcp://a:1"); err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("x", 2*referSize)
		for i := range 20 {
			mustSend(t, push, fmt.Sprint(i), long)
		}
		l := listenRaw(t, n, "a:1")
		r := puller(t, l)
		expectParts(r, "19", long)
		synctest.Wait()
		r.Conn.Close()
		synctest.Wait()
		var b BatchBuilder
		for i := range 10 {
			b.Add(fmt.Append(nil, i))
		}
		batch := b.Batch()
		if k, err := push.TrySendBatch(batch); k != 10 || err != nil {
			t.Error(k, err)
		}
		batch.Release()
		r = puller(t, l)
		expectParts(r, "9")
		alive(r)
		if st := push.Stats(); st.Dropped != (Drops{DropReplaced: 28}) || st.Out.Messages != 21 {
			t.Errorf("dropped %v, sent %+v", st.Dropped, st.Out)
		}
	})
}
