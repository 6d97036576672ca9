package main

import "zmtpd/cmd/zmtpd/daemon"

// storeServerCommand keeps stores without a broker or a logger.
type storeServerCommand struct {
	storeFlags
	daemon.Flags
}

// Jobs implements [daemon.Command].
func (c *storeServerCommand) Jobs(env *daemon.Env) ([]daemon.Job, error) {
	if len(c.Store)+len(c.StoreClone) == 0 {
		return nil, daemon.Usagef("--store: no store; give at least one, as in --store hosts")
	}
	stores, err := newStoreJob(&c.storeFlags, env, nil)
	return stores.with(), err
}
