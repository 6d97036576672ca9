package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"zmtpd/zmtp/memory"
)

// TestCrowd lets clients come and go, publish, receive and stop reading, all at the same time,
// while the configuration changes. At the end every event is accounted for, and nothing is left.
func TestCrowd(t *testing.T) {
	budget := memory.New(1<<30, nil)
	g := serve(t, Config{Memory: budget, QueueMessages: 8, PingInterval: time.Second, Rate: -1,
		MaxClientsPerAddress: -1})
	ctx := testContext(t)
	var crowd sync.WaitGroup
	for i := range 24 {
		crowd.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 4 {
				life(ctx, t, g, r)
			}
		})
	}
	gone := make(chan struct{})
	go func() { defer close(gone); crowd.Wait() }()
	for n := 0; ; n++ {
		select {
		case <-gone:
			g.end(t)
			if st := g.Stats(); st.Matched == 0 || st.Topics != 0 || g.f.Stats().Topics != 0 {
				t.Errorf("%d events for clients, %d topics are left", st.Matched, st.Topics)
			}
			if used := budget.Stats().Used; used != 0 {
				t.Errorf("%d bytes are used at the end: %v", used, budget.Stats().ByKind)
			}
			return
		case <-time.After(20 * time.Millisecond):
			g.Reconfigure(Config{QueueMessages: 4 + n%8, Overload: Policy(n % 3), Rate: -1,
				MaxClientsPerAddress: -1, PingInterval: time.Second})
			g.Stats()
			g.Poll()
		}
	}
}

// life is that of one client. Errors are part of it.
func life(ctx context.Context, t *testing.T, g *served, r *rand.Rand) {
	c, _, err := websocket.Dial(ctx, "ws://"+g.address+Path, &websocket.DialOptions{
		HTTPClient: smallClient,
		HTTPHeader: http.Header{"X-Application-Name": {fmt.Sprint("app", r.IntN(3))}}})
	if err != nil {
		t.Error(err)
		return
	}
	defer c.CloseNow()
	text := fmt.Sprintf(`["t%d.", "t%d."]`, r.IntN(4), r.IntN(4))
	c.Write(ctx, websocket.MessageText, []byte(text))
	for range r.IntN(60) {
		switch r.IntN(8) {
		case 0:
			c.Write(ctx, websocket.MessageText, []byte("nonsense"))
		case 1, 2:
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			c.Read(short) // closes the connection if nothing comes
			cancel()
		default:
			c.Write(ctx, websocket.MessageText,
				[]byte(ping(fmt.Sprintf("t%d.", r.IntN(4)), "crowd", r.IntN(100))))
		}
	}
	switch r.IntN(3) {
	case 0:
		c.Close(websocket.StatusNormalClosure, "")
	case 1:
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond) // it does not read
	}
}
