// Package testkit has what the tests of several packages need: polling with a deadline, recorded
// data, small file systems, and processes that talk to the code under test: zmtpd itself, and
// sockets of libzmq.
//
// It imports the standard library only, so that every package's tests may use it. What fails, fails
// the test that called; nothing here may be called from another goroutine than the test's, unless
// its comment says so.
package testkit
