package redis

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"zmtpd/forwarder/event"
	"zmtpd/forwarder/store"
)

// session is the state of a client between its requests. The connection's reader uses it alone.
type session struct {
	c        *conn
	out      reply
	user     *User // nil before authentication
	name     string
	database int
	guesses  int
	quit     bool
	multi    transaction

	tx       *store.Tx // of the Update that is under way, else nil
	now      time.Time // of the request
	wrote    bool      // the request has changed something
	overflow bool      // the answer is too large
	reserved int64     // for out beyond smallBuffer
	key      event.Raw // memory for a key
}

func (s *session) init(c *conn) {
	s.c = c
	if u := c.s.cfg.Load().Access.Anonymous(); u != nil {
		s.login(u)
	}
}

// login makes the client u.
func (s *session) login(u *User) {
	s.user = u
	s.c.user.Store(u)
}

// The errors that several commands have.
const (
	errSyntax  = "ERR syntax error"
	errInteger = "ERR value is not an integer or out of range"
	errFloat   = "ERR value is not a valid float"
	errType    = "WRONGTYPE Operation against a key holding the wrong kind of value"
	errDenied  = "NOPERM this user has no permissions to access one of the keys used as arguments"
	errMemory  = "OOM command not allowed when used memory > 'maxmemory'."
)

// maxBatch is how many requests of a pipeline share one Update.
const maxBatch = 1024

// run executes a request, and perhaps some that follow it.
func (s *session) run(args [][]byte) {
	for args != nil {
		args = s.step(args)
	}
}

// step executes a request, and those behind it that can share its commit. It returns a request
// that it has read and not executed.
func (s *session) step(args [][]byte) (next [][]byte) {
	cmd := s.admit(args)
	switch {
	case cmd == nil:
		return nil
	case cmd.flags&data == 0 || cmd.flags&alone != 0:
		s.execute(cmd, args)
		return nil
	}
	return s.update(cmd, args)
}

// update executes a request within an Update of the store, and those behind it that have arrived.
// So a pipeline needs one commit.
func (s *session) update(cmd *command, args [][]byte) (next [][]byte) {
	var at, after int // where the answers begin that depend on the commit, and how many there are
	err := s.store().Update(context.Background(), s.user.Name, func(tx *store.Tx) error {
		s.tx = tx
		defer func() { s.tx = nil }()
		for n := 1; ; n++ {
			begin := len(s.out.b)
			s.wrote = false
			if cmd != nil {
				s.execute(cmd, args)
			}
			if s.wrote && after == 0 {
				at = begin
			}
			if s.wrote || after > 0 {
				after++
			}
			if n == maxBatch || len(s.out.b) >= flushAt || s.quit {
				return nil
			}
			if args = s.c.next(); args == nil {
				return nil
			}
			if c := lookup(args[0]); c != nil && c.flags&outside != 0 {
				next = args
				return nil
			}
			cmd = s.admit(args)
		}
	})
	if err != nil {
		s.out.b = s.out.b[:at]
		for range after {
			s.failed(err)
		}
	}
	return next
}

// execute runs a command that was admitted.
func (s *session) execute(cmd *command, args [][]byte) {
	begin := len(s.out.b)
	if s.tx != nil {
		s.now = s.tx.Now()
	} else {
		s.now = time.Now()
	}
	s.call(cmd, args)
	if s.overflow { // whatever was done is done: the client cannot go on without the answer
		s.out.b = s.out.b[:begin]
		s.refuse(NoMemory, errMemory)
		s.overflow, s.quit = false, true
	}
}

// call runs a command and counts it.
func (s *session) call(cmd *command, args [][]byte) {
	s.c.s.calls[cmd.id].Add(1)
	cmd.run(s, args)
}

// room reports whether n more bytes may be appended to the answer. If not, the answer becomes an
// error.
func (s *session) room(n int) bool {
	size := int64(len(s.out.b) + n)
	if need := 2*size - smallBuffer - s.reserved; need > 0 && !s.overflow { // append may double it
		need += flushAt
		s.overflow = size > int64(s.c.s.cfg.Load().MaxReply) || !s.c.holder.TryReserve(need)
		if !s.overflow {
			s.reserved += need
		}
	}
	return !s.overflow
}

// flushed gives back what was reserved for the answers.
func (s *session) flushed() {
	s.c.holder.Release(s.reserved)
	s.reserved = 0
	if s.out.b = s.out.b[:0]; cap(s.out.b) > 2*flushAt {
		s.out.b = nil
	}
}

// store returns the store of the present database.
func (s *session) store() *store.Store { return s.c.s.stores[s.database] }

// failed answers a request that the store could not carry out.
func (s *session) failed(err error) {
	var e *store.Error
	switch {
	case errors.Is(err, store.ShuttingDown):
		s.refuse(StoreFailed, "LOADING zmtpd ends: the store is closed")
	case errors.As(err, &e) && e.Code == store.BackendFailure:
		s.refuse(StoreFailed, "MISCONF "+err.Error())
	default:
		s.refuse(StoreFailed, "ERR "+err.Error())
	}
}

// refuse answers with an error that counts for r.
func (s *session) refuse(r Reason, text string) {
	s.c.refuse(r)
	s.out.fail(text)
}

// admit returns the command of a request if it may be executed now. Otherwise the request is
// answered.
func (s *session) admit(args [][]byte) *command {
	cmd := lookup(args[0])
	switch {
	case cmd == nil && isHTTP(args[0]):
		s.c.refuse(HTTPRequest)
		s.quit = true
		return nil
	case s.user == nil && (cmd == nil || cmd.flags&noAuth == 0):
		s.refuse(NotAuthenticated, "NOAUTH Authentication required.")
	case cmd == nil:
		s.unknown(args)
	case cmd.arity > 0 && len(args) != cmd.arity || len(args) < -cmd.arity:
		if cmd.name == "exec" {
			s.discard()
			s.out.fail("EXECABORT Transaction discarded because of: wrong number of arguments " +
				"for 'exec' command")
			return nil
		}
		s.arity(cmd.name)
	case !s.permitted(cmd, args):
		s.refuse(Denied, errDenied)
	case s.c.feed.active() && !s.out.resp3 && cmd.flags&subscribed == 0:
		s.out.fail("ERR Can't execute '" + cmd.name + "': only (P|S)SUBSCRIBE / " +
			"(P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	case s.multi.open && cmd.flags&immediate == 0:
		s.queue(cmd, args)
		return nil
	default:
		return cmd
	}
	s.multi.broken = s.multi.open
	return nil
}

// isHTTP reports whether a request is a line of HTTP: a browser was made to attack the server
// (securityWarningCommand in Redis's networking.c).
func isHTTP(word []byte) bool {
	name := string(lowered(word))
	return name == "post" || name == "host:"
}

func (s *session) arity(name string) {
	s.out.fail("ERR wrong number of arguments for '" + name + "' command")
}

// unknown answers an unknown command as Redis does (rejectCommand in server.c).
func (s *session) unknown(args [][]byte) {
	var b strings.Builder
	for _, a := range args[1:] {
		if b.Len() >= 128 {
			break
		}
		a, _, _ = bytes.Cut(a, []byte{0}) // a string of C
		fmt.Fprintf(&b, "'%s' ", a[:min(len(a), 128-b.Len())])
	}
	name, _, _ := bytes.Cut(args[0], []byte{0})
	s.refuse(UnknownCommand, fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s",
		name[:min(len(name), 128)], b.String()))
}

// permitted reports whether the client may use the keys of a request.
func (s *session) permitted(cmd *command, args [][]byte) bool {
	if s.user == nil || cmd.flags&data == 0 {
		return true
	}
	if cmd.first == 0 {
		return cmd.flags&whole == 0 || s.may(nil, cmd.flags&write != 0)
	}
	last := cmd.last
	if last < 0 {
		last += len(args)
	}
	for i := cmd.first; i <= last; i += cmd.step {
		if !s.may(args[i], cmd.flags&write != 0) ||
			cmd.flags&returns != 0 && !s.may(args[i], false) {
			return false
		}
	}
	return true
}

// may reports whether the client may read or write a key of the present database.
func (s *session) may(key []byte, write bool) bool {
	return s.user.may(s.store().Name(), key, write)
}

// get returns the entry of a key, nil if there is none.
func (s *session) get(key []byte) *store.Entry {
	if s.tx != nil {
		return s.tx.Get(s.text(key))
	}
	return s.store().Get(s.text(key))
}

// text returns a key as the store has it, in memory that the next call writes to.
func (s *session) text(key []byte) event.Raw {
	k := append(s.key[:0], byte(event.String))
	k = append(binary.AppendUvarint(k, uint64(len(key))), key...)
	if s.key = k; cap(k) > maxKeyMemory {
		s.key = nil
	}
	return k
}

// maxKeyMemory bounds the memory for a key that a connection keeps.
const maxKeyMemory = 1024

// put stores a value. It answers with an error, and returns false, if the store does not take it.
func (s *session) put(key []byte, value event.Raw, expires time.Time) bool {
	return s.putValue(key, store.Whole(value), expires)
}

func (s *session) putValue(key []byte, value store.Value, expires time.Time) bool {
	if err := s.tx.PutValue(s.text(key), value, expires); err != nil {
		s.failed(err)
		return false
	}
	s.wrote = true
	return true
}

// remove erases a key. It answers with an error, and returns false, if the store does not do that.
func (s *session) remove(key []byte) bool {
	if _, err := s.tx.Erase(s.text(key)); err != nil {
		s.failed(err)
		return false
	}
	s.wrote = true
	return true
}

// expires returns the expiry of an entry, which may be nil.
func expires(e *store.Entry) time.Time {
	if e == nil {
		return time.Time{}
	}
	return e.Expires
}
