// Command zmtpd is the broker and the logger of a Zeek cluster, and the tools around
// them. See zmtpd --help.
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
		// The first asks for an end in order, the second for one at once, with the exit status that
		// a shell gives to it.
		os.Exit(128 + int((<-signals).(syscall.Signal)))
	}()

	signal.Ignore(syscall.SIGPIPE) // a closed pipe is then an error of the write

	os.Exit(report(os.Stderr, run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}
