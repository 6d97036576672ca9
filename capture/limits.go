package capture

const (
	// maxPacket bounds a packet in bytes. It is the largest snapshot length of libpcap.
	maxPacket = 256 << 10

	// maxInterfaces bounds the interfaces of a section of a pcapng file.
	maxInterfaces = 1 << 12

	// maxWaiting and maxWaitingTotal bound the bytes that wait for missing segments, of one
	// direction and of all. maxHeld bounds the number of these segments. Beyond a bound the missing
	// segment counts as lost.
	maxWaiting      = 8 << 20
	maxWaitingTotal = 64 << 20
	maxHeld         = 1 << 13

	// A missing segment that the receiver has acknowledged was not captured, unless packets were
	// captured out of order. It counts as lost after so many later segments or so many seconds.
	maxHeldAcked   = 128
	maxSecondsHole = 1

	// maxEarly bounds the segments of one side that are held before its SYN is seen: reordering
	// explains a few only.
	maxEarly = 16

	// firstOffset is the offset of the first segment that is seen of a direction: those before it
	// may come later.
	firstOffset = 1 << 40

	// maxHandshakeFrame bounds a frame of the handshake in bytes, as package zmtp does.
	maxHandshakeFrame = 64 << 10

	// maxPooled and maxPool bound a buffer that is kept for the next use, and their number.
	maxPooled = 256 << 10
	maxPool   = 64
)

// limits are those of a Reader. Tests have others.
type limits struct {
	sessions, held        int
	waiting, waitingTotal int64
	message, buffered     int64
	firstOffset           int64
}
