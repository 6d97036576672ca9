package zmtp

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// When RecvHWM messages or RecvBytes of a peer wait, the socket stops reading from it. Nothing is
// dropped. A message of many parts counts as one.
func TestReceiveLimits(t *testing.T) {
	one := NewMessageString("part", "part", "part").Wire()
	for name, c := range map[string]struct {
		cfg  Config
		want int
	}{
		"messages":    {Config{RecvHWM: 10}, 10},
		"bytes":       {Config{RecvBytes: 10 * int64(len(one))}, 10},
		"one byte":    {Config{RecvBytes: 1}, 1},
		"one message": {Config{RecvHWM: 1}, 1},
		"none":        {Config{RecvHWM: -1, RecvBytes: -1}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				pull, r := listening(t, n, c.cfg)
				defer closeNow(t, pull)
				for range 500 {
					r.Send(one)
				}
				synctest.Wait()
				st := pull.Stats()
				if st.RecvQueued != c.want || st.RecvQueuedBytes != int64(c.want*len(one)) {
					t.Errorf("%d messages, %d bytes wait, want %d", st.RecvQueued,
						st.RecvQueuedBytes, c.want)
				}
				count := 0
				for got := []string{""}; got != nil; count += len(got) {
					got = received(t, pull)
					synctest.Wait()
				}
				if count != 500 {
					t.Errorf("%d messages received", count)
				}
			})
		})
	}
}

// A message above the byte limit passes when no other message waits.
func TestOversizeMessagePasses(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{RecvBytes: 100})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, addr)
		push := NewPush(inMemory(n, Config{SendBytes: 100}), PushOptions{})
		defer closeNow(t, push)
		push.Connect("tcp://" + addr)
		large := make([]byte, 1<<20)
		for range 3 {
			if err := push.Send(t.Context(), NewMessage(large)); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			if m, err := pull.Recv(t.Context()); err != nil || m.Size() != len(large) {
				t.Fatal(m.Size(), err)
			}
		}
	})
}

// A message may have MaxMessageSize bytes, and not one more. The messages before a larger one are
// delivered. The larger one is counted as lost, and a warning names the peer, its size and the
// limit.
func TestMaxMessageSize(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		var log bytes.Buffer
		pull, r := listening(t, n,
			Config{MaxMessageSize: 100_000, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		defer closeNow(t, pull)
		r.Send(frame(string(make([]byte, 100_000))))
		r.Send(wire.AppendHeader(nil, 0, 100_001))
		r.ExpectClose()
		synctest.Wait()
		if st := pull.Stats(); st.Closed[wire.MessageTooLarge] != 1 ||
			st.Dropped[DropTooLarge] != 1 {
			t.Errorf("closed %v, dropped %v", st.Closed, st.Dropped)
		}
		if warning := log.String(); !regexp.MustCompile(`level=WARN.* peer=\S+ reason=message_too_large .*100001 bytes, the limit is 100000`).MatchString(warning) {
			t.Errorf("logged: %s", warning)
		}
		if m, err := pull.TryRecv(); err != nil || m.Size() != 100_000 {
			t.Error(m.Size(), err)
		}
	})
}

// The application receives from all peers, also while one of them sends much.
func TestFairness(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, addr)
		for i := range 3 {
			r := dialRaw(t, n, addr)
			shake(r, wire.PUSH, wire.PULL)
			var all []byte
			for j := range 100 * (i + 1) {
				all = append(all, frame(fmt.Sprintf("%d:%d", i, j))...)
			}
			r.Send(all)
			synctest.Wait()
		}
		got := received(t, pull)
		if len(got) != 600 {
			t.Fatalf("%d messages", len(got))
		}
		var want []string
		for j := range 300 {
			for i := range 3 {
				if j < 100*(i+1) {
					want = append(want, fmt.Sprintf("%d:%d", i, j))
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("not in turn: %q", got[:20])
		}
	})
}
