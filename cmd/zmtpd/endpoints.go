package main

import (
	"fmt"
	"io"
	"strings"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/zmtp"
)

// endpointFlags say where a tool's socket goes.
type endpointFlags struct {
	Connect []string `placeholder:"ENDPOINT" help:"Connect to it, as in tcp://127.0.0.1:5557 (repeatable)."`
	Bind    []string `placeholder:"ENDPOINT" help:"Listen on it, as in tcp://127.0.0.1:* (repeatable); the address is shown on standard error."`
	daemon.CurveClientFlags
}

// endpointSocket is what every socket can do.
type endpointSocket interface {
	Connect(endpoint string) error
	Listen(endpoint string) (bound string, err error)
	Monitor(buffer int) *zmtp.Monitor
}

// attach connects and binds s, and shows the bound addresses.
func (f *endpointFlags) attach(s endpointSocket, stderr io.Writer) error {
	if len(f.Connect)+len(f.Bind) == 0 {
		return daemon.Usagef("no endpoint: use --connect or --bind, as in --connect " +
			"tcp://127.0.0.1:5557")
	}
	watchConnections(s, stderr)
	for _, e := range f.Bind {
		bound, err := s.Listen(e)
		if err != nil {
			return daemon.ListenError("--bind", e, err)
		}
		fmt.Fprintf(stderr, "zmtpd: listening on %s\n", bound)
	}
	for _, e := range f.Connect {
		if err := s.Connect(e); err != nil {
			return fmt.Errorf("--connect: %w", err)
		}
	}
	return nil
}

// String lists the endpoints.
func (f *endpointFlags) String() string {
	return strings.Join(append(append([]string(nil), f.Connect...), f.Bind...), ", ")
}
