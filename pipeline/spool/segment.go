package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/bits"
	"strconv"
)

const (
	segmentMagic   = "\x89spool\r\n"
	segmentVersion = 1
	segmentHeader  = 24 // bytes before the first record
	recordHeader   = 12 // bytes before a record's content
	segmentSuffix  = ".segment"
	seqDigits      = 20

	// maxSeq bounds the numbers that are accepted from disk, so that counting on from one does not
	// overflow.
	maxSeq = Seq(1) << 62
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errVersion is the error for an undamaged file of a later version.
var errVersion = errors.New("spool: file of an unknown version")

// segment is one file of records. Spool.mu guards the fields from n on.
type segment struct {
	first Seq
	name  string

	n     uint64 // number of records, including unreadable ones
	live  uint64 // number of records that are neither acknowledged nor lost
	done  bitmap // the other records, by index
	end   int64  // end of the readable part; 0 before there is a header
	size  int64  // size on disk, in bytes
	w     file   // open while it is written, and until it is synced
	dirty bool   // w must be synced
	r     file   // open while the cursor of Next is in the segment
	users int    // calls that use w or r
	dead  bool   // no longer in Spool.segments; its last user deletes the file

	warned bool // its damage was logged
}

// after returns the number after the segment's last record.
func (g *segment) after() Seq { return g.first + Seq(g.n) }

// file has the methods of *os.File that a segment needs.
type file interface {
	io.ReaderAt
	io.WriterAt
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

func segmentName(first Seq) string {
	return fmt.Sprintf("%0*d%s", seqDigits, uint64(first), segmentSuffix)
}

// parseSegmentName reports whether a name is that of a segment.
func parseSegmentName(name string) (first Seq, ok bool) {
	if len(name) != seqDigits+len(segmentSuffix) || name[seqDigits:] != segmentSuffix {
		return 0, false
	}
	for _, c := range []byte(name[:seqDigits]) {
		if c < '0' || c > '9' { // ParseUint accepts a sign
			return 0, false
		}
	}
	u, err := strconv.ParseUint(name[:seqDigits], 10, 64)
	return Seq(u), err == nil && Seq(u) <= maxSeq && u != 0
}

func appendSegmentHeader(dst []byte, first Seq) []byte {
	start := len(dst)
	dst = append(dst, segmentMagic...)
	dst = binary.BigEndian.AppendUint32(dst, segmentVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(first))
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// parseSegmentHeader returns the number of the first record. The error is errVersion for an
// undamaged header of another version. Every other error is damage.
func parseSegmentHeader(b []byte) (Seq, error) {
	if len(b) < segmentHeader {
		return 0, fmt.Errorf("a segment header of %d bytes, want %d", len(b), segmentHeader)
	}
	switch {
	case !bytes.HasPrefix(b, []byte(segmentMagic)):
		return 0, errors.New("wrong magic in a segment header")
	case crc32.Checksum(b[:20], castagnoli) != binary.BigEndian.Uint32(b[20:]):
		return 0, errors.New("wrong checksum of a segment header")
	case binary.BigEndian.Uint32(b[8:]) != segmentVersion:
		return 0, errVersion
	}
	return Seq(binary.BigEndian.Uint64(b[12:])), nil
}

// headerSum computes the checksums of lengths. It is a type, since its input would else be
// allocated for each record.
type headerSum [12]byte

func (h *headerSum) of(seq Seq, length uint32) uint32 {
	binary.BigEndian.PutUint64(h[:], uint64(seq))
	binary.BigEndian.PutUint32(h[8:], length)
	return crc32.Checksum(h[:], castagnoli)
}

// appendHeader appends the header of a record.
func (h *headerSum) appendHeader(dst []byte, seq Seq, content ...[]byte) []byte {
	length, sum := uint32(0), uint32(0)
	for _, part := range content {
		length += uint32(len(part))
		sum = crc32.Update(sum, castagnoli, part)
	}
	dst = binary.BigEndian.AppendUint32(dst, length)
	dst = binary.BigEndian.AppendUint32(dst, h.of(seq, length))
	return binary.BigEndian.AppendUint32(dst, sum)
}

// parseHeader returns the length and the checksum of a record's content. b has at least
// recordHeader bytes. ok is false if b is not the header of the record with number seq, or if the
// record would be too large.
func (h *headerSum) parseHeader(b []byte, seq Seq) (length int64, sum uint32, ok bool) {
	u := binary.BigEndian.Uint32(b)
	return int64(u), binary.BigEndian.Uint32(b[8:]), u <= MaxRecord &&
		binary.BigEndian.Uint32(b[4:]) == h.of(seq, u)
}

// bitmap is a set of small numbers. Its length depends on the largest one.
type bitmap []uint64

func (m bitmap) has(i uint64) bool {
	return i/64 < uint64(len(m)) && m[i/64]&(1<<(i%64)) != 0
}

func (m *bitmap) add(i uint64) {
	for i/64 >= uint64(len(*m)) {
		*m = append(*m, 0)
	}
	(*m)[i/64] |= 1 << (i % 64)
}

// firstWith returns the first number from i on that is in the set, or n if there is none below n.
func (m bitmap) firstWith(i, n uint64) uint64 { return m.first(0, i, n) }

// firstWithout returns the first number from i on that is not in the set, or n if there is none
// below n.
func (m bitmap) firstWithout(i, n uint64) uint64 { return m.first(^uint64(0), i, n) }

// first finds the first bit that differs from those of the word same.
func (m bitmap) first(same, i, n uint64) uint64 {
	for i < n {
		word := same // behind the map no number is in the set
		if i/64 < uint64(len(m)) {
			word ^= m[i/64]
		} else if same == 0 {
			return n
		}
		if word >>= i % 64; word != 0 {
			return min(n, i+uint64(bits.TrailingZeros64(word)))
		}
		i = (i/64 + 1) * 64
	}
	return n
}

// closeFiles closes the files of a segment that is not in use.
func (g *segment) closeFiles() {
	for _, f := range []file{g.w, g.r} {
		if f != nil {
			f.Close()
		}
	}
	g.w, g.r = nil, nil
}
