package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http/httptest"
	osexec "os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"zmtpd/forwarder/store"
	"zmtpd/zmtp/testkit"
)

// revocable is an Access that can take its permissions back.
type revocable struct {
	passwords
	revoked atomic.Bool
}

func (r *revocable) Current(*User) bool { return !r.revoked.Load() }

// redis-cli works as it is, in both protocols.
func TestRedisCLI(t *testing.T) {
	program, err := osexec.LookPath("redis-cli")
	if err != nil {
		t.Fatal("redis-cli is missing; run make test-deps: ", err)
	}
	_, address := serve(t, Config{Access: passwords{"default": {Name: "default"},
		"worker": {Name: "worker"}}})
	host, port, _ := strings.Cut(address, ":")
	for _, test := range [][2]string{
		{"-2 SET a hello", "OK"},
		{"-3 SET a hello", "OK"},
		{"--user worker SET a hello", "OK"},
		{"-3 --json HGETALL none", "{}"},
		{"PING", "PONG"},
		{"--scan --pattern a*", "a"},
		{"--bigkeys", "Biggest string found"},
		{"-3 INFO server", "redis_version:7.0.15"},
		{"COMMAND COUNT", fmt.Sprint(len(commands))},
		{"CONFIG SET save 1", "ERR CONFIG SET failed"},
		{"NOSUCH", "ERR unknown command"},
		{"-3 CLIENT ID", ""},
		{"-n 0 DBSIZE", "1"},
		{"-n 7 DBSIZE", "ERR DB index is out of range"},
		{"--stat -i 0.001 -r 1 --help", "redis-cli"},
	} {
		args, want := test[0], test[1]
		words := append([]string{"-h", host, "-p", port}, strings.Fields(args)...)
		cmd := osexec.CommandContext(t.Context(), program, words...)
		password := "default-secret"
		if strings.Contains(args, "worker") {
			password = "worker-secret"
		}
		cmd.Env = append(testkit.Environ(), "REDISCLI_AUTH="+password)
		cmd.Stdin = strings.NewReader("")
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) {
			t.Errorf("redis-cli %s: %s, want %s", args, out, want)
		}
	}
	cmd := osexec.CommandContext(t.Context(), program, "-h", host, "-p", port, "--pipe")
	cmd.Env = append(testkit.Environ(), "REDISCLI_AUTH=default-secret")
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "SET pipe:%d %d\r\n", i, i)
	}
	cmd.Stdin = strings.NewReader(text.String())
	if out, err := cmd.CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "errors: 0, replies: 10000") {
		t.Errorf("redis-cli --pipe: %s %v", out, err)
	}
}

// go-redis works as it is: pipelines, transactions, iterators, and the notices of a server that
// has passwords.
func TestGoRedis(t *testing.T) {
	_, address := serve(t, Config{Access: passwords{"zeek": {Name: "zeek"}}}, "one", "two")
	ctx := t.Context()
	for _, protocol := range []int{2, 3} {
		c := goredis.NewClient(&goredis.Options{Addr: address, Protocol: protocol, DB: 1,
			Username: "zeek", Password: "zeek-secret", ClientName: "test"})
		defer c.Close()
		for i := range 25 {
			if err := c.Set(ctx, fmt.Sprint("key", i), i, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
		}
		n, it := 0, c.Scan(ctx, 0, "key*", 3).Iterator()
		for it.Next(ctx) {
			n++
		}
		if n != 25 || it.Err() != nil {
			t.Error(n, it.Err())
		}
		var incr *goredis.IntCmd
		_, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error {
			p.Set(ctx, "n", 5, 0)
			incr = p.Incr(ctx, "n")
			return nil
		})
		if err != nil || incr.Val() != 6 {
			t.Error(err, incr)
		}
		err = c.Watch(ctx, func(tx *goredis.Tx) error {
			_, err := tx.TxPipelined(ctx, func(p goredis.Pipeliner) error {
				p.Incr(ctx, "n")
				return nil
			})
			return err
		}, "n")
		if v := c.Get(ctx, "n").Val(); err != nil || v != "7" {
			t.Error(err, v)
		}
		if d := c.TTL(ctx, "key1").Val(); d <= 59*time.Minute || d > time.Hour {
			t.Error(d)
		}
		c.FlushDB(ctx)
	}
}

// Subscribers get the changes of keys, whoever makes them, as Redis would have told them.
func TestKeyspaceEvents(t *testing.T) {
	s, address := serve(t, Config{})
	socket := redisServer(t)
	for _, protocol := range []int{2, 3} {
		var all [2][]string
		for i, server := range []string{address, socket} {
			c := connect(t, server, protocol)
			ctx := context.Background()
			sub := c.PSubscribe(ctx, "__key*@0__:*")
			if _, err := sub.Receive(ctx); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"SET", "a", "1"}, {"EXPIRE", "a", "100"},
				{"PERSIST", "a"}, {"DEL", "a"}, {"SADD", "s", "x"}, {"SREM", "s", "x"}, {"RPUSH", "l", "x", "y"},
				{"LPOP", "l"}, {"DEL", "l"}, {"HSET", "h", "a", "1"}, {"HSET", "h", "b", "1"},
				{"HDEL", "h", "a"}, {"DEL", "h"}, {"ZADD", "z", "1", "a"}, {"DEL", "z"},
				{"SET", "p", "1"}, {"PEXPIRE", "p", "1"}} {
				ask(c, args)
			}
			for msg := range sub.Channel() {
				all[i] = append(all[i], msg.Channel+" "+msg.Payload)
				if msg.Channel == "__keyevent@0__:expired" {
					break
				}
			}
			sub.Close()
		}
		// An emptied set is erased: Redis tells of the removal too.
		theirs := slices.DeleteFunc(all[1], func(text string) bool {
			return strings.Contains(text, "srem") || strings.HasSuffix(text, ":srem s")
		})
		if !slices.Equal(all[0], theirs) {
			t.Errorf("%q\nredis-server:\n%q", all[0], theirs)
		}
	}
	testkit.Eventually(t, "the subscribers are gone", func() bool {
		return s.Stats().Subscribers == 0
	})
}

// Changes of other programs are told too, to those who may read the key.
func TestKeyspaceEventsOfOthers(t *testing.T) {
	access := passwords{"a": {Name: "a", Allow: func(_ string, key []byte, _ bool) bool {
		return strings.HasPrefix(string(key), "a")
	}}}
	s, address := serve(t, Config{Access: access})
	c := dial(t, address)
	io.WriteString(c, "AUTH a a-secret\r\nPSUBSCRIBE __keyspace*\r\n")
	head := "+OK\r\n*3\r\n$10\r\npsubscribe\r\n$11\r\n__keyspace*\r\n:1\r\n"
	if b := make([]byte, len(head)); true {
		io.ReadFull(c, b)
		if string(b) != head {
			t.Fatalf("%q", b)
		}
	}
	for _, key := range []string{"b1", "a1"} {
		if err := s.stores[0].Update(t.Context(), "other", func(tx *store.Tx) error {
			return tx.Put(store.Text(key), store.Text("v"), time.Time{})
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := "*4\r\n$8\r\npmessage\r\n$11\r\n__keyspace*\r\n$17\r\n__keyspace@0__:a1\r\n" +
		"$3\r\nset\r\n"
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Errorf("%q %v", b, err)
	}
}

// What Zeek's Storage backend sends works (storage/backend/redis/Redis.cc): AUTH and INFO, PUT with
// and without overwriting, GET, ERASE, and expiry in pcaps with a sorted set.
func TestZeek(t *testing.T) {
	_, address := serve(t, Config{Access: passwords{"default": {Name: "default"}}})
	at := fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())
	var text strings.Builder
	var want strings.Builder
	for _, x := range [][2]string{
		{`AUTH default-secret`, "+OK\r\n"},
		{`SET "p:\"key\"" "\"value\"" NX PXAT ` + at, "+OK\r\n"},
		{`SET "p:\"key\"" "\"other\"" NX PXAT ` + at, "$-1\r\n"},
		{`GET "p:\"key\""`, "$7\r\n\"value\"\r\n"},
		{`SET "p:\"key\"" "\"other\""`, "+OK\r\n"},
		{`DEL "p:\"key\""`, ":1\r\n"},
		{`GET "p:\"key\""`, "$-1\r\n"},
		{`ZADD p_expire NX 1700000000.250000 "\"key\""`, ":1\r\n"},
		{`ZADD p_expire 1700000001.000000 "\"key\""`, ":0\r\n"},
		{`ZRANGEBYSCORE p_expire -inf 1700000000.500000`, "*0\r\n"},
		{`ZRANGEBYSCORE p_expire -inf 1700000002.000000`, "*1\r\n$5\r\n\"key\"\r\n"},
		{`ZREMRANGEBYSCORE p_expire -inf 1700000002.000000`, ":1\r\n"},
	} {
		text.WriteString(x[0] + "\r\n")
		want.WriteString(x[1])
	}
	if got := talk(t, address, text.String()); got != want.String() {
		t.Errorf("%q\n%q", got, want.String())
	}
	if got := talk(t, address, "AUTH default-secret\r\nINFO server\r\n"); !strings.Contains(got,
		"redis_version:7.0.15\r\n") {
		t.Error(got)
	}
}

// go-redis works over TLS. A client that speaks none is refused and counted.
func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate, which is one for 127.0.0.1
	defer web.Close()
	s, address := serve(t, Config{TLS: &tls.Config{Certificates: web.TLS.Certificates}})
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	c := goredis.NewClient(&goredis.Options{Addr: address, TLSConfig: &tls.Config{RootCAs: roots}})
	defer c.Close()
	if err := c.Set(t.Context(), "a", strings.Repeat("x", 100_000), 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(t.Context(), "a").Result(); err != nil || len(got) != 100_000 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if got := talk(t, address, "PING\r\n"); strings.Contains(got, "PONG") {
		t.Errorf("without TLS: %q", got)
	}
	testkit.Eventually(t, "the refusal", func() bool { return s.Stats().Refused[BadHandshake] == 1 })
}
