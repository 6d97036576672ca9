package top

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/gdamore/tcell/v2"
	"go.uber.org/goleak"

	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer serves texts as /status, the last one again and again.
func answer(t *testing.T, texts ...string) (address string) {
	t.Helper()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(texts[min(int(asked.Add(1)), len(texts))-1]))
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func poller(t *testing.T, addresses ...string) *Poller {
	t.Helper()
	p, err := NewPoller(addresses, testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// status is an answer with two subscribers and a log; n is the number of events so far.
func status(n int) string {
	return fmt.Sprintf(`{"version":"1","started":"2026-01-01T00:00:00Z","uptime_seconds":60,
"ready":true,"forwarder":{"received":{"messages":%d},"account":{"delivered":%d,"dropped":{"slow":3}},
"by_topic":{"zeek.cluster":{"messages":%d}},"websocket":{"by_client":[{"client":"soc",
"application":"board","connections":1,"events_out":%d,"dropped":2}]},"xsub":{"peers":[]},"xpub":{"peers":[
{"address":"10.0.0.1:1","node":"zeromq_worker-1_h_1_AA","sent":{"messages":%d},"queue":5},
{"address":"10.0.0.2:1","node":"zeromq_worker-2_h_2_BB","sent":{"messages":7},"queue":900,
"slow_since":"2026-01-01T00:00:00Z","account":{"dropped":{"slow":3}}}]}},
"logger":{"received":{"records":42},"pull":{"peers":[]},"sinks":[{"sink":"files","paths":[
{"path":"conn","received":{"records":42},"written":{"records":40},"queued":{"records":2}}]}]},
"store":{"stores":[{"name":"intel","keys":3,"bytes":2048,"reads":%d,"operations":{"put":1},"clones":2,
"clones_behind":7}],
"clones":[{"name":"hosts","keys":4,"behind":5,"stale":true}]}}`, n, n, n, n, n, n)
}

func TestRates(t *testing.T) {
	p := poller(t, answer(t, status(0), status(1000),
		strings.Replace(status(5), "2026-01-01", "2026-01-02", 1)))
	if d := p.Poll(t.Context()).Daemons[0]; d.EventsInRate != 0 || d.Error != "" {
		t.Errorf("the first answer: %+v", d)
	}
	s := p.Poll(t.Context())
	if d := s.Daemons[0]; d.EventsIn != 1000 || d.EventsInRate <= 0 || d.EventsLost != 3 {
		t.Errorf("the second answer: %+v", d)
	}
	if n := s.Nodes[0]; n.Node != "worker-1" || n.SentRate <= 0 || n.Sent != 1000 {
		t.Errorf("worker-1: %+v", n)
	}
	if c := s.Clients[0]; c.Client != "soc" || c.Sent != 1000 || c.SentRate <= 0 || c.Lost != 2 {
		t.Errorf("the WebSocket client: %+v", c)
	}
	if st := s.Stores[0]; st.Operations != 1001 || st.OperationRate <= 0 || st.Trouble != "" ||
		st.Clones != 2 || st.Behind != 7 {
		t.Errorf("the store: %+v", st)
	}
	if c := s.Stores[1]; !c.Clone || c.Keys != 4 || c.Behind != 5 || c.Trouble != "stale" {
		t.Errorf("the clone: %+v", c)
	}
	// The daemon was started again.
	if d := p.Poll(t.Context()).Daemons[0]; d.EventsIn != 5 || d.EventsInRate != 0 {
		t.Errorf("the answer of a new process: %+v", d)
	}
}

// terminal is a simulated terminal of 100 columns and 12 lines.
type terminal struct {
	tcell.SimulationScreen
	shown atomic.Value // string: what it shows
}

func (s *terminal) Init() error {
	err := s.SimulationScreen.Init()
	s.SetSize(100, 12)
	return err
}

func (s *terminal) Show() {
	s.SimulationScreen.Show()
	cells, width, _ := s.GetContents()
	var b strings.Builder
	for i, c := range cells {
		if i > 0 && i%width == 0 {
			b.WriteByte('\n')
		}
		b.WriteString(string(c.Runes))
	}
	s.shown.Store(b.String())
}

// text returns what the terminal shows.
func (s *terminal) text() string {
	shown, _ := s.shown.Load().(string)
	return shown
}

// press sends a key. It waits until Watch has started, since Init makes the queue of keys.
func (s *terminal) press(t *testing.T, key tcell.Key, c rune) {
	t.Helper()
	testkit.Eventually(t, "the start of the view", func() bool { return s.text() != "" })
	s.InjectKey(key, c, 0)
}

// watch runs Watch on a simulated terminal. done gets its error.
func watch(t *testing.T, p *Poller, o Options) (s *terminal, done <-chan error) {
	t.Helper()
	s = &terminal{SimulationScreen: tcell.NewSimulationScreen("UTF-8")}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- Watch(ctx, s, p, o) }()
	t.Cleanup(cancel)
	return s, ended
}

func TestKeys(t *testing.T) {
	s, done := watch(t, poller(t, answer(t, status(1))), Options{Interval: 10 * time.Millisecond})
	shows := func(what string, ok func(string) bool) {
		t.Helper()
		testkit.Eventually(t, what, func() bool { return ok(s.text()) })
	}
	before := func(a, b string) func(string) bool {
		return func(screen string) bool {
			i, j := strings.Index(screen, a), strings.Index(screen, b)
			return i >= 0 && i < j
		}
	}
	contains := func(text string) func(string) bool {
		return func(screen string) bool { return strings.Contains(screen, text) }
	}
	shows("the node with the longest queue first", before("worker-2", "worker-1"))
	s.press(t, tcell.KeyRune, 'r')
	shows("the reverse order", before("worker-1", "worker-2"))
	s.press(t, tcell.KeyRune, 'r')
	shows("the order again", before("worker-2", "worker-1"))
	s.press(t, tcell.KeyRune, '<')
	shows("the column to the left", contains("sent*"))
	s.press(t, tcell.KeyTab, 0)
	shows("the logs", contains("conn"))
	s.press(t, tcell.KeyTab, 0)
	shows("the topics", contains("zeek.cluster"))
	s.press(t, tcell.KeyTab, 0)
	shows("the WebSocket clients", contains("board"))
	s.press(t, tcell.KeyTab, 0)
	shows("the stores", contains("intel"))
	s.press(t, tcell.KeyRune, 'p')
	shows("the pause", contains("PAUSED"))
	s.press(t, tcell.KeyRune, '?')
	shows("the help", contains("next table"))
	s.press(t, tcell.KeyRune, 'q')
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testkit.Patience):
		t.Fatal("q does not quit")
	}
}

// More nodes than lines: the view scrolls, and no further than to the last one.
func TestScroll(t *testing.T) {
	var peers []string
	for i := range 50 {
		peers = append(peers, fmt.Sprintf(`{"address":"10.0.0.1:%d","node":"node-%02d"}`, i, i))
	}
	s, done := watch(t, poller(t, answer(t, `{"started":"2026-01-01T00:00:00Z","ready":true,`+
		`"forwarder":{"xpub":{"peers":[`+strings.Join(peers, ",")+`]}}}`)),
		Options{Interval: time.Hour})
	testkit.Eventually(t, "the first node", func() bool {
		return strings.Contains(s.text(), "node-00")
	})
	for range 3 {
		s.press(t, tcell.KeyEnd, 0)
		s.press(t, tcell.KeyDown, 0)
	}
	testkit.Eventually(t, "the last node", func() bool {
		return strings.Contains(s.text(), "node-49") &&
			!strings.Contains(s.text(), "node-00")
	})
	s.press(t, tcell.KeyHome, 0)
	testkit.Eventually(t, "the first node again", func() bool {
		return strings.Contains(s.text(), "node-00")
	})
	s.press(t, tcell.KeyCtrlC, 0)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What a hostile daemon answers reaches the terminal without control characters, in bounded size.
func TestHostileAnswers(t *testing.T) {
	evil, err := json.Marshal("\x1b]0;evil\x07\r\n\u202e\u0301\x00" + strings.Repeat("x", 5000))
	if err != nil {
		t.Fatal(err)
	}
	name := string(evil)
	for what, text := range map[string]string{
		"no JSON": "\x1b[2J", "an array": "[]", "another object": "{}",
		"an answer without end": strings.Repeat(" ", 33<<20),
		"negative numbers":      `{"started":"2026-01-01T00:00:00Z","forwarder":{"topics":-1}}`,
		"huge numbers": `{"started":"2026-01-01T00:00:00Z","uptime_seconds":1e300,"memory":` +
			`{"limit_bytes":-9223372036854775808,"used_bytes":9223372036854775807}}`,
		"evil texts": `{"started":"2026-01-01T00:00:00Z","version":` + name + `,"not_ready":` + name +
			`,"forwarder":{"by_topic":{` + name + `:{"messages":1}},"xpub":{"peers":[{"node":` + name +
			`,"address":` + name + `,"blocked_seconds":1e308}]},"websocket":{"by_client":[{"client":` +
			name + `,"application":` + name + `}]}},"store":{"stores":[{"name":` + name +
			`,"failure":` + name + `}],"clones":[{"name":` + name + `}]},"logger":{"sinks":[{"sink":` + name +
			`,"paths":[{"path":` + name + `}]}]}}`,
	} {
		s := poller(t, answer(t, text)).Poll(t.Context())
		shown, err := Text(s, "", false)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range shown {
			if c != '\n' && (!unicode.IsPrint(c) || unicode.IsMark(c)) {
				t.Errorf("%s: %q reaches the terminal", what, c)
			}
		}
		if len(shown) > 5000 {
			t.Errorf("%s: %d bytes of text", what, len(shown))
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, address := range []string{"", "ftp://x", "http://", "http://[::1"} {
		if _, err := NewPoller([]string{address}, time.Second); err == nil {
			t.Errorf("%q is taken for an address", address)
		}
	}
	p := poller(t, fmt.Sprintf("127.0.0.1:%d", testkit.ReservePort(t)))
	if s := p.Poll(t.Context()); s.Daemons[0].Error != "connection refused" {
		t.Errorf("%+v", s.Daemons)
	}
}
