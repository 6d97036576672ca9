package forwarder

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/wire"
)

// heldUp records, at intervals, how long a publisher was not read, to find the worst window.
type heldUp []time.Duration // cumulated, one every heldUpStep

const heldUpStep = 100 * time.Millisecond

// worst returns the largest part of any holdWindow.
func (h heldUp) worst() (most time.Duration) {
	n := int(holdWindow / heldUpStep)
	for i := range h {
		most = max(most, h[i]-h[max(i-n, 0)])
	}
	return most
}

// slowReaders are kinds of slow subscribers. Each returns when its connection ends.
var slowReaders = map[string]func(r io.Reader){
	"trickles":   func(r io.Reader) { readPaced(r, 4<<10, 50*time.Millisecond) },
	"half speed": func(r io.Reader) { readPaced(r, 1<<10, 10*time.Millisecond) },
	"stops":      func(r io.Reader) {},
	"pauses": func(r io.Reader) {
		for {
			time.Sleep(3 * time.Second)
			if readPaced(io.LimitReader(r, 500<<10), 64<<10, 0) != io.EOF {
				return
			}
		}
	},
}

// readPaced reads at most size bytes, waits for the interval, and so on until the end.
func readPaced(r io.Reader, size int, interval time.Duration) error {
	buf := make([]byte, size)
	for {
		if _, err := r.Read(buf); err != nil {
			return err
		}
		time.Sleep(interval)
	}
}

// A broker has slow subscribers of all kinds and numbers, and publishers that send 240 kB/s
// together. No publisher is held up for longer than the allowed share of the time. The healthy
// subscriber loses nothing. The slow ones lose what they do not take, and the log names them.
func TestWaitShare(t *testing.T) {
	for how, read := range slowReaders {
		crowd := 40
		if how == "trickles" || testkit.Nightly() {
			crowd = 200
		}
		for slow, publishers := range map[int]int{1: 1, 10: 3, crowd: 1} {
			t.Run(fmt.Sprintf("%s/%d", how, slow), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testWaitShare(t, read, slow, publishers) })
			})
		}
	}
}

func testWaitShare(t *testing.T, read func(io.Reader), slow, publishers int) {
	const (
		hwm  = 5
		rate = 60 // messages a second, of 4 KiB
		long = 12 * time.Second
	)
	b := newBroker(t, Config{XPub: zmtp.Config{SendHWM: hwm}})
	b.net.Buffer = 8 << 10
	letSleepersEnd(t)
	var conns []*raw
	dial := func(addr string, typ wire.SocketType) *raw {
		r := b.dialRaw(t, addr, typ)
		r.t = new(quiet) // its connection ends while it writes
		conns = append(conns, r)
		return r
	}
	healthy := new(collector)
	r := dial(xpubAddr, wire.SUB)
	r.subscribe("t", true)
	go healthy.read(t, r)
	for i := range slow {
		r := dial(xpubAddr, wire.SUB)
		r.subscribe("t", true)
		r.subscribe(fmt.Sprintf("zeek.cluster.nodeid.n%d.", i), true)
		go read(r)
	}
	synctest.Wait()
	body := strings.Repeat("x", 4<<10)
	sent := 0
	for p := range publishers {
		pub := dial(xsubAddr, wire.PUB)
		go io.Copy(io.Discard, pub)
		all := int(long/time.Second) * rate / publishers
		sent += all
		go func() {
			next := time.Now()
			for i := range all {
				next = next.Add(time.Second * time.Duration(publishers) / rate)
				time.Sleep(time.Until(next))
				pub.send("t", fmt.Sprintf("%d-%d", p, i), body)
			}
		}()
	}
	held := make(map[uint64]heldUp)
	for range long / heldUpStep {
		time.Sleep(heldUpStep)
		for _, p := range b.Stats().Publishers {
			held[p.ID] = append(held[p.ID], p.Blocked)
		}
	}
	synctest.Wait()
	got := len(healthy.all())
	if got < sent*9/10 {
		t.Errorf("the healthy subscriber got %d messages of %d in the time in which they were "+
			"published", got, sent)
	}
	// The time that a publisher waits for a subscriber before that one lags is not charged to its
	// budget: queuePatience and a tick for each subscriber that will be slow. Publishers wait for
	// many of them at the same time, for ten one after the other at most.
	most := time.Duration(DefaultWaitShare*float64(holdWindow)) +
		(queuePatience+waitTick)*time.Duration(min(slow, 10)) + 2*waitTick
	for _, h := range held {
		if h.worst() > most {
			t.Errorf("a publisher was held up for %v of %v, the limit is %v", h.worst(), holdWindow,
				most)
		}
	}
	time.Sleep(holdWindow)
	synctest.Wait()
	if got := len(healthy.all()); got != sent {
		t.Errorf("the healthy subscriber got %d messages of %d", got, sent)
	}
	for _, st := range b.Stats().Subscribers {
		if in := st.Out.Messages + st.Dropped.Total(); in != uint64(sent) {
			t.Errorf("%d messages taken and %d dropped, of %d", st.Out.Messages, st.Dropped.Total(),
				sent)
		}
		lines := b.logs.matching(string(losesMessages), st.Remote.String(), "node="+st.NodeID)
		if st.NodeID == "" && (st.Dropped.Total() > 0 || len(lines) > 0) {
			t.Errorf("the healthy subscriber lost %d messages, log %q", st.Dropped.Total(), lines)
		}
		if st.NodeID != "" && st.Dropped.Total() > 0 && len(lines) == 0 {
			t.Errorf("node %s lost %d messages, and the log does not name it", st.NodeID,
				st.Dropped)
		}
		// Trials of 1, 2 and 4 seconds, and then one of 8, fill the time.
		if len(lines) > 4 {
			t.Errorf("node %s is named %d times: %q", st.NodeID, len(lines), lines)
		}
	}
	for _, r := range conns {
		r.Close()
	}
	b.Close()
	synctest.Wait()
	accounted(t, b.Forwarder)
}
