// Package zmtptest has what tests of ZMTP need in place of a network and of a peer: connections in memory ([Pipe],
// [Network]) on which faults can be switched on, a peer that follows a script byte for byte ([Raw]), and the recorded
// exchanges with libzmq ([Vectors]).
//
// The connections use nothing but the time package and a condition variable, and so work inside a bubble of
// testing/synctest: a goroutine that waits in Read, Write, Accept or Dial is durably blocked, and deadlines are in the
// bubble's time. Both ends have to be used in the bubble in which they were made.
//
// The package does not import zmtp, whose own tests use it.
package zmtptest
