package redis

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"zmtpd/zmtp/testkit"
)

// connect returns go-redis as users have it, with RESP2 or RESP3.
func connect(t testing.TB, address string, protocol int) *goredis.Client {
	t.Helper()
	o := &goredis.Options{Addr: address, Protocol: protocol, MaxRetries: -1,
		ReadTimeout: testkit.Patience}
	if strings.HasPrefix(address, "/") {
		o.Network = "unix"
	}
	c := goredis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

// words are what arguments are drawn from: keys, members, fields and values that meet each other.
var (
	keyWords   = rapid.SampledFrom([]string{"k1", "k2", "k3", "key:a", "key:b"})
	valueWords = rapid.SampledFrom([]string{"", "a", "b", "c", "x y", "0", "1", "-1", "5", "007",
		"3.5", "9223372036854775807", "-9223372036854775808", "\x00\xff\r\n", "ä"})
	numberWords = rapid.SampledFrom([]string{"0", "1", "-1", "2", "-3", "5", "100", "-100", "1.5",
		"x", "", "+1", "01", " 1", "9223372036854775807", "-9223372036854775808",
		"9223372036854775808"})
	scoreWords = rapid.SampledFrom([]string{"0", "1", "2", "-1", "1.5", "2.25", "inf", "-inf",
		"+inf",
		"nan", "x", "", "1e3", "-0"})
	boundWords = rapid.SampledFrom([]string{"-inf", "+inf", "inf", "0", "1", "(1", "1.5", "(2",
		"-1",
		"(inf", "x", "nan"})
	secondWords = rapid.SampledFrom([]string{"100", "200", "0", "-1", "x", "9223372036854775807",
		"9223372036854775", "10000000000"})
	patternWords = rapid.SampledFrom([]string{"*", "k*", "key:*", "k?", "k[12]", "k[^1]", "[",
		"k[1-2]",
		"key:\\a", "*:*", "k1", "nokey*", "**", "k[2-1]", "\\", "k[1"})
)

// request draws a request.
func request(t *rapid.T) []string {
	key := func() string { return keyWords.Draw(t, "key") }
	value := func() string { return valueWords.Draw(t, "value") }
	number := func() string { return numberWords.Draw(t, "number") }
	bound := func() string { return boundWords.Draw(t, "bound") }
	some := func(f ...func() string) (words []string) {
		for range rapid.IntRange(1, 3).Draw(t, "n") {
			for _, one := range f {
				words = append(words, one())
			}
		}
		return words
	}
	maybe := func(words ...string) []string {
		if rapid.IntRange(0, 2).Draw(t, "option") == 0 {
			return words
		}
		return nil
	}
	cat := slices.Concat[[]string]
	one := func(words ...string) []string { return words }
	name := rapid.SampledFrom([]string{"SET", "SET", "SET", "GET", "DEL", "EXISTS", "TYPE",
		"INCR", "DECR", "INCRBY", "DECRBY", "APPEND", "STRLEN", "SETNX", "SETEX", "PSETEX",
		"GETSET", "GETDEL", "MGET", "MSET", "SADD", "SADD", "SREM", "SMEMBERS", "SISMEMBER",
		"SCARD", "LPUSH", "RPUSH", "LPOP", "RPOP", "LRANGE", "LLEN", "HSET", "HSET", "HGET",
		"HMGET", "HDEL", "HGETALL", "HEXISTS", "HKEYS", "HVALS", "HLEN", "ZADD", "ZADD",
		"ZADD", "ZREM", "ZSCORE", "ZCARD", "ZRANGEBYSCORE", "ZRANGEBYSCORE",
		"ZREMRANGEBYSCORE", "EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT", "PERSIST", "TTL",
		"PTTL", "EXPIRETIME", "PEXPIRETIME", "KEYS", "SCAN", "DBSIZE", "PING", "ECHO",
		"NOSUCH", "FLUSHDB", "UNLINK", "arity"}).Draw(t, "command")
	switch name {
	case "SET":
		return cat(one(name, key(), value()), maybe("NX"), maybe("XX"), maybe("GET"),
			maybe("KEEPTTL"), maybe("EX", secondWords.Draw(t, "EX")),
			maybe("PXAT", "33333333333000"), maybe("EXAT", "1"), maybe("PX"), maybe("px", "100000"))
	case "GET", "TYPE", "INCR", "DECR", "STRLEN", "GETDEL", "SMEMBERS", "SCARD", "LLEN", "HGETALL",
		"HKEYS", "HVALS", "HLEN", "ZCARD", "PERSIST", "TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME":
		return one(name, key())
	case "DEL", "UNLINK", "EXISTS", "MGET":
		return cat(one(name), some(key))
	case "INCRBY", "DECRBY":
		return one(name, key(), number())
	case "APPEND", "SETNX", "GETSET", "SISMEMBER", "HGET", "HEXISTS", "ZSCORE":
		return one(name, key(), value())
	case "SETEX", "PSETEX":
		n := secondWords.Draw(t, "seconds")
		if name == "PSETEX" && len(n) == 3 { // no test waits for so little
			n += "000"
		}
		return one(name, key(), n, value())
	case "MSET":
		return cat(one(name), some(key, value), maybe(key()))
	case "SADD", "SREM", "LPUSH", "RPUSH", "HMGET", "HDEL", "ZREM":
		return cat(one(name, key()), some(value))
	case "LPOP", "RPOP":
		return cat(one(name, key()), maybe(number()), maybe(number()))
	case "LRANGE":
		return one(name, key(), number(), number())
	case "HSET":
		return cat(one(name, key()), some(value, value), maybe(value()))
	case "ZADD":
		return cat(one(name, key()), maybe("NX"), maybe("XX"), maybe("GT"), maybe("LT"),
			maybe("CH"), maybe("INCR"), some(func() string { return scoreWords.Draw(t, "score") }, value),
			maybe("1"))
	case "ZRANGEBYSCORE":
		return cat(one(name, key(), bound(), bound()), maybe("WITHSCORES"),
			maybe("LIMIT", number(), number()), maybe("LIMIT", "1"))
	case "ZREMRANGEBYSCORE":
		return one(name, key(), bound(), bound())
	case "EXPIRE", "EXPIREAT", "PEXPIRE", "PEXPIREAT":
		n := secondWords.Draw(t, "seconds")
		if strings.HasSuffix(name, "AT") && len(n) == 3 {
			n = "33333333" + n
		}
		if name[0] == 'P' && n[0] > '0' && n[0] <= '9' && len(n) < 12 {
			n += "000"
		}
		return cat(one(name, key(), n), maybe("NX"), maybe("XX"), maybe("GT"), maybe("LT"),
			maybe("bad"))
	case "KEYS":
		return one(name, patternWords.Draw(t, "pattern"))
	case "SCAN": // all keys at once: cursors differ
		return cat(one(name, "0", "COUNT", "1000"), maybe("MATCH", patternWords.Draw(t, "pattern")),
			maybe("TYPE", "string"), maybe("COUNT", "0"), maybe("MATCH"))
	case "ECHO":
		return one(name, value())
	case "PING":
		return cat(one(name), maybe(value()))
	case "FLUSHDB":
		return cat(one(name), maybe("ASYNC"), maybe("NEVER"))
	case "arity":
		return cat(one(rapid.SampledFrom([]string{"GET", "SET", "DEL", "ZADD", "HSET", "PING",
			"ECHO", "EXPIRE", "LPOP", "SCAN", "SELECT", "WATCH", "EXEC"}).Draw(t, "name")),
			rapid.SampledFrom([][]string{nil, {"a"}, {"a", "b", "c", "d", "e"}}).Draw(t, "args"))
	}
	return cat(one(name), maybe(value()))
}

// unordered are the commands whose answers are sets: Redis gives them in the order of its hash
// table.
var unordered = map[string]int{"SMEMBERS": 1, "HKEYS": 1, "HVALS": 1, "KEYS": 1, "SCAN": 1,
	"HGETALL": 2}

// about are the commands whose answers depend on the time, and by how much.
var about = map[string]int64{"TTL": 5, "EXPIRETIME": 5, "PTTL": 5000, "PEXPIRETIME": 5000}

// distant is some time in the future, in fives of seconds.
const distant = 1_000_000_000

// ask sends a request and returns the answer in a form to be compared.
func ask(c goredis.Cmdable, args []string) any {
	words := make([]any, len(args))
	for i, a := range args {
		words[i] = a
	}
	v, err := c.(interface {
		Do(context.Context, ...any) *goredis.Cmd
	}).Do(context.Background(), words...).Result()
	if errors.Is(err, goredis.Nil) {
		return nil
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return normal(args[0], v)
}

func normal(name string, v any) any {
	list, ok := v.([]any)
	n := unordered[name]
	if !ok || n == 0 {
		return v
	}
	if name == "SCAN" {
		keys := list[1].([]any)
		slices.SortFunc(keys, byText[any])
		return list
	}
	var groups [][]any
	for i := 0; i+n <= len(list); i += n {
		groups = append(groups, list[i:i+n])
	}
	slices.SortFunc(groups, byText[[]any])
	return groups
}

func byText[T any](a, b T) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }

// same reports whether two answers are the same.
func same(name string, a, b any) bool {
	x, ok1 := a.(int64)
	y, ok2 := b.(int64)
	if ok1 && ok2 && x > 0 && y > 0 && about[name] > 0 {
		if y/about[name] > distant { // the latest expiry is in the year 2262
			return x/about[name] > distant
		}
		return max(x, y)-min(x, y) <= about[name]
	}
	// The text of a score may differ, not its value: Redis 7.0 writes 17 digits.
	if p, ok := a.(string); ok && name == "ZSCORE" || name == "ZADD" {
		q, _ := b.(string)
		f, err1 := strconv.ParseFloat(p, 64)
		g, err2 := strconv.ParseFloat(q, 64)
		if err1 == nil && err2 == nil {
			return f == g
		}
	}
	return reflect.DeepEqual(a, b)
}

// Random requests get the same answers, errors included, from a real redis-server.
func TestDifferential(t *testing.T) {
	socket := redisServer(t)
	_, address := serve(t, Config{}, "one", "two")
	for _, protocol := range []int{2, 3} {
		ours, theirs := connect(t, address, protocol), connect(t, socket, protocol)
		t.Run(fmt.Sprint("RESP", protocol), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				ask(ours, []string{"FLUSHDB"})
				ask(theirs, []string{"FLUSHDB"})
				requests := rapid.SliceOfN(rapid.Custom(request), 1, 40)
				for _, args := range requests.Draw(t, "requests") {
					if args[0] == "DBSIZE" { // Redis counts expired keys until SCAN or others meet them
						ask(theirs, []string{"SCAN", "0", "COUNT", "1000"})
					}
					got, want := ask(ours, args), ask(theirs, args)
					if !same(strings.ToUpper(args[0]), got, want) {
						t.Fatalf("%q: %#v, redis-server: %#v", args, got, want)
					}
				}
			})
		})
	}
}

// Transactions have the same effect, and the same answers when they fail.
func TestDifferentialTransactions(t *testing.T) {
	socket := redisServer(t)
	_, address := serve(t, Config{})
	for _, script := range []string{
		"MULTI|SET a 1|INCR a|GET a|EXEC|GET a",
		"MULTI|MULTI|EXEC", "EXEC", "DISCARD", "MULTI|DISCARD|GET a", "MULTI|EXEC",
		"MULTI|SET a x|NOSUCH|EXEC|GET a", "MULTI|SET a|SET b 1|EXEC|EXISTS b",
		"SET a x|MULTI|INCR a|SET b 2|EXEC|GET b", "WATCH a|SET a 2|MULTI|SET a 3|EXEC|GET a",
		"WATCH a|MULTI|SET a 3|EXEC|GET a", "WATCH a|SET a 2|UNWATCH|MULTI|SET a 4|EXEC|GET a",
		"MULTI|WATCH a|EXEC", "WATCH a|SET a 2|MULTI|DISCARD|MULTI|SET a 5|EXEC|GET a",
		"MULTI|LPUSH l 1 2|LRANGE l 0 -1|TYPE l|EXEC", "MULTI|PING|ECHO x|KEYS *|DBSIZE|EXEC",
	} {
		for _, hello := range []string{"HELLO 2\r\n", "HELLO 3\r\n"} {
			text := hello + "FLUSHDB\r\n" + strings.ReplaceAll(script, "|", "\r\n") + "\r\n"
			_, got, _ := strings.Cut(talk(t, address, text), "+OK\r\n") // behind HELLO and FLUSHDB
			_, want, _ := strings.Cut(talk(t, socket, text), "+OK\r\n")
			if got != want {
				t.Errorf("%s%s:\n%s\nredis-server:\n%s", hello, script, got, want)
			}
		}
	}
}

// Answers are the same to the byte, also to what no library sends.
func TestDifferentialBytes(t *testing.T) {
	socket := redisServer(t)
	_, address := serve(t, Config{})
	for _, text := range []string{
		"PING\r\n", "ping x\r\n", "\r\n\r\nPING\r\n", "*0\r\n*-1\r\nPING\r\n",
		"*1\r\n$4\r\nPING\r\n", "*1\n", "*1\r\n+PING\r\n", "*x\r\n", "*1\r\n$x\r\n",
		"*4611686018427387904\r\n", "*1\r\n$4611686018427387904\r\n", "*1\r\n$-1\r\n",
		"set a \"x\\x41\\n\"\r\nget a\r\n", "set a 'b c'\r\nget a\r\n", "set a \"b\r\n",
		"GET\r\n", "nosuch a b\r\n", "nosuch " + strings.Repeat("y", 200) + " z\r\n",
		strings.Repeat("n", 200) + "\r\n", "SELECT x\r\n", "SELECT 99\r\n", "SELECT -1\r\n",
		"HELLO 4\r\n", "HELLO x\r\n", "HELLO 2 NOPE\r\n", "HELLO 3 SETNAME a\r\nCLIENT GETNAME\r\n",
		"CLIENT SETNAME \"a b\"\r\n", "CLIENT GETNAME\r\n", "CLIENT NOSUCH\r\n", "CLIENT\r\n",
		"CLIENT SETNAME\r\n", "AUTH x\r\n", "AUTH default x\r\n", "AUTH a b c\r\n",
		"QUIT\r\nPING\r\n",
		"SUBSCRIBE a\r\nGET a\r\nPING\r\nPING x\r\nUNSUBSCRIBE\r\nPING\r\n",
		"SUBSCRIBE a b\r\nPSUBSCRIBE c*\r\nUNSUBSCRIBE a\r\nPUNSUBSCRIBE\r\nUNSUBSCRIBE b\r\n" +
			"PING\r\n",
		"UNSUBSCRIBE\r\nPUNSUBSCRIBE x\r\nPING\r\n",
		"HELLO 3\r\nSUBSCRIBE a\r\nGET a\r\nPING\r\nUNSUBSCRIBE a\r\n", "RESET\r\n",
		"HELLO 3\r\nSADD s a\r\nSMEMBERS s\r\nHSET h a 1\r\nHGETALL h\r\nZADD z 1.5 a\r\n" +
			"ZSCORE z a\r\nZRANGEBYSCORE z 0 2 WITHSCORES\r\nGET nil\r\nLPOP nil\r\nLPOP nil 1\r\n" +
			"ZADD z INCR 1 a\r\nZADD z NX INCR 1 a\r\nDEL s h z\r\n",
		"LPOP nil\r\nLPOP nil 1\r\nZADD z INCR 1 a\r\nZADD z NX INCR 1 a\r\nDEL z\r\n",
		"SCAN x\r\n", "SCAN 0 COUNT\r\n", "SCAN 0 NOPE 1\r\n", "POST / HTTP/1.1\r\nPING\r\n",
	} {
		got, want := talk(t, address, text), talk(t, socket, text)
		if i := strings.Index(want, "$2\r\nid\r\n:"); i >= 0 { // of HELLO
			_, got, _ = strings.Cut(got[i+9:], "\r\n")
			_, want, _ = strings.Cut(want[i+9:], "\r\n")
		}
		if got != want {
			t.Errorf("%.100q:\n%q\nredis-server:\n%q", text, got, want)
		}
	}
}

// A key expires when it does in Redis, to a time that a person does not notice.
func TestDifferentialExpiry(t *testing.T) {
	socket := redisServer(t)
	_, address := serve(t, Config{})
	ours, theirs := connect(t, address, 3), connect(t, socket, 3)
	at := time.Now().Add(300 * time.Millisecond)
	atText := strconv.FormatInt(at.UnixMilli(), 10)
	for i, args := range [][]string{
		{"SET", "k1", "v", "PXAT", atText}, {"SET", "k2", "v", "PX", "300"},
		{"PSETEX", "k3", "300", "v"}, {"SET", "k4", "v"}, {"PEXPIREAT", "k4", atText},
		{"RPUSH", "k5", "v"}, {"PEXPIRE", "k5", "300"},
		{"SET", "kept", "v", "PX", "100000"}, {"SET", "kept", "w", "KEEPTTL"},
	} {
		if got, want := ask(ours, args), ask(theirs, args); !reflect.DeepEqual(got, want) {
			t.Fatal(i, args, got, want)
		}
	}
	exist := []string{"EXISTS", "k1", "k2", "k3", "k4", "k5", "kept"}
	testkit.Eventually(t, "the keys expire in both servers", func() bool {
		a, b := ask(ours, exist), ask(theirs, exist)
		if now := time.Now(); now.Before(at.Add(-time.Millisecond)) {
			return false
		}
		return a == int64(1) && b == int64(1)
	})
}
