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

// logWrite is the first part of a log message (Zeek, src/cluster/backend/zeromq/ZeroMQ.cc).
const logWrite = "log-write"

// batch is a log message under construction, in wire form, so that it is sent without a copy. The
// size of its last frame has the long form, which is allowed for every size (RFC 37, section 2.2).
type batch struct {
	head    []byte // beginning of every message, up to the values; sizes and counts are zero
	body    int    // offset of the last frame's body
	hint    int    // expected size of the next message
	maxHint int    // upper limit of hint

	buf     []byte // head and values
	records int
}

// newBatch returns an empty batch for messages of about size bytes.
func newBatch(node string, s *zeek.Schema, size int) (*batch, error) {
	b := &batch{maxHint: size}
	b.head = zmtp.AppendMessage(nil, []byte(logWrite), []byte(node), []byte(zeek.SerializerName))
	// AppendMessage ended the message with the third frame. A fourth one follows.
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
			fmt.Errorf("the names in Config have %d bytes, a log message has at most %d",
				len(b.head), maxMessage)
	}
	b.reset()
	return b, nil
}

// reset begins a message in new memory.
func (b *batch) reset() {
	b.buf = append(make([]byte, 0, max(b.hint, len(b.head))), b.head...)
	b.records = 0
}

// seal returns the message, and begins the next one.
func (b *batch) seal() (m zmtp.Message, records int) {
	binary.BigEndian.PutUint64(b.buf[b.body-8:], uint64(len(b.buf)-b.body))
	binary.BigEndian.PutUint32(b.buf[len(b.head)-4:], uint32(b.records))
	m, err := zmtp.ParseMessage(trim(b.buf))
	if err != nil {
		panic("logwriter: the message is not well formed:" + err.Error())
	}
	records = b.records
	b.hint = min(len(b.buf)+len(b.buf)/8, b.maxHint)
	b.reset()
	return m, records
}

// truncate removes all but the first n bytes.
func (b *batch) truncate(n int) { b.buf = trim(b.buf[:n]) }

// trim copies b if its capacity is much larger than its content.
func trim(b []byte) []byte {
	if cap(b) > 2*len(b)+64<<10 {
		return slices.Clone(b)
	}
	return b
}

// The number of records in a message fits in its u32.
const _ = uint64(math.MaxUint32 - zmtp.DefaultMaxMessageSize)
