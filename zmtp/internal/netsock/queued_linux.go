package netsock

import "syscall"

// tcp(7), unix(7)
const (
	receiveQueue = syscall.TIOCINQ  // SIOCINQ
	sendQueue    = syscall.TIOCOUTQ // SIOCOUTQ
)
