package redis

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// compatible is the version of Redis that the commands are compared with. Zeek's backend needs
// 6.2.0 and compares the texts (storage/backend/redis/Redis.cc).
const compatible = "7.0.15"

const errPassword = "WRONGPASS invalid username-password pair or user is disabled."

// authenticate checks a name and a password. It answers with an error, and returns false, if they
// are wrong.
func (s *session) authenticate(name, password []byte) bool {
	u := s.c.s.cfg.Load().Access.Login(string(name), string(password))
	if u == nil {
		if s.guesses++; s.guesses >= maxGuesses {
			s.c.refuse(GuessedTooOften)
			s.quit = true
		}
		s.refuse(Unauthorized, errPassword)
		return false
	}
	s.login(u)
	return true
}

func auth(s *session, args [][]byte) {
	switch {
	case len(args) > 3:
		s.out.fail(errSyntax)
		return
	case len(args) == 2 && s.user != nil && s.c.s.cfg.Load().Access.Anonymous() != nil:
		s.out.fail("ERR AUTH <password> called without any password configured for the default " +
			"user. Are you sure your configuration is correct?")
		return
	}
	name, password := []byte("default"), args[1]
	if len(args) == 3 {
		name, password = args[1], args[2]
	}
	if s.authenticate(name, password) {
		s.out.ok()
	}
}

func hello(s *session, args [][]byte) {
	resp3 := s.out.resp3
	if len(args) > 1 {
		n, ok := integer(args[1])
		switch {
		case !ok:
			s.out.fail("ERR Protocol version is not an integer or out of range")
			return
		case n != 2 && n != 3:
			s.out.fail("NOPROTO unsupported protocol version")
			return
		}
		resp3 = n == 3
	}
	var name []byte
	for i := 2; i < len(args); i++ {
		switch word := upper(args[i]); {
		case word == "AUTH" && i+2 < len(args):
			if !s.authenticate(args[i+1], args[i+2]) {
				return
			}
			i += 2
		case word == "SETNAME" && i+1 < len(args):
			name = args[i+1]
			if !s.checkName(name) {
				return
			}
			i++
		default:
			s.out.fail("ERR Syntax error in HELLO option '" + string(args[i]) + "'")
			return
		}
	}
	if s.user == nil {
		s.refuse(NotAuthenticated, "NOAUTH HELLO must be called with the client already "+
			"authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to "+
			"authenticate the client and select the RESP protocol version at the same time")
		return
	}
	if name != nil {
		s.name = string(name)
	}
	s.out.resp3 = resp3
	s.c.feed.setProto(resp3)
	s.out.pairs(7)
	s.out.text("server")
	s.out.text("redis")
	s.out.text("version")
	s.out.text(compatible)
	s.out.text("proto")
	if resp3 {
		s.out.int(3)
	} else {
		s.out.int(2)
	}
	s.out.text("id")
	s.out.int(int64(s.c.id))
	s.out.text("mode")
	s.out.text("standalone")
	s.out.text("role")
	s.out.text("master")
	s.out.text("modules")
	s.out.array(0)
}

func ping(s *session, args [][]byte) {
	switch {
	case len(args) > 2:
		s.arity("ping")
	case s.c.feed.active() && !s.out.resp3:
		s.out.array(2)
		s.out.text("pong")
		if len(args) == 2 {
			s.out.bytes(args[1])
		} else {
			s.out.text("")
		}
	case len(args) == 2:
		s.out.bytes(args[1])
	default:
		s.out.simple("PONG")
	}
}

func echo(s *session, args [][]byte) { s.out.bytes(args[1]) }

func quit(s *session, _ [][]byte) {
	s.out.ok()
	s.quit = true
}

// reset makes the connection like a new one.
func reset(s *session, _ [][]byte) {
	s.discard()
	s.c.feed.clear()
	s.c.feed.setProto(false)
	s.out.resp3, s.database, s.name = false, 0, ""
	s.user = s.c.s.cfg.Load().Access.Anonymous()
	s.c.user.Store(s.user)
	s.c.since = time.Now()
	s.out.simple("RESET")
}

func selectDatabase(s *session, args [][]byte) {
	n, ok := integer(args[1])
	switch {
	case !ok:
		s.out.fail(errInteger)
	case n < 0 || n >= int64(len(s.c.s.stores)):
		s.out.fail("ERR DB index is out of range")
	default:
		s.database = int(n)
		s.out.ok()
	}
}

func clock(s *session, _ [][]byte) {
	s.out.array(2)
	s.out.text(strconv.FormatInt(s.now.Unix(), 10))
	s.out.text(strconv.Itoa(s.now.Nanosecond() / 1000))
}

// maxClientName bounds the name that a client gives itself.
const maxClientName = 256

// checkName checks the name that a client gives itself. It answers with an error if it is not
// valid.
func (s *session) checkName(name []byte) bool {
	if len(name) > maxClientName || slices.ContainsFunc(name, func(c byte) bool {
		return c < '!' || c > '~'
	}) {
		s.out.fail("ERR Client names cannot contain spaces, newlines or special characters.")
		return false
	}
	return true
}

func client(s *session, args [][]byte) {
	sub := string(lowered(args[1]))
	wrong := func(n int) bool {
		if len(args) != n {
			s.arity("client|" + sub)
		}
		return len(args) != n
	}
	switch sub {
	case "setname":
		if wrong(3) || !s.checkName(args[2]) {
			return
		}
		s.name = string(args[2])
		s.out.ok()
	case "getname":
		if wrong(2) {
			return
		}
		if s.name == "" {
			s.out.null()
		} else {
			s.out.text(s.name)
		}
	case "id":
		if !wrong(2) {
			s.out.int(int64(s.c.id))
		}
	case "setinfo":
		if !wrong(4) {
			s.out.ok() // the library and its version
		}
	default:
		s.subcommand("CLIENT", args[1])
	}
}

// subcommand answers an unknown subcommand.
func (s *session) subcommand(name string, sub []byte) {
	s.refuse(UnknownCommand,
		fmt.Sprintf("ERR unknown subcommand '%.128s'. Try %s HELP.", sub, name))
}

// lowered returns a word in small letters, nil if it is too long for a name.
func lowered(word []byte) []byte {
	if len(word) > maxName {
		return nil
	}
	return bytes.ToLower(word)
}

// notifications is the option that turns keyspace events on in Redis. Here they are always on.
const notifications = "notify-keyspace-events"

// config answers what clients ask about the configuration. Nothing can be changed with it.
func config(s *session, args [][]byte) {
	switch string(lowered(args[1])) {
	case "get":
		if len(args) < 3 {
			s.arity("config|get")
			return
		}
		known := [][2]string{{notifications, "AKE"}, {"databases", strconv.Itoa(len(s.c.s.stores))}}
		known = slices.DeleteFunc(known, func(o [2]string) bool {
			return !slices.ContainsFunc(args[2:], func(pattern []byte) bool {
				return len(pattern) <= maxPattern && match(pattern, []byte(o[0]))
			})
		})
		s.out.pairs(len(known))
		for _, o := range known {
			s.out.text(o[0])
			s.out.text(o[1])
		}
	case "set":
		if len(args) == 4 && string(bytes.ToLower(args[2])) == notifications {
			s.out.ok()
			return
		}
		s.out.fail("ERR CONFIG SET failed: set options of zmtpd with its flags")
	default:
		s.subcommand("CONFIG", args[1])
	}
}

// describe is COMMAND.
func describe(s *session, args [][]byte) {
	names := make([]string, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(args) == 1 {
		s.out.array(len(names))
		for _, name := range names {
			commands[name].describe(&s.out)
		}
		return
	}
	switch string(lowered(args[1])) {
	case "count":
		s.out.int(int64(len(names)))
	case "list":
		s.out.array(len(names))
		for _, name := range names {
			s.out.text(name)
		}
	case "docs":
		s.out.pairs(0)
	case "info":
		s.out.array(len(args) - 2)
		for _, name := range args[2:] {
			if c := lookup(name); c != nil {
				c.describe(&s.out)
			} else {
				s.out.nullArray()
			}
		}
	default:
		s.subcommand("COMMAND", args[1])
	}
}

// describe appends the description of a command as COMMAND INFO has it.
func (c *command) describe(r *reply) {
	r.array(10)
	r.text(c.name)
	r.int(int64(c.arity))
	var flags []string
	switch {
	case c.flags&write != 0:
		flags = append(flags, "write")
	case c.flags&data != 0:
		flags = append(flags, "readonly")
	}
	if c.flags&noAuth != 0 {
		flags = append(flags, "no_auth")
	}
	if c.flags&outside != 0 {
		flags = append(flags, "no_multi")
	}
	r.set(len(flags))
	for _, f := range flags {
		r.simple(f)
	}
	r.int(int64(c.first))
	r.int(int64(c.last))
	r.int(int64(c.step))
	for range 4 { // ACL categories, tips, key specifications, subcommands
		r.array(0)
	}
}

func info(s *session, args [][]byte) {
	want := make([]string, 0, len(args))
	for _, a := range args[1:] {
		want = append(want, string(lowered(a)))
	}
	var b strings.Builder
	section := func(name string, lines ...string) {
		lower := strings.ToLower(name)
		if len(want) > 0 && !slices.ContainsFunc(want, func(w string) bool {
			return w == lower || w == "all" || w == "default" || w == "everything"
		}) {
			return
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + name + "\r\n")
		for _, line := range lines {
			b.WriteString(line + "\r\n")
		}
	}
	srv := s.c.s
	st := srv.Stats()
	refused := uint64(0)
	for _, r := range []Reason{TooManyClients, TooManyPerAddress} {
		refused += st.Refused[r]
	}
	section("Server", "redis_version:"+compatible, "redis_mode:standalone",
		"zmtpd_version:"+srv.cfg.Load().Version, fmt.Sprintf("process_id:%d", os.Getpid()),
		fmt.Sprintf("uptime_in_seconds:%d", int(time.Since(srv.since).Seconds())))
	section("Clients", fmt.Sprintf("connected_clients:%d", st.Clients),
		fmt.Sprintf("pubsub_clients:%d", st.Subscribers))
	section("Stats", fmt.Sprintf("total_connections_received:%d", st.Accepted),
		fmt.Sprintf("total_commands_processed:%d", st.Requests),
		fmt.Sprintf("total_net_input_bytes:%d", st.BytesIn),
		fmt.Sprintf("total_net_output_bytes:%d", st.BytesOut),
		fmt.Sprintf("rejected_connections:%d", refused))
	section("Replication", "role:master", "connected_slaves:0")
	var keyspace []string
	for i, db := range srv.stores {
		if st := db.Stats(); st.Keys > 0 {
			keyspace = append(keyspace, fmt.Sprintf("db%d:keys=%d,expires=%d,avg_ttl=0", i, st.Keys,
				st.Expiring))
		}
	}
	section("Keyspace", keyspace...)
	s.out.verbatim(b.String())
}
