// Package hostile attacks zmtpd, built as for operators, with what peers must not be able to do to
// it and to each other: use memory without bound, cost processor time without work, and hold up
// other peers, exclude them or damage their logs. "make hostile" runs the attacks in full size and
// prints a table. Without ZMTPD_HOSTILE=large they are small and part of the other tests.
//
// Every attack runs beside honest peers that send at a fixed rate, first without the attack and
// then with it. The test compares the messages that honest peers got with those that they offered.
// So the result depends neither on the speed of the machine nor on its other load. After each
// attack the daemon must live, its accounts must add up ([testkit.Unbalanced]), and its peak memory
// must be within its budget plus a constant.
package hostile
