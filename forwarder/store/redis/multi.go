package redis

import (
	"zmtpd/forwarder/store"
)

// transaction is what a client has queued between MULTI and EXEC, and the keys that it watches.
type transaction struct {
	open    bool
	broken  bool // a request was refused: EXEC does nothing
	queue   []queued
	bytes   int64 // reserved for queue
	watched []watchedKey
}

type queued struct {
	cmd  *command
	args [][]byte
}

// watchedKey is a key and the number of its last change, 0 if there was no such key.
type watchedKey struct {
	database int
	key      []byte
	seq      uint64
}

const (
	// maxWatched bounds the keys that a client watches.
	maxWatched = 1024
	// queuedOverhead is what a word takes in a queue beside its bytes.
	queuedOverhead = 64
)

func multi(s *session, _ [][]byte) {
	if s.multi.open {
		s.out.fail("ERR MULTI calls can not be nested")
		return
	}
	s.multi.open = true
	s.out.ok()
}

// queue adds a request to the transaction.
func (s *session) queue(cmd *command, args [][]byte) {
	size := int64(queuedOverhead)
	for _, a := range args {
		size += int64(len(a)) + queuedOverhead
	}
	cfg := s.c.s.cfg.Load()
	switch {
	case cmd.flags&outside != 0:
		s.out.fail("ERR Command not allowed inside a transaction")
	case s.multi.bytes+size > int64(cfg.MaxRequest) || !s.c.holder.TryReserve(size):
		s.refuse(NoMemory, errMemory)
	default:
		s.multi.bytes += size
		words := make([][]byte, len(args))
		for i, a := range args {
			words[i] = append([]byte(nil), a...)
		}
		s.multi.queue = append(s.multi.queue, queued{cmd, words})
		s.out.simple("QUEUED")
		return
	}
	s.multi.broken = true
}

// discard ends the transaction and forgets the watched keys.
func (s *session) discard() {
	s.c.holder.Release(s.multi.bytes)
	s.multi = transaction{}
}

func discard(s *session, _ [][]byte) {
	if !s.multi.open {
		s.out.fail("ERR DISCARD without MULTI")
		return
	}
	s.discard()
	s.out.ok()
}

func exec(s *session, _ [][]byte) {
	defer func(open bool) {
		if open {
			s.discard()
		}
	}(s.multi.open)
	switch {
	case !s.multi.open:
		s.out.fail("ERR EXEC without MULTI")
		return
	case s.multi.broken:
		s.out.fail("EXECABORT Transaction discarded because of previous errors.")
		return
	}
	for _, w := range s.multi.watched {
		if w.database != s.database || seq(s.get(w.key)) != w.seq {
			s.out.nullArray()
			return
		}
	}
	s.out.array(len(s.multi.queue))
	for _, q := range s.multi.queue {
		if s.overflow {
			return
		}
		s.call(q.cmd, q.args)
	}
}

func seq(e *store.Entry) uint64 {
	if e == nil {
		return 0
	}
	return e.Seq
}

func watch(s *session, args [][]byte) {
	if s.multi.open {
		s.out.fail("ERR WATCH inside MULTI is not allowed")
		return
	}
	if len(s.multi.watched)+len(args)-1 > maxWatched {
		s.refuse(NoMemory, errMemory)
		return
	}
	for _, key := range args[1:] {
		s.multi.watched = append(s.multi.watched,
			watchedKey{s.database, append([]byte(nil), key...), seq(s.get(key))})
	}
	s.out.ok()
}

func unwatch(s *session, _ [][]byte) {
	s.multi.watched = nil
	s.out.ok()
}
