// Package capture reads packet captures and finds the ZMTP 3 sessions in them: their endpoints,
// handshakes, messages and commands.
//
//	r, err := capture.NewReader(file, capture.Options{})
//	for ev, err := range r.Events(ctx) {
//		if err != nil { ... }
//		if ev.Kind == capture.Message && ev.To().Port() == 5557 {
//			push.Send(ctx, ev.Message)
//		}
//	}
//
// # Life of a packet
//
//  1. file.go, pcap.go, pcapng.go: read a record of the file, which may be compressed with gzip.
//  2. link.go, decode.go: cut off the link header; gopacket decodes IP and TCP.
//  3. reader.go: find the session by its two endpoints. session.go: follow SYN, FIN and RST.
//  4. assembler.go: let gopacket put the segments of each direction in order.
//  5. dissect.go: cut a direction into greeting, handshake, messages and commands, which become
//     events.
//
// A capture is hostile input. The memory of a session is bounded (limits.go), and so is the number
// of sessions: the one that was idle for longest makes room for a new one. The same file always
// gives the same events.
//
// The package does not decode messages of CURVE sessions, ZMTP before 3.0, fragmented IP packets,
// and a direction whose beginning is not in the file.
package capture
