// Package netnstest lets tests connect from another host that can vanish: a network namespace of
// Linux behind a link that can be cut.
package netnstest
