package zmtp

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// Shutdown waits for a peer that does not read for longer than answerTime while the last messages
// are being written.
func TestShutdownWaitsForTheLastWrite(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		n.Buffer = 256
		push := NewPush(Config{}, PushOptions{})
		bind(t, n, push.Socket, addr)
		r := dialRaw(t, n, addr)
		shake(r, wire.PULL, wire.PUSH)
		want := frame(string(bytes.Repeat([]byte("x"), 1000)))
		if err := push.Send(t.Context(), Message{wire: want}); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			shutdown0(t, push, time.Hour)
			close(done)
		}()
		time.Sleep(10 * answerTime)
		synctest.Wait()
		r.Conn.SetReadDeadline(time.Time{})
		if got, err := io.ReadAll(r.Conn); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
		}
		<-done
	})
}
