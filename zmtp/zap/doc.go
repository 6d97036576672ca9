// Package zap is the ZeroMQ Authentication Protocol, version 1.0 (RFC 27): what a server asks when a client has proved who it is,
// and what it is told.
//
//	request = "1.0" request-id domain address identity mechanism *credentials       a frame each
//	reply   = "1.0" request-id status-code status-text user-id metadata             a frame each
//
// On a REQ/REP connection an empty delimiter frame stands in front of both; it belongs to the socket and not to this
// package. The identity is the routing id of the asking socket, not of the client, as in libzmq.
//
// A [Handler] answers requests in the process. An existing authenticator in another process is asked through package
// zmtpd/zmtp/zapclient.
package zap
