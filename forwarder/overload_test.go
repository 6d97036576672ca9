package forwarder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// stuckID is the node id of the subscriber that does not read.
const stuckID = "zeromq_worker-1_host_4711_Nabc"

// crowd is a broker with two subscribers of "t", one that reads and one that does not, and a
// publisher.
type crowd struct {
	*broker
	healthy *collector
	stuck   *raw
	pub     *raw
	sockets []shutdowner
}

const crowdHWM = 10

// newCrowd makes connections with small buffers: that of the stuck subscriber holds about 130
// messages.
func newCrowd(t *testing.T, cfg Config) *crowd {
	cfg.XPub.SendHWM = crowdHWM
	c := &crowd{broker: newBroker(t, cfg)}
	c.net.Buffer = 1 << 10
	sub := zmtp.NewSub(c.peerConfig())
	c.sockets = append(c.sockets, sub)
	sub.Subscribe("t")
	if err := sub.Connect("tcp://" + xpubAddr); err != nil {
		t.Fatal(err)
	}
	c.healthy = collect(sub)
	synctest.Wait()
	c.stuck = c.dialRaw(t, xpubAddr, wire.SUB)
	c.stuck.subscribe("t", true)
	c.stuck.subscribe("zeek.cluster.nodeid."+stuckID+".", true)
	c.pub = c.publisher(t)
	return c
}

// publisher connects another publisher.
func (c *crowd) publisher(t *testing.T) *raw {
	p := c.dialRaw(t, xsubAddr, wire.PUB)
	go io.Copy(io.Discard, p)
	synctest.Wait()
	return p
}

func (c *crowd) close(t *testing.T) {
	shutdown(t, c.sockets...)
	c.stuck.Close()
	c.pub.Close()
	c.Close()
	synctest.Wait()
	accounted(t, c.Forwarder)
}

// publish writes the messages at once, so that they are one batch as far as the connection's buffer
// allows. It returns a channel that is closed when all are written.
func (c *crowd) publish(p *raw, msgs []string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		p.write(joined(msgs))
		close(done)
	}()
	synctest.Wait()
	return done
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestAdaptive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{})
		defer c.close(t)
		begin := time.Now()
		done := c.publish(c.pub, sequence("t", 0, 1000))
		if closed(done) {
			t.Fatal("the publisher did not wait for a subscriber that has just stopped reading")
		}
		if st := c.youngest(t); st.NodeID != stuckID || st.Dropped.Total() != 0 ||
			!st.SlowSince.IsZero() {
			t.Fatalf("at first: %+v", st)
		}
		<-done
		synctest.Wait()
		if d := time.Since(begin); d < defaultBudget/2 || d > defaultBudget {
			t.Errorf("the publisher waited for %v", d)
		}
		equal(t, "healthy", c.healthy.all(), sequence("t", 0, 1000))
		st := c.youngest(t)
		if st.Queued > crowdHWM || st.Dropped.Total() == 0 || st.SlowSince.IsZero() {
			t.Errorf("slow: %+v", st)
		}
		if lines := c.logs.matching(string(losesMessages), stuckID, st.Remote.String(),
			"dropped=0"); len(lines) != 1 {
			t.Errorf("log: %q", c.logs.lines)
		}
		kept := 1000 - int(st.Dropped.Total())

		// No publisher waits for it again, neither this one nor another.
		begin = time.Now()
		<-c.publish(c.pub, sequence("t", 1000, 1100))
		other := c.publisher(t)
		defer other.Close()
		<-c.publish(other, sequence("t", 1100, 1200))
		if d := time.Since(begin); d != 0 {
			t.Errorf("the publishers waited for %v", d)
		}
		equal(t, "healthy", c.healthy.all(), sequence("t", 0, 1200))
		if st := c.youngest(t); st.Dropped.Total() != uint64(1200-kept) {
			t.Errorf("%d dropped, want %d", st.Dropped.Total(), 1200-kept)
		}

		// The subscriber reads again. It gets what was kept, and then all new messages.
		read := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(c.stuck)
			read <- b
		}()
		time.Sleep(2 * minTrial)
		synctest.Wait()
		if st := c.youngest(t); !st.SlowSince.IsZero() || st.Queued != 0 {
			t.Errorf("the subscriber reads but counts as slow: %+v", st)
		}
		lines := c.logs.matching("has caught up", stuckID, fmt.Sprintf("dropped=%d", 1200-kept))
		if len(lines) != 1 || len(c.logs.lines) != 2 {
			t.Errorf("log: %q", c.logs.lines)
		}
		<-c.publish(c.pub, sequence("t", 1200, 1300))
		synctest.Wait()
		shutdown(t, c.Forwarder)
		if got, want := <-read, joined(append(sequence("t", 0, kept),
			sequence("t", 1200, 1300)...)); !bytes.Equal(got, want) {
			t.Errorf("%d bytes, want %d", len(got), len(want))
		}
	})
}

// A publisher waits for a subscriber that has stopped, and another one begins. Neither waits again
// once the subscriber has used up the budget of the first one.
func TestSlowForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{})
		defer c.close(t)
		first := c.publish(c.pub, sequence("t", 0, 1000))
		time.Sleep(defaultBudget / 3)
		other := c.publisher(t)
		defer other.Close()
		c.publish(other, sequence("t", 0, 1))
		// the broker reads this when it has routed the message before
		c.publish(other, []string{"t|behind"})
		got := func() bool { return slices.Contains(c.healthy.all(), "t|behind") }
		if got() {
			t.Error("the second publisher did not wait")
		}
		<-first
		time.Sleep(waitTick)
		synctest.Wait()
		if !got() {
			t.Error("the second publisher waits longer than the first")
		}
	})
}

func TestBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{Overload: Block})
		defer c.close(t)
		want := sequence("t", 0, 1000)
		done := c.publish(c.pub, want)
		healthy := len(c.healthy.all())
		// The part of the batch that did not fit the stuck subscriber's queue has reached the
		// healthy one while the publisher waits.
		if healthy <= 2*crowdHWM {
			t.Errorf("the healthy subscriber has %d messages", healthy)
		}
		time.Sleep(time.Hour)
		if closed(done) || len(c.healthy.all()) != healthy {
			t.Fatal("the publisher did not wait")
		}
		st := c.youngest(t)
		if st.Dropped.Total() != 0 || st.Queued > crowdHWM ||
			time.Since(st.SlowSince) < 59*time.Minute {
			t.Errorf("%+v", st)
		}
		if lines := c.logs.matching(string(isWaitedFor), stuckID); len(lines) != 1 ||
			len(c.logs.lines) != 1 {
			t.Errorf("log: %q", c.logs.lines)
		}
		got := make([]byte, len(joined(want)))
		if _, err := io.ReadFull(c.stuck, got); err != nil {
			t.Fatal(err)
		}
		<-done
		synctest.Wait()
		if !bytes.Equal(got, joined(want)) {
			t.Error("the subscriber received other bytes than were sent")
		}
		equal(t, "healthy", c.healthy.all(), want)
		if st := c.Stats(); st.XPub.Dropped.Total() > 0 {
			t.Errorf("dropped %v, log %q", st.XPub.Dropped, c.logs.lines)
		}
	})
}

// Publishers go on when the subscriber for which they wait closes its connection.
func TestBlockedSubscriberGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{Overload: Block})
		defer c.close(t)
		want := sequence("t", 0, 1000)
		done := c.publish(c.pub, want)
		time.Sleep(time.Minute)
		c.stuck.Close()
		<-done
		synctest.Wait()
		equal(t, "healthy", c.healthy.all(), want)
		st := c.Stats()
		if st.XPub.Dropped[zmtp.DropConnectionLost] == 0 ||
			st.XPub.Dropped.Total() != st.XPub.Dropped[zmtp.DropConnectionLost] ||
			len(st.Subscribers) != 1 {
			t.Errorf("%+v", st)
		}
		if len(c.logs.matching("slow subscriber is gone", stuckID)) != 1 {
			t.Errorf("log: %q", c.logs.lines)
		}
	})
}

func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{Overload: Drop})
		defer c.close(t)
		begin := time.Now()
		// one at a time, since otherwise the healthy one loses what does not fit its queue
		for _, m := range sequence("t", 0, 1000) {
			<-c.publish(c.pub, []string{m})
			synctest.Wait()
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("the publisher waited for %v", d)
		}
		equal(t, "healthy", c.healthy.all(), sequence("t", 0, 1000))
		st := c.youngest(t)
		read := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(c.stuck)
			read <- b
		}()
		synctest.Wait()
		shutdown(t, c.Forwarder)
		kept := messages(t, <-read)
		if len(kept) <= crowdHWM || len(kept)+int(st.Dropped.Total()) != 1000 {
			t.Errorf("%d received, %d dropped", len(kept), st.Dropped.Total())
		}
		for i, m := range kept {
			if string(m.Part(1)) != fmt.Sprint(i) {
				t.Fatalf("message %d is %q: only the newest ones may be lost", i, m.Part(1))
			}
		}
	})
}

func TestDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{Overload: Disconnect})
		defer c.close(t)
		watch := zmtp.NewXPub(c.peerConfig(), zmtp.XPubOptions{Verboser: true})
		c.sockets = append(c.sockets, watch)
		if err := watch.Connect("tcp://" + xsubAddr); err != nil {
			t.Fatal(err)
		}
		told := collect(watch)
		synctest.Wait()
		begin := time.Now()
		for _, m := range sequence("t", 0, 1000) {
			<-c.publish(c.pub, []string{m})
			synctest.Wait()
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("the publisher waited for %v", d)
		}
		equal(t, "healthy", c.healthy.all(), sequence("t", 0, 1000))
		node := "zeek.cluster.nodeid." + stuckID + "."
		equal(t, "publisher", told.all(), []string{"\x01t", "\x01" + node, "\x00" + node})
		st := c.Stats()
		if st.XPub.Closed[wire.SlowConsumer] != 1 || len(st.Subscribers) != 1 ||
			st.XPub.Dropped[zmtp.DropConnectionLost] == 0 {
			t.Errorf("%+v", st)
		}
		if lines := c.logs.matching("disconnected", stuckID); len(lines) != 1 {
			t.Errorf("log: %q", c.logs.lines)
		}
	})
}

func TestShutdownDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{Overload: Block})
		defer c.close(t)
		want := sequence("t", 0, 150)
		<-c.publish(c.pub, want[:1])
		done := c.publish(c.pub, want[1:])
		ended := make(chan error)
		go func() { ended <- c.Shutdown(context.Background()) }()
		synctest.Wait()
		// no new peers are accepted
		if conn, err := c.net.Dial(t.Context(), xsubAddr); err == nil {
			conn.Close()
			t.Error("the broker still accepts publishers")
		}
		late := c.dialRaw(t, xpubAddr, wire.SUB)
		defer late.Close()
		if b, err := io.ReadAll(late); err != nil || len(b) > 0 ||
			c.Stats().XPub.HandshakeFailures[wire.Rejected] != 1 {
			t.Errorf("the broker still admits subscribers: %q, %v", b, err)
		}
		read := make(chan []byte)
		go func() {
			time.Sleep(time.Minute)
			b, _ := io.ReadAll(c.stuck)
			c.stuck.Close()
			read <- b
		}()
		if got := <-read; !bytes.Equal(got, joined(want)) {
			t.Errorf("%d bytes, want %d", len(got), len(joined(want)))
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		<-done
		equal(t, "healthy", c.healthy.all(), want)
	})
}

func TestShutdownGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{Overload: Block})
		defer c.close(t)
		c.pub.t = new(quiet) // its connection ends while it writes
		done := c.publish(c.pub, sequence("t", 0, 1000))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		if err := c.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("Shutdown took %v", d)
		}
		<-done
		st := c.Stats()
		if d := st.XPub.Dropped; d[zmtp.DropClosed]+d[zmtp.DropConnectionLost] == 0 {
			t.Errorf("nothing dropped: %+v", st)
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close after Shutdown: %v", err)
		}
		if _, err := c.ListenXPub("tcp://127.0.0.1:*"); !errors.Is(err, zmtp.ErrClosed) {
			t.Errorf("ListenXPub after Shutdown: %v", err)
		}
	})
}

// quiet is a testing.TB that ignores errors.
type quiet struct{ testing.TB }

func (*quiet) Helper()      {}
func (*quiet) Error(...any) {}

// A few large messages reach the limit in bytes.
func TestLimitInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, Config{XPub: zmtp.Config{SendBytes: 64 << 10}})
		defer c.close(t)
		large := string(bytes.Repeat([]byte("x"), 40<<10))
		var want []string
		for i := range 5 {
			want = append(want, fmt.Sprintf("t|%d|%s", i, large))
		}
		<-c.publish(c.pub, want)
		synctest.Wait()
		equal(t, "healthy", c.healthy.all(), want)
		if st := c.youngest(t); st.Dropped.Total() < 2 || st.QueuedBytes > 64<<10 ||
			st.SlowSince.IsZero() {
			t.Errorf("%+v", st)
		}
	})
}

func TestPolicyText(t *testing.T) {
	for _, p := range []Policy{Adaptive, Block, Drop, Disconnect} {
		text, _ := p.MarshalText()
		var q Policy
		if err := q.UnmarshalText(text); err != nil || q != p {
			t.Errorf("%v: %v, %v", p, q, err)
		}
	}
	var p Policy
	if err := p.UnmarshalText([]byte("adaptiv")); err == nil ||
		err.Error() != `forwarder: overload policy "adaptiv" is not one of adaptive, block, drop, disconnect` {
		t.Error(err)
	}
	if s := Policy(9).String(); s != "policy_9" {
		t.Error(s)
	}
}
