//go:build !linux && !darwin && !freebsd

package live

import (
	"context"

	"zmtpd/capture"
)

// Source gives the packets of interfaces. There is none on this operating system.
type Source struct{}

func open(context.Context, Config) (*Source, error) { return nil, ErrUnsupported }

// Next implements capture.Source.
func (*Source) Next() (capture.Packet, error) { return capture.Packet{}, ErrUnsupported }

// Stats returns the counters.
func (*Source) Stats() Stats { return Stats{} }

// Close ends the capture.
func (*Source) Close() error { return nil }
