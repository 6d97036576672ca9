package fuzz_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"zmtpd/forwarder/store"
	"zmtpd/forwarder/store/redis"
	"zmtpd/zmtp/zmtptest"
)

// redisAddress is that of the server on a network in memory.
const redisAddress = "10.0.0.1:6379"

// newRedis starts a server for clients of Redis that ends with the test, and returns how to connect
// to it.
func newRedis(tb testing.TB) (dial func() net.Conn, st *store.Store) {
	tb.Helper()
	var n zmtptest.Network
	st, err := store.Open(store.Config{Name: "fuzz", MaxBytes: 16 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	s := redis.New([]*store.Store{st}, redis.Config{MaxClients: -1, MaxClientsPerAddress: -1,
		MaxRequest: 1 << 20, MaxReply: 1 << 20})
	l, err := n.Listen(redisAddress)
	if err != nil {
		tb.Fatal(err)
	}
	s.Serve(l)
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		st.Close()
	})
	return func() net.Conn {
		c, err := n.Dial(context.Background(), redisAddress)
		if err != nil {
			tb.Fatal(err)
		}
		return c
	}, st
}

// redisRequests returns requests with which the fuzzer begins.
func redisRequests(testing.TB) [][]byte {
	var all [][]byte
	for _, text := range []string{
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "PING\r\n",
		"set k 'a b' EX 100 NX\r\nincr n\r\nexpire n 5\r\nttl n\r\n", "*1\r\n$99999999\r\n",
		"HELLO 3\r\nSADD s a b\r\nSMEMBERS s\r\nHSET h f v\r\nHGETALL h\r\n",
		"RPUSH l 1 2\r\nLPOP l 1\r\n",
		"ZADD z 1 a 2 b\r\nZRANGEBYSCORE z (1 inf WITHSCORES LIMIT 0 5\r\n" +
			"ZREMRANGEBYSCORE z 0 1\r\n",
		"MULTI\r\nSET a 1\r\nGET a\r\nEXEC\r\nWATCH a\r\n",
		"SCAN 0 MATCH k* COUNT 5\r\nKEYS [^a]?\r\n",
		"PSUBSCRIBE *\r\nPUNSUBSCRIBE\r\nINFO\r\nCOMMAND\r\nCLIENT ID\r\nCONFIG GET *\r\n",
	} {
		all = append(all, []byte(text))
	}
	return all
}

// FuzzRedis: whatever a client sends, its answers are a sequence of values in RESP, and the server
// goes on.
func FuzzRedis(f *testing.F) {
	addSeeds(f)
	dial, _ := newRedis(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := dial()
		go func() {
			c.Write(b)
			io.WriteString(c, "\r\nQUIT\r\n") // unless b ends within a request
			c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		answers, _ := io.ReadAll(c)
		c.Close()
		for rest := answers; len(rest) > 0; {
			n := respValue(rest)
			if n == 0 {
				t.Fatalf("%q was answered with %q: no value at %q", b, answers, rest)
			}
			rest = rest[n:]
		}
	})
}

// respValue returns the size of the first value, 0 if there is none.
func respValue(b []byte) int {
	at := 0
	for values := 1; values > 0; values-- {
		end := bytes.Index(b[at:], []byte("\r\n"))
		if end < 1 {
			return 0
		}
		kind, line := b[at], b[at+1:at+end]
		at += end + 2
		n := 0
		for _, c := range line {
			n = 10*n + int(c) - '0'
		}
		switch kind {
		case '+', '-', ':', '_', ',':
		case '$', '=':
			if string(line) == "-1" {
				continue
			}
			if at += n + 2; at > len(b) {
				return 0
			}
		case '*', '~', '>':
			if string(line) != "-1" {
				values += n
			}
		case '%':
			values += 2 * n
		default:
			return 0
		}
	}
	return at
}
