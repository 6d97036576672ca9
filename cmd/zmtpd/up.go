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
	logger, err := newLoggerJob(&c.loggerFlags, &c.socketFlags, s, std, log)
	if err != nil {
		return err
	}
	return c.daemonFlags.run(ctx, newReloader(log, s, conf, func(now *cli) {
		c.daemonFlags.reload(&now.Up.daemonFlags)
		s.reload(&now.Up.securityFlags)
		broker.reload(&now.Up.forwarderFlags, &now.Up.socketFlags)
		logger.reload(&now.Up.loggerFlags, &now.Up.socketFlags)
	}), broker, logger)
}
