// Package tool has what the command line tools of zmtpd share: one socket with endpoints from
// flags, messages on standard input and output, reports about failed connections, and a progress
// line.
package tool
