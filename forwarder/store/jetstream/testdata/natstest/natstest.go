// Package natstest runs a server of NATS within a test. It is in a folder testdata, so that go build
// ./... does not compile the server.
package natstest

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Server is a server with JetStream, on a port that the kernel has chosen.
type Server struct {
	URL     string
	Options server.Options // of the next Restart
	server  *server.Server
}

// Start starts a server, which ends with the test. change, unless nil, changes its options.
func Start(t testing.TB, change func(*server.Options)) *Server {
	t.Helper()
	s := &Server{Options: server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true,
		StoreDir: t.TempDir(), NoLog: true, NoSigs: true}}
	if change != nil {
		change(&s.Options)
	}
	s.Restart(t)
	t.Cleanup(s.Stop)
	return s
}

// Restart starts the server again after Stop, at the same address and with the same files.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	options := s.Options // the server changes its options
	var err error
	if s.server, err = server.NewServer(&options); err != nil {
		t.Fatal(err)
	}
	s.server.Start()
	if !s.server.ReadyForConnections(time.Minute) {
		t.Fatal("the server of NATS is not ready within a minute")
	}
	s.URL = s.server.ClientURL()
	s.Options.Port = options.Port
}

// Stop ends the server.
func (s *Server) Stop() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}
