// Package scaletest holds tests of the forwarder with many connections, many topics and frequent
// changes of both. They run over TCP against a broker in a process of its own, whose memory they
// measure. They are small by default; `make scale` makes them large.
package scaletest
