package logwriter

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// logWrite is the first part of a log message (src/cluster/backend/zeromq/ZeroMQ.cc in Zeek).
const logWrite = "log-write"

// batch is a log message being built, in wire form, so that it is sent from where it was encoded.
// Its last frame has a long size whatever it holds (RFC 37 allows that), which makes room for any.
type batch struct {
	head    []byte // what every message begins with, up to the values; sizes and count are zero
	body    int    // where the last frame's body begins
	hint    int    // expected size of the next message
	maxHint int    // which it does not exceed

	buf     []byte // head and values
	records int
}

// newBatch returns an empty batch of at most size bytes as a rule.
func newBatch(node string, s *zeek.Schema, size int) (*batch, error) {
	b := &batch{maxHint: size}
	b.head = zmtp.AppendMessage(nil, []byte(logWrite), []byte(node), []byte(zeek.SerializerName))
	// Three frames are there, and the last of them is not the last of the message.
	third := len(b.head) - wire.FrameSize(len(zeek.SerializerName))
	b.head[third] |= byte(wire.More)
	b.head = append(b.head, byte(wire.Long))
	b.head = binary.BigEndian.AppendUint64(b.head, 0)
	b.body = len(b.head)
	var err error
	if b.head, err = zeek.AppendSchema(b.head, s); err != nil {
		return nil, err
	}
	b.head = binary.BigEndian.AppendUint32(b.head, 0)
	if len(b.head) > maxMessage {
		return nil,
			fmt.Errorf("the names in Config have %d bytes, a log message may have at most %d",
				len(b.head), maxMessage)
	}
	b.reset()
	return b, nil
}

// reset begins a new message in new memory.
func (b *batch) reset() {
	b.buf = append(make([]byte, 0, max(b.hint, len(b.head))), b.head...)
	b.records = 0
}

// seal returns the message, and begins a new one.
func (b *batch) seal() (m zmtp.Message, records int) {
	binary.BigEndian.PutUint64(b.buf[b.body-8:], uint64(len(b.buf)-b.body))
	binary.BigEndian.PutUint32(b.buf[len(b.head)-4:], uint32(b.records))
	m, err := zmtp.ParseMessage(trim(b.buf))
	if err != nil {
		panic("logwriter: a message that is not well formed: " + err.Error())
	}
	records = b.records
	b.hint = min(len(b.buf)+len(b.buf)/8, b.maxHint)
	b.reset()
	return m, records
}

// truncate takes back what was appended after the first n bytes.
func (b *batch) truncate(n int) { b.buf = trim(b.buf[:n]) }

// trim copies b if it keeps much more memory than it needs.
func trim(b []byte) []byte {
	if cap(b) > 2*len(b)+64<<10 {
		return slices.Clone(b)
	}
	return b
}

// The number of records in a message fits its u32.
const _ = uint64(math.MaxUint32 - zmtp.DefaultMaxMessageSize)
