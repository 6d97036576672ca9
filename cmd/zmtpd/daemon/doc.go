// Package daemon has what the daemons of zmtpd share: common flags, the configuration file, start
// and shutdown, the reload of configuration and keys, the HTTP server, and the metrics and status
// of sockets.
//
// A daemon is a struct with the flags of its command. It embeds [Flags] and implements [Command]:
//
//	type relayCommand struct {
//		To string `help:"Where to send everything."`
//		daemon.Flags
//	}
//
//	func (c *relayCommand) Jobs(env *daemon.Env) ([]daemon.Job, error)
//
// A [Job] owns sockets: it binds and closes them, and reports about them in /metrics and /status. A
// daemon may have several jobs, and a job may be part of several daemons. The struct becomes a
// command with one line in the grammar of the command line. A change of a flag with the tag
// reload:"" takes effect on SIGHUP: [Job.Reload] gets the struct with the new values.
package daemon
