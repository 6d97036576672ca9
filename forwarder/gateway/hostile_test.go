package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"zmtpd/zmtp/testkit"
)

// vector is the text of a vector in broker-json-v1.
func vector(elements string) string { return `{"@data-type":"vector","data":[` + elements + `]}` }

// TestHostile: each attack ends with a clear answer and a counter, and a bystander keeps its
// connection and its events.
func TestHostile(t *testing.T) {
	g := serve(t, Config{MaxMessageSize: 1 << 20, Clients: writeFile(t, clientsFile)})
	as := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	bystander := g.dial(t, Path, as(tokenFree)...)
	bystander.send(`["t"]`)
	bystander.acknowledged()
	watch := g.publisher(t, as(tokenFree)...)

	request := func(method, target, headers string) string {
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n", method, target, headers)
		answer, _ := io.ReadAll(io.LimitReader(conn, 4096))
		return string(answer)
	}
	auth := "Authorization: Bearer " + tokenFree + "\r\nConnection: close\r\n"
	for _, attack := range []struct {
		name   string
		reason Reason
		do     func(c *connection)
	}{
		{"no token", Unauthorized, func(*connection) {
			if a := request("GET", Path, "Connection: close\r\n"); !strings.Contains(a, " 401 ") ||
				!strings.Contains(a, "token") {
				t.Error(a)
			}
		}},
		{"a token that is almost right", Unauthorized, func(*connection) {
			if a := request("GET", Path, "Connection: close\r\nAuthorization: Bearer "+
				tokenFree[1:]+"\r\n"); !strings.Contains(a, " 401 ") {
				t.Error(a)
			}
		}},
		{"no upgrade", BadHandshake, func(*connection) {
			if a := request("GET", Path, auth); !strings.Contains(a, " 426 ") {
				t.Error(a)
			}
		}},
		{"a page of another origin", BadOrigin, func(*connection) {
			_, r, err := websocket.Dial(testContext(t), "ws://"+g.address+Path,
				&websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"},
					"Authorization": {"Bearer " + tokenFree}}})
			if err == nil || r.StatusCode != http.StatusForbidden {
				t.Error(r, err)
			}
		}},
		{"wrong path", InvalidURI, func(*connection) {
			c := g.dial(t, "/", as(tokenFree)...)
			if got := c.receive(); !strings.Contains(got, "invalid_uri") {
				t.Error(got)
			}
			c.closed(websocket.StatusPolicyViolation)
		}},
		{"a first message that is no JSON", BadSubscriptions, func(c *connection) {
			c.send("\x00[")
			if got := c.receive(); !strings.Contains(got, "subscriptions not an array") {
				t.Error(got)
			}
		}},
		{"a first message of brackets", BadSubscriptions, func(c *connection) {
			c.send(strings.Repeat("[", 1<<19))
			if got := c.receive(); !strings.Contains(got, "subscriptions not an array") {
				t.Error(got)
			}
		}},
		{"thousands of subscriptions", TooManyTopics, func(c *connection) {
			all := make([]string, maxTopics+1)
			for i := range all {
				all[i] = fmt.Sprint(i)
			}
			text, _ := json.Marshal(all)
			c.send(string(text))
			if got := c.receive(); !strings.Contains(got, "too_many_subscriptions") {
				t.Error(got)
			}
			c.closed(websocket.StatusPolicyViolation)
		}},
		{"long subscriptions", TooManyTopics, func(c *connection) {
			c.send(`["` + strings.Repeat("x", maxTopicBytes+1) + `"]`)
			c.closed(websocket.StatusPolicyViolation)
		}},
		{"somebody else's topic", SubscribeDenied, func(*connection) {
			c := g.dial(t, Path, as(tokenBound)...)
			c.send(`["app.", ""]`)
			if got := c.receive(); !strings.Contains(got, "not_permitted") {
				t.Error(got)
			}
			c.closed(websocket.StatusPolicyViolation)
		}},
		{"an event in somebody else's topic", PublishDenied, func(*connection) {
			c := g.publisher(t, as(tokenBound)...)
			c.send(ping("t", "x", 1))
			if got := c.receive(); !strings.Contains(got, "not_permitted") {
				t.Error(got)
			}
		}},
		{"an event that is no JSON", BadJSON, func(c *connection) {
			c.send("[]")
			c.acknowledged()
			c.send(strings.Repeat(`{"a":`, 1<<16))
			if got := c.receive(); !strings.Contains(got, "failed to decode JSON object") {
				t.Error(got)
			}
		}},
		{"deep nesting", BadJSON, func(c *connection) {
			c.send("[]")
			c.acknowledged()
			deep := ""
			for range 100 {
				deep = vector(deep)
			}
			c.send(`{"topic":"t",` + deep[1:])
			if got := c.receive(); !strings.Contains(got, "failed to decode JSON object") {
				t.Error(got)
			}
		}},
		{"metadata that crash Zeek", BadEvent, func(c *connection) {
			c.send("[]")
			c.acknowledged()
			one := `{"@data-type":"count","data":1}`
			name := `{"@data-type":"string","data":"ping"}`
			c.send(`{"topic":"t",` + vector(one + "," + one + "," +
				vector(name+","+vector("")+","+vector(vector(one))))[1:])
			if got := c.receive(); !strings.Contains(got, "failed to create Zeek event") {
				t.Error(got)
			}
		}},
		{"a topic that is too long", BadTopic, func(c *connection) {
			c.send("[]")
			c.acknowledged()
			c.send(ping(strings.Repeat("t", maxTopic+1), "x", 1))
			if got := c.receive(); !strings.Contains(got, "invalid_topic") {
				t.Error(got)
			}
		}},
		{"a message of 100 MB", MessageTooBig, func(c *connection) {
			c.send("[]")
			c.acknowledged()
			w, err := c.Writer(c.ctx, websocket.MessageText)
			if err != nil {
				t.Fatal(err)
			}
			chunk := []byte(strings.Repeat(" ", 1<<20))
			for range 100 {
				if _, err := w.Write(chunk); err != nil {
					break
				}
			}
			reason := c.closed(websocket.StatusMessageTooBig)
			if !strings.Contains(reason, "1048577") { // coder/websocket reads one more
				t.Error(reason)
			}
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			var c *connection
			before := g.Stats().Refused[attack.reason]
			c = g.dial(t, Path, as(tokenFree)...)
			attack.do(c)
			testkit.Eventually(t, "counted", func() bool {
				return g.Stats().Refused[attack.reason] == before+1
			})
			c.CloseNow()
			watch.send(ping("t", attack.name, 1))
			if got := bystander.receive(); !strings.Contains(got, attack.name) {
				t.Errorf("the bystander received %s", got)
			}
		})
	}
}

// TestFlood: a client that sends as fast as it can is slowed down, and is not closed for it,
// although its answers to pings are read late.
func TestFlood(t *testing.T) {
	g := serve(t, Config{Rate: 2, PingInterval: 2 * time.Second})
	flood, c := g.publisher(t), g.subscribed(t, "t")
	flood.CloseRead(flood.ctx) // it answers pings
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range 8 {
			flood.send(ping("t", "flood", i))
		}
	}()
	other := g.publisher(t)
	other.CloseRead(other.ctx)
	other.send(ping("t", "other", 1))
	flooded, others := 0, 0
	for flooded+others < 9 {
		if got := c.receive(); strings.Contains(got, "other") {
			others++
		} else {
			flooded++
		}
	}
	<-sent
	if others != 1 || flooded != 8 {
		t.Errorf("%d events of the flood and %d others, want 8 and 1", flooded, others)
	}
	throttled := uint64(0)
	for _, one := range g.Stats().ByClient {
		throttled += one.Throttled
	}
	if throttled == 0 {
		t.Error("no message waited for the rate limit")
	}
}

// TestApplications: the clients and applications that are counted apart are bounded.
func TestApplications(t *testing.T) {
	a := newAccounts()
	for i := range 10 * maxCounters {
		a.of("", fmt.Sprint(i)).connections.Add(1)
		a.class([]byte(fmt.Sprint(i))).in.Add(1)
	}
	if n := len(a.byClient); n != maxCounters {
		t.Errorf("%d clients and applications, want %d", n, maxCounters)
	}
	if n := len(a.classes); n != maxClasses {
		t.Errorf("%d topic classes, want %d", n, maxClasses)
	}
}
