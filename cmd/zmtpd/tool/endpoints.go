package tool

import (
	"fmt"
	"io"
	"strings"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

// EndpointFlags are the flags about the endpoints of a tool's socket.
type EndpointFlags struct {
	Connect []string `placeholder:"ENDPOINT" help:"Endpoint to connect to, as in tcp://127.0.0.1:5557 (repeatable)."`
	Bind    []string `placeholder:"ENDPOINT" help:"Endpoint to listen on, as in tcp://127.0.0.1:* (repeatable). Its address appears on standard error."`
	daemon.ClientFlags
}

// endpointSocket is a socket of any type.
type endpointSocket interface {
	Connect(endpoint string) error
	Listen(endpoint string) (bound string, err error)
	Monitor(buffer int) *zmtp.Monitor
}

// Attach binds and connects s. It prints the bound addresses and, until s ends, why s is not
// connected.
func (f *EndpointFlags) Attach(s endpointSocket, stderr io.Writer) error {
	return f.AttachAs("", s, stderr)
}

// AttachAs is Attach for flags whose names begin with prefix.
func (f *EndpointFlags) AttachAs(prefix string, s endpointSocket, stderr io.Writer) error {
	connect, bind := "--"+prefix+"connect", "--"+prefix+"bind"
	if len(f.Connect)+len(f.Bind) == 0 {
		return daemon.Usagef("no endpoint: use %s or %s, as in %s tcp://127.0.0.1:5557", connect,
			bind, connect)
	}
	WatchConnections(s, stderr)
	for _, e := range f.Bind {
		bound, err := s.Listen(e)
		if err != nil {
			return daemon.ListenError(bind, e, err)
		}
		fmt.Fprintf(stderr, "zmtpd: listening on %s\n", bound)
	}
	for _, e := range f.Connect {
		if err := s.Connect(e); err != nil {
			return daemon.EndpointError(connect, e, err)
		}
	}
	return nil
}

// String lists the endpoints.
func (f *EndpointFlags) String() string {
	return strings.Join(append(append([]string(nil), f.Connect...), f.Bind...), ", ")
}
