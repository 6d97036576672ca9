package redis

import (
	"crypto/tls"
	"log/slog"
	"time"

	"zmtpd/zmtp/memory"
)

// Config configures a Server. The zero value works: no encryption, and everybody may do everything.
type Config struct {
	// Version is the version of the program, for INFO. Default "dev".
	Version string
	// Access decides what clients may do. Default: everybody may do everything, without a password.
	Access Access
	// TLS encrypts connections. Default: none.
	TLS *tls.Config

	// MaxClients and MaxClientsPerAddress limit the connections, in total and from one IPv4 address
	// or IPv6 /64. Negative: none. Defaults: 1000, half of MaxClients.
	MaxClients, MaxClientsPerAddress int
	// MaxRequest limits a request, and all requests of a transaction together, in bytes. Default
	// 16 MiB.
	MaxRequest int
	// MaxArguments limits the words of a request. Default 65,536.
	MaxArguments int
	// MaxReply limits the answer to one request, in bytes. Default 64 MiB.
	MaxReply int
	// QueueBytes limits the keyspace events that wait for one client. Default 8 MiB.
	QueueBytes int
	// AuthTimeout is how long a client may take to authenticate. Default 10 s.
	AuthTimeout time.Duration
	// WriteTimeout is how long a client may take to read 64 KiB. Default 30 s.
	WriteTimeout time.Duration

	// Memory is the budget of the process. Default: no limit.
	Memory *memory.Budget
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	fill(&c.Version, "dev")
	fill[Access](&c.Access, open{})
	fill(&c.MaxClients, 1000)
	fill(&c.MaxClientsPerAddress, max(c.MaxClients/2, 1))
	fill(&c.MaxRequest, 16<<20)
	fill(&c.MaxArguments, 64<<10)
	fill(&c.MaxReply, 64<<20)
	fill(&c.QueueBytes, 8<<20)
	fill(&c.AuthTimeout, 10*time.Second)
	fill(&c.WriteTimeout, 30*time.Second)
	fill(&c.Logger, slog.New(slog.DiscardHandler))
	return c
}

// fill sets the default of a field.
func fill[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// Access decides who may connect. Its methods may be called from any goroutine.
type Access interface {
	// Login returns the client with a name and a password, nil if there is none. The name is
	// "default" if the client gave only a password.
	Login(name, password string) *User
	// Anonymous returns the client of a connection that has not authenticated, nil if it has to.
	Anonymous() *User
	// Current reports whether the client still has the same permissions.
	Current(u *User) bool
}

// User is a client that may connect. It is immutable.
type User struct {
	Name string // the author of its changes
	// Allow reports whether the client may read a key of a store, or also change it; all keys for
	// nil. It must not keep key. A nil Allow allows everything.
	Allow func(store string, key []byte, write bool) bool
	// Of is what the Access wants to know of the user again.
	Of any
}

func (u *User) may(store string, key []byte, write bool) bool {
	return u.Allow == nil || u.Allow(store, key, write)
}

// open is the access of a server without passwords.
type open struct{}

var everybody = &User{Name: "redis"}

// Login admits the default user with any password, as Redis does if it has none.
func (open) Login(name, _ string) *User {
	if name == "default" {
		return everybody
	}
	return nil
}

func (open) Anonymous() *User   { return everybody }
func (open) Current(*User) bool { return true }
