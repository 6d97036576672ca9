package zmtp

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// readOf returns a batch as the read loop makes it: one read of size bytes into a new slab.
func readOf(size int) *Batch {
	header := 2
	if size > 257 {
		header = wire.MaxHeaderSize
	}
	return batchOfAll(string(make([]byte, size-header)))
}

// Peers add reads, and an application receives and releases them. Usage never exceeds the limit by
// more than one read of each peer, and a peer waits only while there is no room.
func TestBudgetAgainstModel(t *testing.T) {
	type step struct{ what, which, size int }
	steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{rapid.IntRange(0, 3).Draw(t, "what"), rapid.IntRange(0, 9).Draw(t, "which"),
			rapid.IntRange(10, largestRead).Draw(t, "size")}
	}), 1, 60)
	rapid.Check(t, func(rt *rapid.T) {
		all, n := steps.Draw(rt, "steps"), rapid.IntRange(1, 4).Draw(rt, "peers")
		var err error
		synctest.Test(t, func(t *testing.T) {
			m := &budgetModel{in: newInbox(0, 0, budgetLimit), peers: make([]budgetPeer, n)}
			for _, s := range all {
				m.step(s.what, s.which, s.size)
				synctest.Wait()
				if err = m.check(); err != nil {
					break
				}
			}
			if err == nil {
				err = m.drain()
			}
			m.in.discard()
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

const (
	budgetLimit = 1000
	largestRead = 300
)

type budgetModel struct {
	in    *inbox
	peers []budgetPeer
	held  []*Batch // received and not released
}

type budgetPeer struct {
	inPipe  inPipe
	waiting int // bytes of the read that it waits to put, else 0
}

// step adds a read of size bytes from a peer, or receives or releases one in the application.
func (m *budgetModel) step(what, which, size int) {
	switch p := &m.peers[which%len(m.peers)]; {
	case what <= 1 && p.waiting == 0:
		p.waiting = size
		go func() {
			b := readOf(size)
			m.in.put(&p.inPipe, b)
			b.Release() // the read loop goes on with another slab
			p.waiting = 0
		}()
	case what == 2:
		if b, err := m.in.tryRecvBatch(); err == nil {
			m.held = append(m.held, b)
		}
	case what == 3 && len(m.held) > 0:
		i := which % len(m.held)
		m.held[i].Release()
		m.held = slices.Delete(m.held, i, i+1)
	}
}

func (m *budgetModel) check() error {
	_, held, used := m.in.level()
	for _, b := range m.held {
		held += b.wireBytes(0, b.Len())
	}
	byPeer := int64(0)
	for i := range m.peers {
		p := &m.peers[i]
		byPeer += p.inPipe.pinned
		after := used + int64(p.waiting)
		if may := p.inPipe.msgs == 0 || after <= budgetLimit &&
			p.inPipe.pinned+int64(p.waiting) <= budgetLimit-after; p.waiting > 0 && may {
			return fmt.Errorf("peer %d waits for %d bytes, has %d, %d of %d are used: it may go on",
				i, p.waiting, p.inPipe.pinned, used, budgetLimit)
		}
	}
	if used != held || used != byPeer || used > budgetLimit+int64(len(m.peers)*largestRead) {
		return fmt.Errorf("%d bytes are held, %d are counted, %d by peer, the limit is %d", held,
			used, byPeer, budgetLimit)
	}
	return nil
}

// drain receives and releases everything. After that no peer may wait.
func (m *budgetModel) drain() error {
	for _, b := range m.held {
		b.Release()
	}
	for {
		b, err := m.in.tryRecvBatch()
		if err != nil {
			break
		}
		b.Release()
		synctest.Wait()
	}
	for i := range m.peers {
		if p := &m.peers[i]; p.waiting > 0 || p.inPipe.pinned != 0 {
			return fmt.Errorf("in the end peer %d waits for %d bytes and has %d", i, p.waiting,
				p.inPipe.pinned)
		}
	}
	if _, _, used := m.in.level(); used != 0 || len(m.in.budget.waiting) > 0 {
		return fmt.Errorf("in the end %d bytes are held, %d peers wait", used,
			len(m.in.budget.waiting))
	}
	return nil
}

// A peer that sends without end may use half of the free space, and later peers share the other
// half.
func TestBudgetLeavesRoomForOtherPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox(0, 0, 1200)
		defer in.discard()
		pipes := []*inPipe{new(inPipe), new(inPipe), new(inPipe)}
		for i, want := range [][]int64{{600}, {600, 300}, {600, 300, 150}} {
			go func() {
				for {
					b := readOf(10)
					if in.put(pipes[i], b) > 0 {
						return
					}
				}
			}()
			synctest.Wait()
			for j, n := range want {
				if pipes[j].pinned != n {
					t.Errorf("with %d peers, peer %d has %d bytes, want %d", i+1, j,
						pipes[j].pinned, n)
				}
			}
		}
		// In the long run all peers have the same share.
		for range 1000 {
			b, err := in.tryRecvBatch()
			if err != nil {
				t.Fatal(err)
			}
			b.Release()
			synctest.Wait()
		}
		for j, p := range pipes {
			if p.pinned < 280 || p.pinned > 320 {
				t.Errorf("peer %d has %d bytes, want about 300", j, p.pinned)
			}
		}
	})
}

// Waiting peers go on in the order in which they began to wait.
func TestBudgetWakesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox(0, 0, 100)
		var taken []*Batch // the application has all that there is
		for range 10 {
			in.put(new(inPipe), readOf(10))
			b, err := in.tryRecvBatch()
			if err != nil {
				t.Fatal(err)
			}
			taken = append(taken, b)
		}
		went := make(chan int, 5)
		for i := range 5 {
			p := new(inPipe)
			in.put(p, readOf(10)) // each may have one
			go func() {
				in.put(p, readOf(10))
				went <- i
			}()
			synctest.Wait()
		}
		if len(went) > 0 {
			t.Fatalf("%d went on beyond the limit", <-went)
		}
		var order []int
		for _, b := range taken { // each of the last makes room for one
			b.Release()
			synctest.Wait()
			for len(went) > 0 {
				order = append(order, <-went)
			}
		}
		if !slices.Equal(order, []int{0, 1, 2}) {
			t.Errorf("went on: %v", order)
		}
		in.discard()
		synctest.Wait()
		if n := len(order) + len(went); n != 5 {
			t.Errorf("%d ended with the inbox, want 5", n)
		}
	})
}

// A socket reads as much as its limit allows, and at least one message from each peer.
func TestTotalRecvBytes(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{TotalRecvBytes: 1 << 20})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, addr)
		const each = 30
		message := frame(string(make([]byte, 100<<10)))
		peers := make([]*zmtptest.Raw, 20)
		sent := make(chan struct{}, len(peers))
		for i := range peers {
			peers[i] = dialRaw(t, n, addr)
			shake(peers[i], wire.PUSH, wire.PULL)
			go func() {
				for range each {
					peers[i].Send(message)
				}
				sent <- struct{}{}
			}()
		}
		synctest.Wait()
		st := pull.Stats()
		if most := int64(1<<20 + len(peers)*(128<<10)); st.RecvPinnedBytes > most ||
			st.RecvPinnedBytes < st.RecvQueuedBytes || st.RecvQueued < len(peers) {
			t.Errorf("%d messages of %d bytes wait in %d bytes, want at least %d messages and at "+
				"most %d bytes",
				st.RecvQueued, st.RecvQueuedBytes, st.RecvPinnedBytes, len(peers), most)
		}
		for i := range each * len(peers) {
			b, err := pull.RecvBatch(t.Context())
			if err != nil || b.Len() != 1 {
				t.Fatal(i, b.Len(), err)
			}
			b.Release()
		}
		for range peers {
			<-sent
		}
		if st := pull.Stats(); st.RecvPinnedBytes != 0 {
			t.Errorf("%d bytes are held when all is released", st.RecvPinnedBytes)
		}
	})
}

// A read buffer for a large message counts while the message arrives. Each peer may have one
// message beyond the limit, queued or arriving. The buffers no longer count when the connection is
// lost.
func TestLargeMessagesUnderWayCount(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{TotalRecvBytes: 1 << 20})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, addr)
		message := frame(string(make([]byte, 1<<20)))
		peers := make([]*zmtptest.Raw, 6)
		for i := range peers {
			peers[i] = dialRaw(t, n, addr)
			shake(peers[i], wire.PUSH, wire.PULL)
			half := len(message) / 2
			peers[i].Send(message[:half])
			if i < 3 {
				peers[i].Send(message[half:])
				go func() {
					for range 4 {
						peers[i].Send(message)
					}
				}()
			}
		}
		synctest.Wait()
		// A slab for one message, and while it grows twice the one before.
		st := pull.Stats()
		if most := int64(len(peers)*3<<19 + 1<<20); st.RecvQueued != 3 ||
			st.RecvPinnedBytes > most || st.RecvPinnedBytes < int64(len(peers)*len(message)/2) {
			t.Errorf("%d messages wait, %d bytes are held, want 3 and at most %d", st.RecvQueued,
				st.RecvPinnedBytes, most)
		}
		for range 15 {
			b, err := pull.RecvBatch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b.Release()
		}
		synctest.Wait()
		if st := pull.Stats(); st.RecvPinnedBytes < int64(3*len(message)/2) {
			t.Errorf("%d bytes are held for three that have sent half a message",
				st.RecvPinnedBytes)
		}
		pull.ClosePeers(func(*Peer) error { return ErrClosed })
		synctest.Wait()
		if st := pull.Stats(); st.RecvPinnedBytes != 0 {
			t.Errorf("%d bytes are held of peers that are gone", st.RecvPinnedBytes)
		}
	})
}
