package main

import "context"

type upCommand struct {
	forwarderFlags
	loggerFlags
	socketFlags
	daemonFlags
}

// Run runs broker and logger until ctx ends.
func (c *upCommand) Run(ctx context.Context, std *stdio) error {
	log := c.newLog(std.err)
	logger, err := newLoggerJob(&c.loggerFlags, &c.socketFlags, log)
	if err != nil {
		return err
	}
	return c.run(ctx, log, newForwarderJob(&c.forwarderFlags, &c.socketFlags, log), logger)
}
