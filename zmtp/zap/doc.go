// Package zap implements the ZeroMQ Authentication Protocol, version 1.0 (RFC 27): the requests by
// which a server asks an authenticator about a client, and the replies.
//
//	request = "1.0" request-id domain address identity mechanism *credentials    one frame each
//	reply   = "1.0" request-id status-code status-text user-id metadata          one frame each
//
// On a REQ/REP connection an empty delimiter frame precedes both. It belongs to the socket and not
// to this package. As in libzmq, the identity is the routing id of the asking socket, not of the
// client.
//
// A [Handler] answers requests in the same process. Package zmtpd/zmtp/zapclient asks an
// authenticator in another process.
package zap
