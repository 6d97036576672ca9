// Package capture finds the ZMTP sessions in captured packets: their endpoints, handshakes,
// messages and commands, and how TCP fared.
//
//	r, err := capture.NewReader(file, capture.Options{})
//	for ev, err := range r.Events(ctx) {
//		if err != nil { ... }
//		if ev.Kind == capture.Message && ev.Session.FromClient.Type == wire.PUSH {
//			push.Send(ctx, ev.Clone().Message)
//		}
//	}
//
// # Life of a packet
//
//  1. A Source gives it. file.go, pcap.go, pcapng.go: a record of a file, which may be compressed
//     with gzip or zstd. Package live has the sources of an interface.
//  2. link.go, decode.go: cut off the link header; decode IP and TCP.
//  3. reader.go: find the session by its two endpoints. session.go: follow SYN, FIN and RST.
//  4. assembler.go: put the segments of each direction in order.
//  5. dissect.go: cut a direction into greeting, handshake, messages and commands, which become
//     events. websocket.go: take them out of WebSocket frames before. sealed.go: decrypt CURVE.
//     resync.go: go on behind a gap.
//
// A session is recognized by its greeting, or by its HTTP upgrade to ZMTP over WebSocket (RFC 45).
// One that began before the capture is recognized by its frames, if there are enough of them.
//
// A capture is hostile input. The memory of a session is bounded (limits.go), and so is the number
// of sessions: the one that was idle for longest makes room for a new one. The same file always
// gives the same events. Once buffers have grown, a packet costs no allocation.
//
// The package does not decode messages of ZMTP 1.0, fragmented IP packets, and sessions over
// WebSocket that began before the capture.
package capture
