package main

import "zmtpd/cmd/zmtpd/daemon"

type upCommand struct {
	forwarderFlags
	loggerFlags
	storeFlags
	daemon.Flags
}

// Jobs implements [daemon.Command].
func (c *upCommand) Jobs(env *daemon.Env) ([]daemon.Job, error) {
	broker, err := newForwarderJob(&c.forwarderFlags, env)
	if err != nil {
		return nil, err
	}
	node, err := newClusterJob(&c.clusterFlags, env, broker)
	if err != nil {
		return nil, err
	}
	var logs logPublisher
	if len(c.PublishLogs) > 0 {
		logs = broker.inProcess()
	}
	logger, err := newLoggerJob(&c.loggerFlags, logs, env)
	if err != nil {
		return nil, err
	}
	stores, err := newStoreJob(&c.storeFlags, env, broker)
	return stores.with(node.with(broker, logger)...), err
}
