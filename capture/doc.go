// Package capture reads packet captures and finds the ZMTP 3 sessions in them: who connected to whom, what they said in
// the handshake, and their messages and commands.
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
//  1. file.go, pcap.go, pcapng.go: a record of the file, gzip-ed or not.
//  2. link.go, decode.go: the link header goes, what is left is IP, which gopacket takes apart down to a TCP segment.
//  3. reader.go finds the session by its two endpoints, session.go follows SYN, FIN and RST.
//  4. assembler.go has gopacket put the segments of each direction in order.
//  5. dissect.go cuts the bytes of a direction into greeting, handshake, messages and commands, which become events.
//
// A capture is hostile input. What a session may hold is bounded (limits.go), and so is the number of sessions: the one
// that was quiet for longest makes room. The events are a function of the file: reading it again gives them again.
//
// Not decoded are messages of CURVE sessions, ZMTP before 3.0, fragmented IP packets, and a direction whose beginning is not
// in the file.
//
// Live capture is another source of packets and belongs beside the formats of files; decoding what Zeek sends belongs
// behind the events.
package capture
