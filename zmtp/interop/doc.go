// Package interop tests package zmtp against libzmq. It has no code of its own.
//
// The other end is a process (zmtp/testkit/peer.py, through pyzmq; testdata/*.c where that hides
// something) which a test drives with JSON lines, so that it can also be stopped and killed.
// [zmtpd/zmtp] and libzmq have the same face in the tests, the interface end: a scenario is written
// once and run with the one or the other at each place.
//
// The tests need python3-zmq, libzmq3-dev and a C compiler, and fail without. TestNpm* also need
// Node and npm's zeromq, which has libzmq's newer socket types: see testkit.StartZeroMQJS. Only
// what neither can do needs a libzmq that somebody has built, see testkit.StartEcho, and is skipped
// without. All tests use ephemeral ports only.
package interop
