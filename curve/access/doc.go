// Package access is who may come into a CURVE server and what each client may do: keys in files that an operator adds and
// removes while the server runs.
//
// [Sources] name the files. [Open] reads them into a [Store], which is the server's [zap.Handler] and makes its mechanisms. After
// [Store.Reload] what was read last counts: for new connections at once, and for those that exist when the server asks
// [Store.Client] again, which it does after every change and now and then.
//
// # Files
//
// A client is a certificate file with its public key (see [curve.Certificate]); in a folder those are the files *.key.
// Its metadata say who it is and what it may do:
//
//	metadata
//	    name = "worker-1"
//	    publish = "zeek.cluster. zeek.supervisor."
//	    subscribe = "zeek."
//	    logs = "no"
//	curve
//	    public-key = "..."
//
// Without a name it is called like its file. publish and subscribe list prefixes of topics, with spaces between; a line that is
// not there allows everything, an empty value nothing. logs is yes, the default, or no. The server's own keys are
// certificates with the secret key; in a folder those are the files *.key_secret.
package access
