package zmtp

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// commander is a CommandHandler that records commands and messages in their order. It refuses
// LEAVE.
type commander struct{ got []string }

var errLeave = errors.New("left")

func (*commander) Attach(*Peer) error  { return nil }
func (*commander) Detach(*Peer, error) {}

func (c *commander) Receive(_ *Peer, b *Batch) error {
	for m := range b.Messages() {
		c.got = append(c.got, text(m))
	}
	return nil
}

func (c *commander) Command(_ *Peer, name, data []byte) error {
	c.got = append(c.got, fmt.Sprintf("%s %s", name, data))
	if string(name) == "LEAVE" {
		return errLeave
	}
	return nil
}

// A CommandHandler gets the commands that the socket does not handle itself, in order with the
// messages of the same read. Its error closes the connection.
func TestCommandHandler(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		c := new(commander)
		s := NewSocket(wire.PULL, c, Config{})
		defer closeNow(t, s)
		monitor := s.Monitor(100)
		bind(t, n, s, addr)
		r := dialRaw(t, n, addr)
		shake(r, wire.PUSH, wire.PULL)
		var in []byte
		for _, command := range []string{"JOIN", "READY", "ERROR", "PONG", "UNKNOWN"} {
			in = append(wire.AppendCommand(in, command, []byte("a")), frame("after "+command)...)
		}
		r.Send(in)
		alive(r)
		r.Send(append(wire.AppendCommand(nil, "LEAVE", []byte("a")), frame("too late")...))
		r.ExpectClose()
		synctest.Wait()
		want := []string{"JOIN a", "after JOIN", "after READY", "after ERROR", "after PONG",
			"UNKNOWN a", "after UNKNOWN", "LEAVE a"}
		if !slices.Equal(c.got, want) {
			t.Errorf("got %q, want %q", c.got, want)
		}
		all := events(monitor)
		if last := all[len(all)-1]; last.Type != EventDisconnected ||
			!errors.Is(last.Err, errLeave) {
			t.Errorf("last event %v, %v", last.Type, last.Err)
		}
	})
}
