// Package redis lets clients of Redis use the stores of package store: redis-cli, the libraries of
// many languages, and the Storage backend of Zeek (storage/backend/redis/Redis.cc). It speaks RESP2
// and RESP3. Commands that it has answer as Redis 7.0 does, errors included, and tests compare them
// with a real redis-server. Others get the error of an unknown command.
//
// # Data
//
// A database (SELECT) is a store; database 0 is the first one. Keys are strings. Entries whose keys
// have other types are not visible. Types of Redis are types of Zeek:
//
//	string       every value that is no container; commands write strings
//	list         a vector
//	set          a set
//	hash         a table whose values are no doubles
//	sorted set   a table of doubles, the scores
//
// Words that commands write are strings, whatever they look like, and are what the client has sent,
// byte by byte. INCR and its relatives keep the type of a count, an int or a string; an absent key
// becomes an int. Values and elements of other types have the text of event.AppendText: clients can
// read and remove the entry, but not change it. A container without elements is removed, as in
// Redis.
//
// # Durability
//
// An answer is sent when the changes have the durability of store.Config.Sync. The requests of a
// pipeline that arrive together share one Update of the store, and so one commit. EXEC makes all
// changes of its transaction or none.
//
// # Departures from Redis
//
//   - ZREMRANGEBYSCORE and ZRANGEBYSCORE look at all members: the order is that of names.
//   - Expiries after the year 2262 are in that year: 64 bits hold no later time in nanoseconds.
//   - Keyspace events are always on. Their names come from the change, not from the command: LPUSH
//     is rpush, INCR is set. There are no other channels.
//   - A cursor of SCAN is valid while it is one of the last 4096. Keys come in their order.
//   - Scores are written with as many digits as they need, as Redis does from 7.2 on.
//   - SELECT, INFO, CLIENT and subscriptions are refused within MULTI.
//   - Limits are tighter: Config.
package redis
