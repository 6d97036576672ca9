package zmtp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// A SERVER answers each CLIENT by the ID of its peer; a message of several parts is neither sent
// nor received (RFC 41; libzmq, test_client_server).
func TestClientServer(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		s := NewServer(Config{}, ServerOptions{Hello: message("hello"), Disconnect: message("bye")})
		defer closeNow(t, s)
		bind(t, n, s.Socket, addr)
		var clients []*Client
		for range 2 {
			c := NewClient(inMemory(n, Config{}), ClientOptions{})
			defer closeNow(t, c)
			if err := c.Connect("tcp://" + addr); err != nil {
				t.Fatal(err)
			}
			if err := c.TrySend(message("a", "b")); !errors.Is(err, ErrMessage) {
				t.Errorf("two parts: %v", err)
			}
			mustRecv(t, c, "hello")
			clients = append(clients, c)
		}
		for i, c := range clients {
			mustSend(t, c, fmt.Sprint("question", i))
			m := mustRecv(t, s, fmt.Sprint("question", i))
			if err := s.TrySend(m.Peer().ID(), message("a", "b")); !errors.Is(err, ErrMessage) {
				t.Errorf("two parts: %v", err)
			}
			if err := s.Send(t.Context(), m.Peer().ID(), message("answer")); err != nil {
				t.Fatal(err)
			}
			mustRecv(t, c, "answer")
		}
		r := rawPeer(t, n, CLIENT, SERVER, "")
		r.Expect(frame("hello"))
		sendParts(r, "two", "parts")
		sendParts(r, "one part")
		m := mustRecv(t, s, "one part")
		r.Conn.Close()
		if gone := mustRecv(t, s, "bye"); gone.Peer() != m.Peer() {
			t.Errorf("%v has gone, want %v", gone.Peer(), m.Peer())
		}
		if err := s.TrySend(m.Peer().ID(), message("x")); err != ErrNoPeer {
			t.Errorf("to a peer that has gone: %v", err)
		}
		if d := s.Stats().Dropped; d != (Drops{DropMalformed: 1}) {
			t.Errorf("dropped %v", d)
		}
	})
}

// A PEER connects to another and knows its ID at once; both can send (RFC 51; libzmq, test_peer).
func TestPeerSocket(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		a := NewPeerSocket(inMemory(n, Config{}), ServerOptions{Hiccup: message("hiccup")})
		defer closeNow(t, a)
		id, err := a.ConnectPeer("tcp://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.TrySend(id, message("before anybody listens")); err != nil {
			t.Fatal(err)
		}
		b := NewPeerSocket(Config{}, ServerOptions{Disconnect: message("bye")})
		bind(t, n, b.Socket, addr)
		m := mustRecv(t, b, "before anybody listens")
		if err := b.TrySend(m.Peer().ID(), message("answer")); err != nil {
			t.Fatal(err)
		}
		if m = mustRecv(t, a, "answer"); m.Peer().ID() != id {
			t.Errorf("the answer came from %d, want %d", m.Peer().ID(), id)
		}
		closeNow(t, b)
		mustRecv(t, a, "hiccup")
		b = NewPeerSocket(Config{}, ServerOptions{Disconnect: message("bye")})
		defer closeNow(t, b)
		if err := a.TrySend(id, message("while it was away")); err != nil {
			t.Fatal(err)
		}
		bind(t, n, b.Socket, addr)
		mustRecv(t, b, "while it was away")
		closeNow(t, a)
		mustRecv(t, b, "bye")
	})
}

// SCATTER gives messages of one part to GATHERs in turn (RFC 49; libzmq, test_scatter_gather), and
// CHANNELs talk in pairs (RFC 52; libzmq, test_channel).
func TestScatterGatherChannel(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		s := NewScatter(Config{}, ScatterOptions{})
		defer closeNow(t, s)
		bind(t, n, s.Socket, addr)
		var gathers []*Gather
		for range 2 {
			g := NewGather(inMemory(n, Config{}))
			defer closeNow(t, g)
			if err := g.Connect("tcp://" + addr); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			gathers = append(gathers, g)
		}
		var b BatchBuilder
		b.Add([]byte("0"))
		b.Add([]byte("1"))
		b.Add([]byte("two"), []byte("parts"))
		b.Add([]byte("not sent"))
		batch := b.Batch()
		if k, err := s.TrySendBatch(batch); k != 2 || !errors.Is(err, ErrMessage) {
			t.Errorf("%d messages of a batch were sent: %v", k, err)
		}
		batch.Release()
		for i := 2; i < 6; i++ {
			mustSend(t, s, fmt.Sprint(i))
		}
		synctest.Wait()
		all := append(received(t, gathers[0]), received(t, gathers[1])...)
		slices.Sort(all)
		if got := fmt.Sprint(all); got != "[0 1 2 3 4 5]" {
			t.Errorf("received %s", got)
		}
		a, c := NewChannel(Config{}), NewChannel(inMemory(n, Config{}))
		defer closeNow(t, a)
		defer closeNow(t, c)
		bind(t, n, a.Socket, "c:1")
		if err := c.Connect("tcp://c:1"); err != nil {
			t.Fatal(err)
		}
		mustSend(t, c, "there")
		mustRecv(t, a, "there")
		mustSend(t, a, "back")
		mustRecv(t, c, "back")
		if err := a.TrySend(message("a", "b")); !errors.Is(err, ErrMessage) {
			t.Errorf("two parts: %v", err)
		}
	})
}

// Messages go to the DISHes that have joined their group, and only exactly that (RFC 48; libzmq,
// test_radio_dish).
func TestRadioDish(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		radio := NewRadio(Config{})
		defer closeNow(t, radio)
		bind(t, n, radio.Socket, addr)
		dish := NewDish(inMemory(n, Config{}))
		defer closeNow(t, dish)
		long := strings.Repeat("x", 255)
		for _, group := range []string{"Movies", "TV", long, ""} {
			if err := dish.Join(group); err != nil {
				t.Fatal(err)
			}
		}
		if err := dish.Join("TV"); err == nil {
			t.Error("a group was joined twice")
		}
		if err := dish.Join(long + "x"); err == nil {
			t.Error("a group of 256 bytes was joined")
		}
		if err := dish.Leave("never joined"); err == nil {
			t.Error("a group was left that was not joined")
		}
		if err := dish.Connect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, m := range []Message{{}, message("group alone"), message("a", "b", "c"),
			message(long+"x", "b")} {
			if err := radio.TrySend(m); !errors.Is(err, ErrMessage) {
				t.Errorf("%d parts: %v", m.NumParts(), err)
			}
		}
		for _, group := range []string{"Movie", "Movies", "Movies2", long, "", "TV"} {
			mustSend(t, radio, group, "in "+group)
		}
		if err := dish.Leave("TV"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mustSend(t, radio, "TV", "too late")
		var b BatchBuilder
		b.Add([]byte("Movies"), []byte("last"))
		batch := b.Batch()
		if _, err := radio.TrySendBatch(batch); err != nil {
			t.Fatal(err)
		}
		batch.Release()
		synctest.Wait()
		want := []string{"Movies,in Movies", long + ",in " + long, ",in ", "Movies,last"}
		if got := received(t, dish); !slices.Equal(got, want) {
			t.Errorf("received %.80q, want %.80q", got, want)
		}
	})
}

// A DISH closes the connection of a RADIO that sends a frame without a group or with one that is
// too long; messages before that are delivered. A RADIO closes the connection of a DISH that sends
// a JOIN that is too long, or one too many (libzmq, dish.cpp and radio.cpp).
func TestRadioDishHostile(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		dish := NewDish(Config{})
		defer closeNow(t, dish)
		bind(t, n, dish.Socket, addr)
		if err := dish.Join("g"); err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]string{{"no group"}, {"g", "b", "too many"}, {""},
			{strings.Repeat("x", 256), "b"}} {
			r := rawPeer(t, n, RADIO, DISH, "")
			r.Expect(wire.AppendCommand(nil, "JOIN", []byte("g")))
			r.Send(append(message("g", "good").Wire(), message(bad...).Wire()...))
			r.ExpectClose()
			mustRecv(t, dish, "g,good")
			nothing(t, dish)
		}
		if n := dish.Stats().Closed[wire.MalformedGroup]; n != 4 {
			t.Errorf("%d connections were closed for that, want 4", n)
		}
		radio := NewRadio(Config{MaxSubscriptions: 2})
		defer closeNow(t, radio)
		bind(t, n, radio.Socket, "r:1")
		for reason, joins := range map[wire.Reason][]string{
			wire.MalformedGroup:       {"a", strings.Repeat("x", 256)},
			wire.TooManySubscriptions: {"a", "a", "b", "b", "c"},
		} {
			conn, err := n.Dial(t.Context(), "r:1")
			if err != nil {
				t.Fatal(err)
			}
			r := zmtptest.NewRaw(t, conn)
			shake(r, DISH, RADIO)
			for _, group := range joins {
				r.Send(wire.AppendCommand(nil, "JOIN", []byte(group)))
			}
			r.ExpectClose()
			synctest.Wait()
			if radio.Stats().Closed[reason] != 1 {
				t.Errorf("not closed for %v: %v", reason, radio.Stats().Closed)
			}
		}
		if left := len(radio.groups.joined); left != 0 {
			t.Errorf("%d groups are left of peers that have gone", left)
		}
	})
}
