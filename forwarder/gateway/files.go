package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"zmtpd/forwarder/signature"
)

// files are the files of a Config and what was read from them. poll alone changes them.
type files struct {
	clients  source[*Identities]    // nil for everybody
	tls      source[*tls.Config]    // nil for no TLS
	declared source[*signature.Set] // nil for no checks
}

// source is what was read from files.
type source[T any] struct {
	names []string // none if nothing is to be read
	read  func() (T, error)
	now   atomic.Pointer[T]
	seen  []stamp // of the files when they were read
	fault string  // the last error that was logged
}

// stamp tells whether a file has changed.
type stamp struct {
	modified, size int64
	missing        bool
}

func stamps(names []string) []stamp {
	all := make([]stamp, len(names))
	for i, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			all[i].missing = true
			continue
		}
		all[i] = stamp{info.ModTime().UnixNano(), info.Size(), false}
	}
	return all
}

// open reads the files for the first time.
func (s *source[T]) open(read func() (T, error), names ...string) error {
	s.names, s.read, s.seen = names, read, stamps(names)
	v, err := read()
	s.now.Store(&v)
	return err
}

// get returns what was read last, zero if there is nothing to be read.
func (s *source[T]) get() (v T) {
	if now := s.now.Load(); now != nil {
		v = *now
	}
	return v
}

// poll reads the files again if they have changed, and reports whether what they say may have.
func (s *source[T]) poll(log *slog.Logger, what string) bool {
	if len(s.names) == 0 {
		return false
	}
	seen, changed := stamps(s.names), false
	for i := range seen {
		changed = changed || seen[i] != s.seen[i]
	}
	if !changed && s.fault == "" {
		return false
	}
	s.seen = seen
	v, err := s.read()
	if err != nil {
		if err.Error() != s.fault {
			log.Error("a file of the WebSocket gateway cannot be read; what was read before stays "+
				"in use", "file", what, "err", err)
		}
		s.fault = err.Error()
		return false
	}
	s.fault = ""
	s.now.Store(&v)
	log.Info("a file of the WebSocket gateway was read again", "file", what)
	return true
}

// errNoKey is returned for a Config in which a file is missing that another needs.
var errNoKey = errors.New("gateway: a certificate, its key and the authorities of clients need " +
	"one another: give Certificate and Key together, and ClientCA only with them")

func (f *files) open(cfg *Config) error {
	if (cfg.Certificate == "") != (cfg.Key == "") || cfg.ClientCA != "" && cfg.Key == "" {
		return errNoKey
	}
	if cfg.Clients != "" {
		read := func() (*Identities, error) { return ReadClients(cfg.Clients) }
		if err := f.clients.open(read, cfg.Clients); err != nil {
			return fmt.Errorf("clients: %w", err)
		}
	}
	if cfg.Certificate != "" {
		names := []string{cfg.Certificate, cfg.Key}
		if cfg.ClientCA != "" {
			names = append(names, cfg.ClientCA)
		}
		if err := f.tls.open(func() (*tls.Config, error) { return readTLS(cfg) },
			names...); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
	}
	if cfg.Signatures != "" {
		read := func() (*signature.Set, error) {
			text, err := readFile(cfg.Signatures)
			if err != nil {
				return nil, err
			}
			all, err := signature.Parse(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", cfg.Signatures, err)
			}
			return all, nil
		}
		if err := f.declared.open(read, cfg.Signatures); err != nil {
			return fmt.Errorf("event signatures: %w", err)
		}
	}
	return nil
}

// poll reads files again that have changed, and reports whether the clients may have.
func (f *files) poll(log *slog.Logger) bool {
	f.tls.poll(log, "TLS")
	f.declared.poll(log, "event signatures")
	return f.clients.poll(log, "clients")
}

// readTLS reads the certificates.
func readTLS(cfg *Config) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(cfg.Certificate, cfg.Key)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if cfg.ClientCA == "" {
		return c, nil
	}
	text, err := readFile(cfg.ClientCA)
	if err != nil {
		return nil, err
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", cfg.ClientCA)
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if cfg.Clients != "" {
		c.ClientAuth = tls.VerifyClientCertIfGiven // others have a token
	}
	return c, nil
}

// listener adds TLS to l, if there is a certificate.
func (f *files) listener(l net.Listener) net.Listener {
	if len(f.tls.names) == 0 {
		return l
	}
	return tls.NewListener(l, &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return f.tls.get(), nil
		}})
}

// anybody is the client of a Gateway without a file of clients.
var anybody = &Identity{}

// identify returns the client that sent a request, nil if it may not connect.
func (f *files) identify(r *http.Request) *Identity {
	if all := f.clients.get(); all != nil {
		return all.identify(r)
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		if all := names(r.TLS.VerifiedChains[0][0]); len(all) > 0 {
			return &Identity{Name: fmt.Sprintf("%.64s", all[0])}
		}
	}
	return anybody
}

// knows reports whether a client may still be connected.
func (f *files) knows(id *Identity) bool {
	all := f.clients.get()
	if all == nil {
		return true
	}
	now := all.byName[id.Name]
	return now != nil && now.same(id)
}

// signatures returns the declared events, nil for none.
func (f *files) signatures() *signature.Set { return f.declared.get() }
