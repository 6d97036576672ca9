// Package hostile attacks zmtpd, built as operators have it, with what peers must not be able to do
// to it and to each other: memory without bound, processor time without work, and other peers held
// up, locked out or robbed of their logs. "make hostile" runs the attacks in full size and prints a
// table; without ZMTPD_HOSTILE=large they are small, as part of the other tests.
//
// Every attack runs beside honest peers that send at a fixed rate, first without the attack and
// then with it. What the honest peers got is compared with what they offered, so that the result
// does not depend on how fast the machine is or what else it does. After each attack the daemon
// must live, its accounts must add up ([testkit.Unbalanced]), and its peak memory must be within
// its budget and a constant.
package hostile
