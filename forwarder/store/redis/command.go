package redis

// command is a command that clients may send.
type command struct {
	name  string
	arity int // number of words; negative: at least so many
	flags flag
	// first, last and step say which words are keys, as COMMAND does: last counts from the end if
	// it is negative. first is 0 if none is.
	first, last, step int
	run               func(s *session, args [][]byte)
	id                int // counts from 0
}

type flag uint16

const (
	data       flag = 1 << iota // it uses the store, within an Update
	alone                       // it only reads, and needs no Update of its own
	write                       // it may change the store
	returns                     // it returns what it changes or removes
	whole                       // it concerns all keys of the store
	noAuth                      // it needs no authentication
	subscribed                  // it may be used while subscribed, also in RESP2
	immediate                   // a transaction does not queue it
	outside                     // it must not run within an Update
)

// maxName is the length of the longest name.
const maxName = 20

// lookup returns the command with a name, nil if there is none. It does not allocate.
func lookup(name []byte) *command {
	if len(name) > maxName {
		return nil
	}
	var lower [maxName]byte
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	return commands[string(lower[:len(name)])]
}

// commands are all commands, by name. They are filled by init, since commands refer to them.
var commands map[string]*command

func init() {
	read := data | alone
	commands = map[string]*command{}
	for _, c := range []*command{
		// Connections.
		{name: "auth", arity: -2, flags: noAuth | outside, run: auth},
		{name: "hello", arity: -1, flags: noAuth | outside, run: hello},
		{name: "ping", arity: -1, flags: subscribed, run: ping},
		{name: "echo", arity: 2, run: echo},
		{name: "quit", arity: -1, flags: noAuth | subscribed | immediate | outside, run: quit},
		{name: "reset", arity: 1, flags: noAuth | subscribed | immediate | outside, run: reset},
		{name: "select", arity: 2, flags: outside, run: selectDatabase},
		{name: "client", arity: -2, flags: outside, run: client},
		{name: "command", arity: -1, flags: outside, run: describe},
		{name: "info", arity: -1, flags: outside, run: info},
		{name: "config", arity: -2, flags: outside, run: config},
		{name: "time", arity: 1, run: clock},

		// Transactions.
		{name: "multi", arity: 1, flags: immediate, run: multi},
		{name: "exec", arity: 1, flags: immediate | data, run: exec},
		{name: "discard", arity: 1, flags: immediate, run: discard},
		{name: "watch", arity: -2, flags: immediate | data, first: 1, last: -1, step: 1,
			run: watch},
		{name: "unwatch", arity: 1, run: unwatch},

		// Subscriptions.
		{name: "subscribe", arity: -2, flags: subscribed | outside, run: subscribe},
		{name: "psubscribe", arity: -2, flags: subscribed | outside, run: psubscribe},
		{name: "unsubscribe", arity: -1, flags: subscribed | outside, run: unsubscribe},
		{name: "punsubscribe", arity: -1, flags: subscribed | outside, run: punsubscribe},

		// Keys.
		{name: "del", arity: -2, flags: data | write, first: 1, last: -1, step: 1, run: del},
		{name: "unlink", arity: -2, flags: data | write, first: 1, last: -1, step: 1, run: del},
		{name: "exists", arity: -2, flags: data, first: 1, last: -1, step: 1, run: exists},
		{name: "type", arity: 2, flags: read, first: 1, last: 1, step: 1, run: typeOf},
		{name: "expire", arity: -3, flags: data | write, first: 1, last: 1, step: 1, run: expire},
		{name: "pexpire", arity: -3, flags: data | write, first: 1, last: 1, step: 1,
			run: expire},
		{name: "expireat", arity: -3, flags: data | write, first: 1, last: 1, step: 1,
			run: expire},
		{name: "pexpireat", arity: -3, flags: data | write, first: 1, last: 1, step: 1,
			run: expire},
		{name: "persist", arity: 2, flags: data | write, first: 1, last: 1, step: 1, run: persist},
		{name: "ttl", arity: 2, flags: read, first: 1, last: 1, step: 1, run: ttl},
		{name: "pttl", arity: 2, flags: read, first: 1, last: 1, step: 1, run: ttl},
		{name: "expiretime", arity: 2, flags: read, first: 1, last: 1, step: 1, run: ttl},
		{name: "pexpiretime", arity: 2, flags: read, first: 1, last: 1, step: 1, run: ttl},
		{name: "keys", arity: 2, flags: read, run: keys},
		{name: "scan", arity: -2, flags: read, run: scan},
		{name: "dbsize", arity: 1, flags: read | whole, run: dbsize},
		{name: "flushdb", arity: -1, flags: data | write | whole, run: flushdb},

		// Strings.
		{name: "get", arity: 2, flags: read, first: 1, last: 1, step: 1, run: get},
		{name: "set", arity: -3, flags: data | write, first: 1, last: 1, step: 1, run: set},
		{name: "setnx", arity: 3, flags: data | write, first: 1, last: 1, step: 1, run: setnx},
		{name: "setex", arity: 4, flags: data | write, first: 1, last: 1, step: 1, run: setex},
		{name: "psetex", arity: 4, flags: data | write, first: 1, last: 1, step: 1, run: setex},
		{name: "getset", arity: 3, flags: data | write | returns, first: 1, last: 1, step: 1,
			run: getset},
		{name: "getdel", arity: 2, flags: data | write | returns, first: 1, last: 1, step: 1,
			run: getdel},
		{name: "mget", arity: -2, flags: data, first: 1, last: -1, step: 1, run: mget},
		{name: "mset", arity: -3, flags: data | write, first: 1, last: -1, step: 2, run: mset},
		{name: "strlen", arity: 2, flags: read, first: 1, last: 1, step: 1, run: strlen},
		{name: "append", arity: 3, flags: data | write, first: 1, last: 1, step: 1, run: appendTo},
		{name: "incr", arity: 2, flags: data | write, first: 1, last: 1, step: 1, run: incr},
		{name: "decr", arity: 2, flags: data | write, first: 1, last: 1, step: 1, run: incr},
		{name: "incrby", arity: 3, flags: data | write, first: 1, last: 1, step: 1, run: incr},
		{name: "decrby", arity: 3, flags: data | write, first: 1, last: 1, step: 1, run: incr},

		// Sets.
		{name: "sadd", arity: -3, flags: data | write, first: 1, last: 1, step: 1, run: sadd},
		{name: "srem", arity: -3, flags: data | write, first: 1, last: 1, step: 1, run: srem},
		{name: "smembers", arity: 2, flags: read, first: 1, last: 1, step: 1, run: smembers},
		{name: "sismember", arity: 3, flags: read, first: 1, last: 1, step: 1, run: sismember},
		{name: "scard", arity: 2, flags: read, first: 1, last: 1, step: 1, run: scard},

		// Lists.
		{name: "lpush", arity: -3, flags: data | write, first: 1, last: 1, step: 1, run: lpush},
		{name: "rpush", arity: -3, flags: data | write, first: 1, last: 1, step: 1, run: rpush},
		{name: "lpop", arity: -2, flags: data | write | returns, first: 1, last: 1, step: 1,
			run: lpop},
		{name: "rpop", arity: -2, flags: data | write | returns, first: 1, last: 1, step: 1,
			run: rpop},
		{name: "lrange", arity: 4, flags: read, first: 1, last: 1, step: 1, run: lrange},
		{name: "llen", arity: 2, flags: read, first: 1, last: 1, step: 1, run: llen},

		// Hashes.
		{name: "hset", arity: -4, flags: data | write, first: 1, last: 1, step: 1, run: hset},
		{name: "hdel", arity: -3, flags: data | write, first: 1, last: 1, step: 1, run: hdel},
		{name: "hget", arity: 3, flags: read, first: 1, last: 1, step: 1, run: hget},
		{name: "hmget", arity: -3, flags: read, first: 1, last: 1, step: 1, run: hmget},
		{name: "hexists", arity: 3, flags: read, first: 1, last: 1, step: 1, run: hexists},
		{name: "hgetall", arity: 2, flags: read, first: 1, last: 1, step: 1, run: hgetall},
		{name: "hkeys", arity: 2, flags: read, first: 1, last: 1, step: 1, run: hkeys},
		{name: "hvals", arity: 2, flags: read, first: 1, last: 1, step: 1, run: hvals},
		{name: "hlen", arity: 2, flags: read, first: 1, last: 1, step: 1, run: hlen},

		// Sorted sets.
		{name: "zadd", arity: -4, flags: data | write, first: 1, last: 1, step: 1, run: zadd},
		{name: "zrem", arity: -3, flags: data | write, first: 1, last: 1, step: 1, run: zrem},
		{name: "zrangebyscore", arity: -4, flags: read, first: 1, last: 1, step: 1,
			run: zrangebyscore},
		{name: "zremrangebyscore", arity: 4, flags: data | write, first: 1, last: 1, step: 1,
			run: zremrangebyscore},
		{name: "zscore", arity: 3, flags: read, first: 1, last: 1, step: 1, run: zscore},
		{name: "zcard", arity: 2, flags: read, first: 1, last: 1, step: 1, run: zcard},
	} {
		c.id = len(commands)
		commands[c.name] = c
	}
}
