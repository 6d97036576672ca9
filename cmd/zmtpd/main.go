// Command zmtpd is the broker and the logger of a Zeek cluster, with tools for ZeroMQ. See zmtpd
// --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		// The first signal asks for an orderly end. The second ends the process at once, with the
		// exit status that a shell reports for the signal.
		os.Exit(128 + int((<-signals).(syscall.Signal)))
	}()

	signal.Ignore(syscall.SIGPIPE) // so that a write to a closed pipe returns an error

	os.Exit(report(os.Stderr, run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}
