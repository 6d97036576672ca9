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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal ends the process at once

	signal.Ignore(syscall.SIGPIPE) // a closed pipe is then an error of the write

	os.Exit(report(os.Stderr, run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}
