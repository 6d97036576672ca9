// Package wire encodes and decodes ZMTP 3.1 (RFC 37) as libzmq speaks it: greetings, frames,
// commands and metadata.
//
// The package does no I/O and keeps no time. Parsers return values that refer to their input.
// Appenders append to dst and return it, as those of the standard library do. All integers are in
// network byte order.
//
//	connection = greeting *handshake-frame *( message | command )
//
//	greeting   = signature major minor mechanism as-server filler          64 bytes
//	signature  = %xFF 8OCTET %x7F                      only bit 0 of the last octet counts
//	major      = %x03                                  minor = %x00 or %x01
//	mechanism  = 20OCTET                               upper case ASCII, zero padded
//	as-server  = OCTET                                 libzmq sends 0 and never reads it
//	filler     = 31%x00
//
//	frame      = flags size body
//	flags      = OCTET            bit 0 MORE, bit 1 LONG, bit 2 COMMAND, bits 3-7 zero
//	size       = OCTET | 8OCTET   one octet without LONG, eight with it, at most 2^63-1
//
//	message    = *( frame with MORE ) frame without MORE                none with COMMAND
//	command    = frame with COMMAND, without MORE; body = name-size name data
//	metadata   = *( name-size name 4OCTET-value-size value )
//
// Commands may come between the frames of a message. The grammar of RFC 37 does not allow that, but
// libzmq sends its heartbeats there.
package wire
