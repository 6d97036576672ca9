package redis

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
	"zmtpd/zmtp/memory"
	"zmtpd/zmtp/testkit"
)

// passwords is an Access with one client for each name, whose password is its name and "-secret".
type passwords map[string]*User

func (p passwords) Login(name, password string) *User {
	if u := p[name]; u != nil && password == name+"-secret" {
		return u
	}
	return nil
}

func (p passwords) Anonymous() *User     { return nil }
func (p passwords) Current(u *User) bool { return p[u.Name] == u }

// Whatever is too large is refused before memory is allocated for it, with an error, and counted.
func TestHostileRequests(t *testing.T) {
	huge := "*2\r\n$3\r\nGET\r\n$100000000\r\n"
	for _, test := range []struct {
		name   string
		access Access
		text   string
		answer string
		reason Reason
	}{
		{"bulk length", nil, "*1\r\n$4611686018427387904\r\n",
			"-ERR Protocol error: invalid bulk length\r\n", TooBig},
		{"million arguments", nil, "*1000000\r\n" + strings.Repeat("$1\r\na\r\n", 10_000),
			"-ERR Protocol error: invalid multibulk length\r\n", TooManyArguments},
		{"arguments of 2^62", nil, "*4611686018427387904\r\n",
			"-ERR Protocol error: invalid multibulk length\r\n", TooManyArguments},
		{"endless inline command", nil, strings.Repeat("x", 1<<20),
			"-ERR Protocol error: too big inline request\r\n", TooBig},
		{"key of 100 MB", nil, huge + strings.Repeat("k", 1<<20),
			"-ERR Protocol error: invalid bulk length\r\n", TooBig},
		{"sum of the arguments", nil, "*3\r\n$3\r\nSET\r\n$15000000\r\n" +
			strings.Repeat("k", 15_000_000) + "\r\n$15000000\r\n",
			"-ERR Protocol error: invalid bulk length\r\n", TooBig},
		{"bulk before authentication", passwords{}, "*1\r\n$20000\r\n",
			"-ERR Protocol error: unauthenticated bulk length\r\n", NotAuthenticated},
		{"array before authentication", passwords{}, "*11\r\n",
			"-ERR Protocol error: unauthenticated multibulk length\r\n", NotAuthenticated},
		{"no protocol", nil, "*1\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n",
			BadRequest},
		{"HTTP", nil, "POST / HTTP/1.1\r\nHost: zmtpd\r\n\r\n", "", HTTPRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, address := serve(t, Config{Access: test.access})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c := dial(t, address)
			go io.WriteString(c, test.text) // the server may close before it has all of it
			got := make([]byte, len(test.answer))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != test.answer {
				t.Fatalf("%q, %v, want %q", got, err, test.answer)
			}
			io.Copy(io.Discard, c) // until the server closes
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
				t.Errorf("%d bytes were allocated", n)
			}
			if n := s.Stats().Refused[test.reason]; n != 1 {
				t.Errorf("%v was counted %d times", test.reason, n)
			}
		})
	}
}

// A client that sends part of a large request holds only as much memory as it has sent.
func TestHostileUnfinished(t *testing.T) {
	budget := memory.New(8<<20, nil)
	_, address := serve(t, Config{Memory: budget})
	for range 20 {
		c := dial(t, address)
		io.WriteString(c, "*2\r\n$3\r\nGET\r\n$16000000\r\nabc")
	}
	if got := talk(t, address, "PING\r\n"); got != "+PONG\r\n" {
		t.Fatal(got)
	}
	if st := budget.Stats(); st.Used > 1<<20 {
		t.Errorf("%d bytes are reserved", st.Used)
	}
}

// A client that reads nothing is closed when its answers have waited for too long, and others are
// not held up.
func TestHostileSlowReader(t *testing.T) {
	s, address := serve(t, Config{WriteTimeout: 200 * time.Millisecond, MaxReply: 1 << 20})
	talk(t, address, "SET big "+strings.Repeat("v", 60_000)+"\r\n")
	c := dial(t, address)
	c.(*net.TCPConn).SetReadBuffer(4096)
	go func() { // fails when the server closes
		for {
			if _, err := io.WriteString(c, strings.Repeat("GET big\r\n", 1000)); err != nil {
				return
			}
		}
	}()
	testkit.Eventually(t, "the client is closed", func() bool {
		if got := talk(t, address, "PING\r\n"); got != "+PONG\r\n" {
			t.Fatal(got)
		}
		return s.Stats().Refused[SlowReader] == 1
	})
	if n := s.Stats().BytesOut; n > 32<<20 {
		t.Errorf("%d bytes were written to a client that reads nothing", n)
	}
}

// An answer that would be too large is an error, and the connection ends.
func TestHostileAnswer(t *testing.T) {
	s, address := serve(t, Config{MaxReply: 1 << 20})
	talk(t, address, "SET big "+strings.Repeat("v", 60_000)+"\r\n")
	want := "-" + errMemory + "\r\n"
	if got := talk(t, address, "MGET"+strings.Repeat(" big", 30)+"\r\nPING\r\n"); got != want {
		t.Errorf("%.100q", got)
	}
	if got := talk(t, address, "MULTI\r\n"+strings.Repeat("GET big\r\n", 30)+"EXEC\r\n"); got !=
		"+OK\r\n"+strings.Repeat("+QUEUED\r\n", 30)+want {
		t.Errorf("%.100q", got)
	}
	if n := s.Stats().Refused[NoMemory]; n != 2 {
		t.Error("refused:", n)
	}
}

// The requests of a transaction are bounded together.
func TestHostileTransaction(t *testing.T) {
	_, address := serve(t, Config{MaxRequest: 1 << 20})
	set := "SET a " + strings.Repeat("v", 60_000) + "\r\n"
	got := talk(t, address, "MULTI\r\n"+strings.Repeat(set, 30)+"EXEC\r\nGET a\r\n")
	if !strings.Contains(got, errMemory) || !strings.HasSuffix(got, "$-1\r\n") ||
		!strings.Contains(got, "EXECABORT") {
		t.Errorf("%.1000q", got)
	}
}

// Who does not authenticate is closed after a while, and so is who guesses.
func TestHostileUnauthenticated(t *testing.T) {
	s, address := serve(t, Config{Access: passwords{}, AuthTimeout: 100 * time.Millisecond})
	c := dial(t, address)
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%q %v", b, err)
	}
	got := talk(t, address, strings.Repeat("AUTH default wrong\r\n", 20))
	if n := strings.Count(got, "-WRONGPASS"); n != maxGuesses {
		t.Errorf("%d wrong passwords were answered", n)
	}
	got = talk(t, address, "GET a\r\nSET a 1\r\nINFO\r\nNOSUCH\r\nCLIENT ID\r\nSUBSCRIBE a\r\n")
	if n := strings.Count(got, "-NOAUTH"); n != 6 {
		t.Errorf("%q", got)
	}
	st := s.Stats().Refused
	if st[AuthTimeout] != 1 || st[GuessedTooOften] != 1 || st[NotAuthenticated] != 6 {
		t.Error(st)
	}
}

// Connections are limited in total and by address.
func TestHostileConnections(t *testing.T) {
	for reason, cfg := range map[Reason]Config{
		TooManyClients:    {MaxClients: 3, MaxClientsPerAddress: -1},
		TooManyPerAddress: {MaxClients: 100, MaxClientsPerAddress: 3},
	} {
		s, address := serve(t, cfg)
		for range 3 {
			c := dial(t, address)
			io.WriteString(c, "PING\r\n")
			io.ReadFull(c, make([]byte, 7))
		}
		c := dial(t, address)
		if b, _ := io.ReadAll(c); string(b) != "-ERR max number of clients reached\r\n" {
			t.Errorf("%q", b)
		}
		if st := s.Stats(); st.Refused[reason] != 1 || st.Clients != 3 {
			t.Error(st)
		}
	}
}

// A subscriber that does not read is closed; the store and others go on.
func TestHostileSubscriber(t *testing.T) {
	s, address := serve(t, Config{QueueBytes: 64 << 10, WriteTimeout: testkit.Patience})
	c := dial(t, address)
	c.(*net.TCPConn).SetReadBuffer(4096)
	io.WriteString(c, "PSUBSCRIBE *\r\n")
	io.ReadFull(c, make([]byte, 10))
	testkit.Eventually(t, "the subscriber is closed", func() bool {
		talk(t, address, strings.Repeat("SET "+strings.Repeat("k", 10_000)+" 1\r\n", 100))
		return s.Stats().Refused[SlowSubscriber] > 0
	})
}

// A connection that holds much memory is closed by the budget.
func TestHostileMemory(t *testing.T) {
	budget := memory.New(1<<20, nil)
	s, address := serve(t, Config{Memory: budget})
	for range 3 {
		c := dial(t, address)
		go func() {
			io.WriteString(c, "*2\r\n$3\r\nGET\r\n$16000000\r\n")
			io.WriteString(c, strings.Repeat("k", 15_000_000))
		}()
	}
	testkit.Eventually(t, "a client is closed", func() bool {
		return s.Stats().Refused[MemoryExhausted] > 0
	})
}

// Permissions are those of a store and a prefix of its keys.
func TestAccess(t *testing.T) {
	access := passwords{
		"sensor": {Name: "sensor", Allow: func(name string, key []byte, write bool) bool {
			return name == "zeek" && key != nil && strings.HasPrefix(string(key), "scan:") &&
				(!write || !strings.HasPrefix(string(key), "scan:ro")) &&
				(write || !strings.HasPrefix(string(key), "scan:w"))
		}},
		"default": {Name: "default"},
	}
	s, address := serve(t, Config{Access: access}, "zeek", "other")
	admin := "AUTH default-secret\r\n"
	got := talk(t, address, admin+"MSET scan:a 1 scan:ro 2 b 3\r\nSELECT 1\r\nSET scan:x 1\r\n")
	if got != "+OK\r\n+OK\r\n+OK\r\n+OK\r\n" {
		t.Fatal(got)
	}
	denied := "-" + errDenied + "\r\n"
	for request, want := range map[string]string{
		"GET scan:a": "$1\r\n1\r\n", "GET b": denied, "SET scan:a 5": "+OK\r\n", "SET b 5": denied,
		"GET scan:ro": "$1\r\n2\r\n", "DEL scan:ro": denied, "MGET scan:a b": denied,
		"MSET scan:a b b 1": denied, "KEYS *": "*2\r\n$6\r\nscan:a\r\n$7\r\nscan:ro\r\n",
		"SCAN 0": "*2\r\n$1\r\n0\r\n*2\r\n$6\r\nscan:a\r\n$7\r\nscan:ro\r\n", "FLUSHDB": denied,
		"DBSIZE": denied, "SELECT 1\r\nGET scan:x": "+OK\r\n" + denied, "WATCH b": denied,
		"MULTI\r\nGET b\r\nEXEC": "+OK\r\n" + denied +
			"-EXECABORT Transaction discarded because of previous errors.\r\n",
		"SET scan:w 5 GET": denied, "GETSET scan:w 1": denied, "SET scan:w 5": "+OK\r\n",
		"HELLO 3 AUTH sensor wrong": "-" + errPassword + "\r\n", "PING": "+PONG\r\n",
	} {
		got := talk(t, address, "AUTH sensor sensor-secret\r\n"+request+"\r\n")
		if got != "+OK\r\n"+want && got != want {
			t.Errorf("%s: %q, want %q", request, got, want)
		}
		talk(t, address, admin+"SET scan:a 1\r\n")
	}
	if s.Stats().Refused[Denied] == 0 {
		t.Error("no denial was counted")
	}
	if e := s.stores[0].Get(store.Text("scan:a")); e.Who != "default" {
		t.Error("the author of the change is", e.Who)
	}
}

// A client whose permissions end is closed.
func TestAccessEnds(t *testing.T) {
	users := &revocable{passwords: passwords{"default": {Name: "default"}}}
	s, address := serve(t, Config{Access: users})
	c := dial(t, address)
	io.WriteString(c, "AUTH default-secret\r\n")
	io.ReadFull(c, make([]byte, 5))
	users.revoked.Store(true)
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%q %v", b, err)
	}
	if n := s.Stats().Refused[AccessChanged]; n != 1 {
		t.Error(n)
	}
}

// Requests that have arrived are answered before Shutdown closes a connection.
func TestShutdown(t *testing.T) {
	s, address := serve(t, Config{})
	c := dial(t, address)
	r := bufio.NewReader(c)
	for i := range 1000 {
		fmt.Fprintf(c, "RPUSH l %d\r\n", i)
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if i == 500 {
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			defer cancel()
			go s.Shutdown(ctx)
			break
		}
	}
	if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
		t.Errorf("%q %v", b, err)
	}
}

// Programs with types see what clients of Redis have written, and the other way round.
func TestTypes(t *testing.T) {
	s, address := serve(t, Config{})
	talk(t, address, "SET s text\r\nINCR n\r\nSADD set b a\r\nRPUSH list x y\r\nHSET hash f v\r\n"+
		"ZADD zset 1.5 m\r\n")
	for key, want := range map[string]any{
		"s": "text", "n": int64(1), "set": event.Set{"a", "b"}, "list": event.Vector{"x", "y"},
		"hash": event.Table{{Key: "f", Value: "v"}}, "zset": event.Table{{Key: "m", Value: 1.5}},
	} {
		if got := fmt.Sprintf("%#v", s.stores[0].Get(store.Text(key)).Value.Raw().Value()); got !=
			fmt.Sprintf("%#v", want) {
			t.Errorf("%s: %s, want %#v", key, got, want)
		}
	}
	err := s.stores[0].Update(t.Context(), "test", func(tx *store.Tx) error {
		for key, v := range map[string]any{"count": uint64(7), "addr": event.Enum("Notice::LOG"),
			"interval": 90 * time.Second, "ids": event.Set{uint64(1), uint64(2)}, "flag": true} {
			r, err := store.Make(v)
			if err == nil {
				err = tx.Put(store.Text(key), r, time.Time{})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := talk(t, address, "INCR count\r\nGET count\r\nDECRBY count 9\r\nGET addr\r\n"+
		"GET interval\r\nSMEMBERS ids\r\nTYPE ids\r\nGET flag\r\nINCR interval\r\n")
	want := ":8\r\n$1\r\n8\r\n-ERR increment or decrement would overflow\r\n$11\r\n" +
		"Notice::LOG\r\n$5\r\n1m30s\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n+set\r\n$1\r\nT\r\n-" + errInteger + "\r\n"
	if got != want {
		t.Errorf("%q\n%q", got, want)
	}
	if n, ok := s.stores[0].Get(store.Text("count")).Value.Raw().Count(); n != 8 || !ok {
		t.Error("the count is no count any more")
	}
}
