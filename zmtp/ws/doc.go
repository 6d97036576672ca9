// Package ws carries ZeroMQ over WebSocket (RFC 45, as libzmq 4.3 speaks it), for endpoints such as
// ws://host:port/path and wss://host:port/path:
//
//	cfg.Transports = ws.Transports(ws.Options{})
//	pull := zmtp.NewPull(cfg)
//	bound, err := pull.Listen("ws://127.0.0.1:*/logs")
//
// The ends agree on the security mechanism by the subprotocol: ZWS2.0/NULL, ZWS2.0/PLAIN or
// ZWS2.0/CURVE; ZWS2.0 alone is NULL without READY. A part of a message is one binary frame of
// WebSocket, whose first byte has the flags. Text frames, fragmented messages and extensions are
// refused, as in libzmq (ws_decoder.cpp).
//
// The codec of WebSocket frames (RFC 6455) is package frame, because a frame must be passed on
// while it arrives: a library that gives out whole messages would hold each of them in memory
// before zmtp has checked its size.
package ws
