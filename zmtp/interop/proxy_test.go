//go:build unix

package interop

import (
	"fmt"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/proxy"
	"zmtpd/zmtp/testkit"
)

// TestProxyOfRequests is libzmq's test_proxy and test_reqrep_device: requests of libzmq's REQs go
// through our ROUTER and DEALER to its REPs, and each reply comes back to the one that asked.
func TestProxyOfRequests(t *testing.T) {
	t.Parallel()
	p := libzmq{startPeer(t)}
	router := zmtp.NewRouter(zmtp.Config{}, zmtp.RouterOptions{})
	defer router.Close()
	dealer := zmtp.NewDealer(zmtp.Config{}, zmtp.DealerOptions{})
	defer dealer.Close()
	front, err := router.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	back, err := dealer.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	queue, err := proxy.New(router, dealer, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- queue.Run(t.Context()) }()
	var reqs, reps []end
	for range 2 {
		req, rep := p.open(t, "REQ", options{}), p.open(t, "REP", options{})
		req.connect(front)
		rep.connect(back)
		reqs, reps = append(reqs, req), append(reps, rep)
	}
	for i := range 10 {
		for j, req := range reqs {
			req.send(fmt.Sprint(i), fmt.Sprint(j))
		}
		for range reqs {
			testkit.Eventually(t, "a request at one of the REPs", func() bool {
				for _, rep := range reps {
					if m, ok := rep.tryRecv(moment / 10); ok {
						rep.send(append(m, "answered")...)
						return true
					}
				}
				return false
			})
		}
		for j, req := range reqs {
			checkMessage(t, req.recv(), []string{fmt.Sprint(i), fmt.Sprint(j), "answered"})
		}
	}
	queue.Terminate()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if st := queue.Statistics(); st.Back.Out.Messages != 20 || st.Front.Out.Messages != 20 ||
		st.Front.Dropped+st.Back.Dropped != 0 {
		t.Errorf("%+v", st)
	}
}
