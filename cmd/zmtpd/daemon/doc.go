// Package daemon has what the daemons of zmtpd share: common flags, the configuration file, the
// start and the end, reading the configuration and the keys again, the HTTP server, and the metrics
// and the status of sockets.
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
// A [Job] owns sockets. It binds and ends them, and describes them in /metrics and /status. One
// daemon may have several jobs, and several daemons may have the same. The struct becomes a command
// with one line in the grammar of the command line. A flag with the tag reload:"" takes effect on
// SIGHUP: [Job.Reload] gets the struct with the new values.
package daemon
