package main

import "context"

type upCommand struct {
	forwarderFlags
	loggerFlags
	socketFlags
	securityFlags
	daemonFlags
}

// Run runs broker and logger until ctx ends.
func (c *upCommand) Run(ctx context.Context, std *stdio, conf *configuration) error {
	log := c.newLog(std.err)
	s, err := c.open(log)
	if err != nil {
		return err
	}
	defer s.close()
	broker, err := newForwarderJob(&c.forwarderFlags, &c.socketFlags, s, log)
	if err != nil {
		return err
	}
	logger, err := newLoggerJob(&c.loggerFlags, &c.socketFlags, s, log)
	if err != nil {
		return err
	}
	defer conf.onHangup(log, func(now *cli) {
		c.reload(&now.Up.daemonFlags)
		broker.reload(&now.Up.forwarderFlags)
	})()
	return c.run(ctx, log, s, broker, logger)
}
