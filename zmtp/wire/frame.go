package wire

import "encoding/binary"

// Flags is the first byte of a frame.
type Flags byte

// The flag bits (RFC 37, "Framing").
const (
	More    Flags = 1 << 0
	Long    Flags = 1 << 1
	Command Flags = 1 << 2

	reservedFlags = ^(More | Long | Command)
)

// MaxHeaderSize is the size of the longest frame header in bytes.
const MaxHeaderSize = 9

const maxFrameSize = 1<<63 - 1

// ParseHeader parses the frame header at the start of b. It returns the flags, the size of the body
// in bytes and the length n of the header, or n = 0 and no error while b is too short. The size is
// that of the header, up to 2^63-1: the caller has to bound it before it allocates. A long size for
// a short body is legal.
func ParseHeader(b []byte) (flags Flags, size int64, n int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, nil
	}
	flags = Flags(b[0])
	if flags&reservedFlags != 0 {
		return flags, 0, 0, Errorf(MalformedFrame, "reserved bits are set in frame flags %#02x",
			b[0])
	}
	if flags&Long == 0 {
		if len(b) < 2 {
			return flags, 0, 0, nil
		}
		return flags, int64(b[1]), 2, nil
	}
	if len(b) < MaxHeaderSize {
		return flags, 0, 0, nil
	}
	u := binary.BigEndian.Uint64(b[1:])
	if u > maxFrameSize {
		return flags, 0, 0, Errorf(MalformedFrame, "frame size %#x is above 2^63-1", u)
	}
	return flags, int64(u), MaxHeaderSize, nil
}

// AppendHeader appends the header of a frame with a body of size bytes. It sets Long if the size
// needs it.
func AppendHeader(dst []byte, flags Flags, size int) []byte {
	if size <= 255 {
		return append(dst, byte(flags&^Long), byte(size))
	}
	dst = append(dst, byte(flags|Long))
	return binary.BigEndian.AppendUint64(dst, uint64(size))
}

// AppendFrame appends a whole frame.
func AppendFrame(dst []byte, flags Flags, body []byte) []byte {
	return append(AppendHeader(dst, flags, len(body)), body...)
}

// FrameSize returns the length of a frame with a body of size bytes.
func FrameSize(size int) int {
	if size <= 255 {
		return 2 + size
	}
	return MaxHeaderSize + size
}
