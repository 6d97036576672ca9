// Package zmtptest replaces the network and the peer in tests of ZMTP: connections in memory
// ([Pipe], [Network]) with faults that a test switches on, a peer that follows a script byte for
// byte ([Raw]), and recorded exchanges with libzmq ([Vectors]).
//
// The connections use only the time package and a condition variable, so they work in a bubble of
// testing/synctest: a goroutine that waits in Read, Write, Accept or Dial is durably blocked, and
// deadlines follow the time of the bubble. Both ends must be used in the bubble in which they were
// made.
//
// The package does not import zmtp, because tests of zmtp import it.
package zmtptest
