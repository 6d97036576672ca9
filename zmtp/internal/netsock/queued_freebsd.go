package netsock

// sys/filio.h
const (
	receiveQueue = 0x4004667f // FIONREAD
	sendQueue    = 0x40046677 // FIONWRITE
)
