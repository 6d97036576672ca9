// Package doctor finds what is wrong with a cluster that uses zmtpd: in the files of Zeek and of
// zmtpd, in the running system, and between them. It changes nothing. What it connects to sees a
// peer that comes and goes.
//
// Every fault is in [Faults]. docs/doctor.md has the same list.
package doctor
