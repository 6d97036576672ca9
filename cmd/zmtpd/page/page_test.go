package page

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves a page whose status is a number that counts how often it was asked for.
func serve(t *testing.T) (p *Page, url string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	p = New(func() ([]byte, error) { return fmt.Append(nil, asked.Add(1)), nil })
	mux := http.NewServeMux()
	p.Register(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		p.Close()
		server.Close()
	})
	return p, server.URL, asked
}

// watch opens the stream and returns its answer. It is closed with the test.
func watch(t *testing.T, url string) *http.Response {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Body.Close() })
	return r
}

// All viewers get the same statuses; one that does not read misses some and holds nobody up.
func TestStream(t *testing.T) {
	p, url, asked := serve(t)
	if n := asked.Load(); n != 0 {
		t.Errorf("the status was asked for %d times without a viewer", n)
	}
	watch(t, url) // reads nothing
	const viewers = 3
	var streams []*bufio.Reader
	for range viewers {
		streams = append(streams, bufio.NewReader(watch(t, url).Body))
	}
	for range 2 {
		for _, s := range streams {
			line, err := s.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "data: ") {
				t.Fatalf("%q, %v", line, err)
			}
			if empty, err := s.ReadString('\n'); err != nil || empty != "\n" {
				t.Fatalf("behind the event: %q, %v", empty, err)
			}
		}
	}
	if n := asked.Load(); n > 2*viewers {
		t.Errorf("the status was asked for %d times for 2 updates of %d viewers", n, viewers+1)
	}
	p.Close()
	for _, s := range streams {
		if _, err := io.Copy(io.Discard, s); err != nil {
			t.Error(err)
		}
	}
}

// When the last viewer has gone, nobody asks for the status any more, until the next one comes.
func TestStreamEndsWithLastViewer(t *testing.T) {
	p, url, _ := serve(t)
	running := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.running
	}
	for range 2 {
		r := watch(t, url)
		if _, err := bufio.NewReader(r.Body).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if !running() {
			t.Error("no updates for a viewer")
		}
		r.Body.Close()
		testkit.Eventually(t, "no more updates", func() bool { return !running() })
	}
}

func TestTooManyViewers(t *testing.T) {
	p, url, _ := serve(t)
	for range maxViewers {
		if _, ok := p.join(); !ok {
			t.Fatal("a viewer below the limit is refused")
		}
	}
	if r := watch(t, url); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %s", r.Status)
	}
}
