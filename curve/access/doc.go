// Package access controls which clients may connect to a CURVE server, and what each client may do.
// The clients' keys are in files that an operator adds and removes while the server runs.
//
// [Sources] name the files. [Open] reads them into a [Store], which is the server's [zap.Handler]
// and makes the mechanism of each connection. [Store.Reload] reads the files again. New connections
// use the new keys at once. Existing connections are checked with [Store.Client], which the server
// calls after each change and from time to time; [Guard] does that.
//
// # Files
//
// A client is a certificate file with the client's public key (see [curve.Certificate]). In a
// folder those are the files *.key. The metadata are the client's name and permissions:
//
//	metadata
//	    name = "worker-1"
//	    publish = "zeek.cluster. zeek.supervisor."
//	    subscribe = "zeek."
//	    logs = "no"
//	curve
//	    public-key = "..."
//
// The default name is that of the file. publish and subscribe are lists of topic prefixes,
// separated by spaces; a missing line allows all topics, an empty value none. logs is yes, the
// default, or no. The server's own keys are certificate files with a secret key. In a folder those
// are the files *.key_secret.
package access
