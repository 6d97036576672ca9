package capture

const (
	// maxPacket bounds a packet in bytes. It is the largest snapshot length of libpcap.
	maxPacket = 256 << 10

	// maxInterfaces bounds the interfaces of a section of a pcapng file.
	maxInterfaces = 1 << 12

	// maxSessions bounds the TCP connections of which a Reader keeps the state.
	maxSessions = 1 << 16

	// maxPages and maxPagesTotal bound the data that wait for missing segments, of one session and
	// of all. A page is gopacket's unit, at most 1,900 bytes of one segment. Beyond the bound the
	// missing segment counts as lost.
	maxPages      = 1 << 12
	maxPagesTotal = 1 << 15

	// maxEarly bounds the segments of one side that are held before its SYN is seen: reordering
	// explains a few only.
	maxEarly = 64

	// firstOffset is the offset of the first segment that is seen of a direction: those before it
	// may come later.
	firstOffset = 1 << 30

	// maxHandshakeFrame bounds a frame of the handshake in bytes, as package zmtp does.
	maxHandshakeFrame = 64 << 10
)

// limits are those of a Reader. Tests have others.
type limits struct {
	sessions, pages, pagesTotal int
	message, buffered           int64
	firstOffset                 int64
}
