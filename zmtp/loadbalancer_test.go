package zmtp

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// keyOf returns the key of a test message: the text before the colon in its first part, nil if
// there is no colon.
func keyOf(m Message) []byte {
	key, _, ok := bytes.Cut(m.Part(0), []byte(":"))
	if !ok {
		return nil
	}
	return key
}

// textsIn returns the messages in the chunks of an outbox.
func textsIn(chunks []chunk) (all []string) {
	var d wire.Decoder
	for _, c := range chunks {
		for at := 0; at < len(c.b); {
			size := nextMessage(&d, c.b[at:])
			all = append(all, text(Message{wire: c.b[at : at+size]}))
			at += size
		}
	}
	return all
}

// batchOfTexts makes a batch of messages of one part.
func batchOfTexts(all []string) *Batch {
	b := &Batch{slab: &slab{}}
	b.slab.refs.Store(1)
	for _, m := range all {
		start := len(b.slab.buf)
		b.slab.buf = append(b.slab.buf, NewMessageString(m).wire...)
		b.spans = append(b.spans, span{start, len(b.slab.buf), 1, len(m)})
	}
	return b
}

// pushTest drives a Push without connections: it adds and removes pipes, and plays their writers.
type pushTest struct {
	push     *Push
	hwm      int
	maxBytes int64
	stayAway bool // an endpoint that was lost does not come back, and none comes late

	pipes  map[string]*outbox // by endpoint
	away   map[string]bool
	number int // of the last message made

	accepted []string       // by Send
	gone     []string       // written, or under way when a connection broke
	last     map[string]int // number of the last message of each key that was written
}

// home returns the endpoint for the messages of a key. It computes that in another way than Push:
// it takes the first endpoint that is present, in the order that the key gives all endpoints.
func (p *pushTest) home(key string) string {
	all := []string{"tcp://a:1", "tcp://b:1", "tcp://c:1", "tcp://d:1"}
	slices.SortFunc(all, func(a, b string) int {
		if score(hash(key), hash(a)) > score(hash(key), hash(b)) {
			return -1
		}
		return 1
	})
	for _, endpoint := range all {
		if p.pipes[endpoint] != nil {
			return endpoint
		}
	}
	return ""
}

func (p *pushTest) queue(endpoint string) []string {
	if p.pipes[endpoint] == nil {
		return nil
	}
	return textsIn(p.pipes[endpoint].chunks.all())
}

func (p *pushTest) fitsAt(endpoint, m string) bool {
	q, bytes := p.queue(endpoint), int64(0)
	for _, m := range append(q, m) {
		bytes += int64(len(m)) + 2
	}
	return endpoint != "" && (len(q) == 0 || len(q) < p.hwm &&
		(p.maxBytes == 0 || bytes <= p.maxBytes))
}

// fits reports whether there is room for a message.
func (p *pushTest) fits(m string) bool {
	if key, _, ok := strings.Cut(m, ":"); ok {
		return p.fitsAt(p.home(key), m)
	}
	for endpoint := range p.pipes {
		if p.fitsAt(endpoint, m) {
			return true
		}
	}
	return false
}

func (p *pushTest) draw(t *rapid.T) string {
	p.number++
	key := rapid.SampledFrom([]string{"", "a:", "b:", "c:", "d:", "e:"}).Draw(t, "key")
	size := rapid.SampledFrom([]int{1, 10, 50}).Draw(t, "size")
	return fmt.Sprintf("%s%0*d", key, size, p.number)
}

// wrote records that a message went out, or may have.
func (p *pushTest) wrote(t *rapid.T, m string) {
	t.Helper()
	p.gone = append(p.gone, m)
	if key, digits, ok := strings.Cut(m, ":"); ok {
		n, _ := strconv.Atoi(digits)
		if p.stayAway && n <= p.last[key] {
			t.Fatalf("%s goes out behind %d", m, p.last[key])
		}
		p.last[key] = n
	}
}

func (p *pushTest) write(t *rapid.T, endpoint string) {
	t.Helper()
	chunks, control := p.pipes[endpoint].take(nil, 1, never)
	for _, m := range textsIn(chunks) {
		p.wrote(t, m)
	}
	p.pipes[endpoint].done(chunks, control)
}

func (p *pushTest) attach(endpoint string) {
	ob := newOutbox(p.hwm, p.maxBytes, nil)
	ob.onRoom = p.push.balancer.hasRoom
	p.pipes[endpoint] = ob
	p.push.balancer.add(newOutPipe(ob, endpoint, false))
}

// lose ends a connection, perhaps in the middle of a write.
func (p *pushTest) lose(t *rapid.T, endpoint string) {
	ob := p.pipes[endpoint]
	if rapid.Bool().Draw(t, "while writing") {
		chunks, control := ob.take(nil, 100, never)
		under, size := textsIn(chunks), 0
		for _, c := range chunks {
			size += len(c.b)
		}
		n := ob.restore(chunks, control, rapid.IntRange(0, size).Draw(t, "handed over"))
		for _, m := range under[:n] {
			p.wrote(t, m)
		}
	}
	delete(p.pipes, endpoint)
	p.away[endpoint] = p.stayAway
	p.push.balancer.takeBack(ob)
}

// check compares the places of all messages with the accepted messages.
func (p *pushTest) check(t *rapid.T) {
	all := slices.Clone(p.gone)
	for endpoint := range p.pipes {
		q := p.queue(endpoint)
		if len(q) > p.hwm {
			t.Fatalf("%d messages wait for %s, the limit is %d", len(q), endpoint, p.hwm)
		}
		all = append(all, q...)
	}
	for _, m := range p.push.balancer.returned {
		all = append(all, text(m))
	}
	slices.Sort(all)
	if want := slices.Sorted(slices.Values(p.accepted)); !slices.Equal(all, want) {
		t.Fatalf("there are\n%q\naccepted were\n%q", all, want)
	}
}

func testPush(t *rapid.T, stayAway bool) {
	p := &pushTest{hwm: rapid.SampledFrom([]int{1, 2, 5}).Draw(t, "hwm"), stayAway: stayAway,
		maxBytes: rapid.SampledFrom([]int64{0, 1, 60, 120}).Draw(t, "bytes"),
		pipes:    map[string]*outbox{}, away: map[string]bool{}, last: map[string]int{}}
	p.push = NewPush(Config{SendHWM: p.hwm}, PushOptions{Immediate: true, Key: keyOf})
	defer func() {
		if err := p.push.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	pick := func(t *rapid.T) string {
		if len(p.pipes) == 0 {
			t.Skip("nobody is there")
		}
		var all []string
		for endpoint := range p.pipes {
			all = append(all, endpoint)
		}
		slices.Sort(all)
		return rapid.SampledFrom(all).Draw(t, "endpoint")
	}
	endpoints := []string{"tcp://a:1", "tcp://b:1", "tcp://c:1", "tcp://d:1"}
	if stayAway {
		for _, endpoint := range endpoints {
			p.attach(endpoint)
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"send": func(t *rapid.T) {
			m := p.draw(t)
			want := len(p.push.balancer.returned) == 0 && p.fits(m)
			err := p.push.TrySend(NewMessageString(m))
			if (err == nil) != want || err != nil && err != ErrWouldBlock {
				t.Fatalf("sending %s: %v, has room: %v", m, err, want)
			}
			if !want {
				return
			}
			p.accepted = append(p.accepted, m)
			if key, _, ok := strings.Cut(m, ":"); ok {
				if q := p.queue(p.home(key)); q[len(q)-1] != m {
					t.Fatalf("%s is not at %s, which has %q", m, p.home(key), q)
				}
			}
		},
		"batch": func(t *rapid.T) {
			var all []string
			for range rapid.IntRange(1, 8).Draw(t, "messages") {
				all = append(all, p.draw(t))
			}
			n, err := p.push.TrySendBatch(batchOfTexts(all))
			p.accepted = append(p.accepted, all[:n]...)
			if (err == nil) != (n == len(all)) || err != nil && err != ErrWouldBlock {
				t.Fatalf("%d of %d taken, %v", n, len(all), err)
			}
			if n < len(all) && len(p.push.balancer.returned) == 0 && p.fits(all[n]) {
				t.Fatalf("%s was not taken, although there is room", all[n])
			}
		},
		"attach": func(t *rapid.T) {
			endpoint := rapid.SampledFrom(endpoints).Draw(t, "endpoint")
			if p.pipes[endpoint] == nil && !p.away[endpoint] {
				p.attach(endpoint)
			}
		},
		"write": func(t *rapid.T) { p.write(t, pick(t)) },
		"lose":  func(t *rapid.T) { p.lose(t, pick(t)) },
		"":      p.check,
	})
	// All messages go out when there is a peer.
	if len(p.pipes) == 0 {
		p.attach("tcp://a:1")
	}
	for len(p.gone) < len(p.accepted) {
		before := len(p.gone)
		for endpoint := range p.pipes {
			p.write(t, endpoint)
		}
		if len(p.gone) == before {
			t.Fatalf("%d messages stay where they are", len(p.push.balancer.returned))
		}
	}
	p.check(t)
}

// However peers come and go, each accepted message is in one place and goes out in the end.
// Messages with a key are at the peer of the key. A send blocks exactly when there is no room.
func TestPushLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { testPush(t, false) })
}

// The messages of a key go out in order as long as lost peers do not return.
func TestPushKeepsTheOrderOfAKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { testPush(t, true) })
}

// The loss of a peer moves its keys and no others, and the keys are spread about evenly.
func TestPushKeysAreSpread(t *testing.T) {
	const keys = 10000
	endpoints := []string{"tcp://10.0.0.1:5557", "tcp://10.0.0.2:5557", "tcp://10.0.0.3:5557",
		"tcp://10.0.0.4:5557"}
	homes := func(endpoints []string) (all []string) {
		lb := &loadBalancer{key: func(m Message) []byte { return m.Part(0) }}
		names := map[*outPipe]string{}
		for _, e := range endpoints {
			p := newOutPipe(newOutbox(0, 0, nil), e, false)
			names[p] = e
			lb.add(p)
		}
		for i := range keys {
			all = append(all, names[lb.choose(NewMessageString(fmt.Sprintf("log_%d", i))).pipe])
		}
		return all
	}
	before, after := homes(endpoints), homes(endpoints[1:])
	count := map[string]int{}
	for i := range before {
		count[before[i]]++
		if before[i] != endpoints[0] && after[i] != before[i] {
			t.Fatalf("key %d moves from %s to %s, which were there before and after", i, before[i],
				after[i])
		}
	}
	for _, e := range endpoints {
		if n := count[e]; n < keys/4*9/10 || n > keys/4*11/10 {
			t.Errorf("%s has %d of %d keys, want about a quarter", e, n, keys)
		}
	}
}

// both is a socket that sends as a Push and receives as a Pull, as DEALER does (RFC 28).
type both struct {
	*Socket
	receiver
	sender
}

func newBoth(cfg Config) *both {
	s := new(both)
	s.Socket = NewSocket(wire.DEALER, (*bothPattern)(s), cfg)
	s.receiver = newReceiver(s.Socket)
	s.balancer = &loadBalancer{memory: s.memory}
	s.sender = newSender(s.Socket, s.balancer, nil)
	return s
}

type bothPattern both

func (s *bothPattern) Attach(p *Peer) error            { s.balancer.attach(p); return nil }
func (s *bothPattern) Receive(p *Peer, b *Batch) error { s.deliver(p, b); return nil }
func (*bothPattern) Detach(*Peer, error)               {}

// The load balancer and the fair queue serve one socket together: messages wait for an endpoint
// without a peer, and are received from the peers in turn.
func TestLoadBalancerWithFairQueue(t *testing.T) {
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		ctx := t.Context()
		client := newBoth(inMemory(n, Config{}))
		defer closeNow(t, client)
		if err := client.Connect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{"1", "2"} {
			if err := client.Send(ctx, NewMessageString(m)); err != nil {
				t.Fatal(err)
			}
		}
		server := newBoth(Config{})
		defer closeNow(t, server)
		bind(t, n, server.Socket, addr)
		for _, want := range []string{"1", "2"} {
			if m, err := server.Recv(ctx); err != nil || text(m) != want {
				t.Fatalf("received %q, %v, want %q", text(m), err, want)
			}
		}
		if err := server.Send(ctx, NewMessageString("answer")); err != nil {
			t.Fatal(err)
		}
		if m, err := client.Recv(ctx); err != nil || text(m) != "answer" {
			t.Fatalf("received %q, %v", text(m), err)
		}
		// Two clients are received from in turn.
		second := newBoth(inMemory(n, Config{}))
		defer closeNow(t, second)
		if err := second.Connect("tcp://" + addr); err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{"1", "2", "3"} {
			client.TrySend(NewMessageString("a" + m))
			synctest.Wait()
			second.TrySend(NewMessageString("b" + m))
			synctest.Wait()
		}
		if got := received(t, server); !slices.Equal(got,
			[]string{"a1", "b1", "a2", "b2", "a3", "b3"}) {
			t.Errorf("received %q", got)
		}
	})
}
