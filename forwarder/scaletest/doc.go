// Package scaletest holds tests of the forwarder with many connections, topics and comings and
// goings, over TCP against a broker in a process of its own, whose memory is measured. They are
// small by default; `make scale` makes them large.
package scaletest
