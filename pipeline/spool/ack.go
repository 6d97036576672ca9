package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
)

const (
	acksName    = "acknowledged"
	acksTemp    = "acknowledged.tmp"
	acksMagic   = "\x89spack\r\n"
	acksVersion = 1
	acksHeader  = 32
	rangeSize   = 16

	// maxRanges bounds the file of acknowledgements to 16 MiB. If the acknowledgements are more
	// scattered, the file lacks those with the highest numbers, and a later process delivers these
	// records again.
	maxRanges = 1 << 20
)

// Ack records that records are done: neither this process nor a later one reads them again. The
// numbers may be in any order, and may be of records that Next has not returned. Ack ignores
// numbers that were acknowledged before, dropped, or never given. It may delete segments. The disk
// learns of the rest at the next sync.
func (s *Spool) Ack(seqs ...Seq) {
	var gone []*segment
	s.mu.Lock()
	for _, seq := range seqs {
		g := s.find(seq)
		if s.closed || g == nil || seq < g.first || g.done.has(uint64(seq-g.first)) {
			continue
		}
		s.settle(g, seq)
		if g.live == 0 && g != s.active && s.kill(g) {
			gone = append(gone, g)
		}
	}
	if gone != nil {
		s.running.Add(1) // so that Close waits
		defer s.running.Done()
	}
	s.mu.Unlock()
	for _, g := range gone {
		_ = s.remove(g) // the flusher tries again
	}
}

// acks is the content of the file of acknowledgements.
type acks struct {
	next, floor Seq
	ranges      []byte // as in the file
}

// contains reports whether a record is done.
func (a *acks) contains(seq Seq) bool {
	if seq < a.floor {
		return true
	}
	lo, hi := 0, len(a.ranges)/rangeSize
	for lo < hi {
		m := int(uint(lo+hi) / 2)
		switch first, after := parseRange(a.ranges[m*rangeSize:]); {
		case seq < first:
			hi = m
		case seq >= after:
			lo = m + 1
		default:
			return true
		}
	}
	return false
}

func parseRange(b []byte) (first, after Seq) {
	return Seq(binary.BigEndian.Uint64(b)), Seq(binary.BigEndian.Uint64(b[8:]))
}

// parseAcks checks and keeps the content of a file of acknowledgements. The error is errVersion for
// an undamaged one of another version. Every other error is damage.
func parseAcks(b []byte) (acks, error) {
	if len(b) < acksHeader+4 || !bytes.HasPrefix(b, []byte(acksMagic)) {
		return acks{}, errors.New("wrong magic")
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return acks{}, errors.New("wrong checksum")
	}
	if binary.BigEndian.Uint32(b[8:]) != acksVersion {
		return acks{}, errVersion
	}
	a := acks{
		next:   Seq(binary.BigEndian.Uint64(b[12:])),
		floor:  Seq(binary.BigEndian.Uint64(b[20:])),
		ranges: body[acksHeader:],
	}
	n := binary.BigEndian.Uint32(b[28:])
	if a.next == 0 || a.next > maxSeq || a.floor > a.next || n > maxRanges ||
		int(n)*rangeSize != len(a.ranges) {
		return acks{}, fmt.Errorf("impossible: next %d, floor %d, %d ranges in %d bytes", a.next,
			a.floor, n, len(a.ranges))
	}
	last := a.floor
	for r := a.ranges; len(r) > 0; r = r[rangeSize:] {
		first, after := parseRange(r)
		if first <= last || first >= after || after > a.next {
			return acks{}, fmt.Errorf("impossible: range from %d to %d after %d", first, after,
				last)
		}
		last = after
	}
	return a, nil
}

// appendAcks appends the current content of the file of acknowledgements. The caller holds mu.
func (s *Spool) appendAcks(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, acksMagic...)
	dst = binary.BigEndian.AppendUint32(dst, acksVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.next))
	dst = append(dst, make([]byte, acksHeader-20)...)
	ranges := len(dst)
	floor := s.next
	begin, after := Seq(0), Seq(0) // the last range, not yet appended
	for _, g := range s.segments {
		i := uint64(0)
		if floor == s.next {
			if i = g.done.firstWithout(0, g.n); i == g.n {
				continue
			}
			floor = g.first + Seq(i)
		}
		for {
			if i = g.done.firstWith(i, g.n); i == g.n {
				break
			}
			j := g.done.firstWithout(i, g.n)
			if first := g.first + Seq(i); first != after {
				dst = appendRange(dst, begin, after)
				begin = first
			}
			after = g.first + Seq(j)
			i = j
		}
	}
	dst = appendRange(dst, begin, after)
	dst = dst[:min(len(dst), ranges+maxRanges*rangeSize)]
	binary.BigEndian.PutUint64(dst[start+20:], uint64(floor))
	binary.BigEndian.PutUint32(dst[start+28:], uint32((len(dst)-ranges)/rangeSize))
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// appendRange appends a range unless it is empty.
func appendRange(dst []byte, first, after Seq) []byte {
	if first == after {
		return dst
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(first))
	return binary.BigEndian.AppendUint64(dst, uint64(after))
}

// readAcks reads the acknowledgements of earlier processes. It logs damage, and then returns none.
func (s *Spool) readAcks() (acks, error) {
	f, err := s.root.Open(acksName)
	if errors.Is(err, fs.ErrNotExist) {
		return acks{next: 1}, nil
	}
	if err != nil {
		return acks{}, fmt.Errorf("spool: %w", err)
	}
	defer f.Close()
	const most = acksHeader + maxRanges*rangeSize + 4
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return acks{}, fmt.Errorf("spool: %w", err)
	}
	a, err := parseAcks(b)
	if err == errVersion {
		return acks{}, fmt.Errorf("%w: %s", err, acksName)
	}
	if err != nil {
		s.log.Warn("the spool's file of acknowledgements is damaged; all records are delivered "+
			"again", "path", acksName, "err", err)
		s.acksDirty = true
		return acks{next: 1}, nil
	}
	return a, nil
}

// writeAcks replaces the file of acknowledgements unless it is up to date. Only the flusher calls
// it.
func (s *Spool) writeAcks() (err error) {
	s.mu.Lock()
	dirty := s.acksDirty
	s.acksDirty = false
	if dirty {
		s.acksBuf = s.appendAcks(s.acksBuf[:0])
	}
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	defer func() {
		if err != nil {
			_ = s.root.Remove(acksTemp)
			s.mu.Lock()
			s.acksDirty = true
			s.mu.Unlock()
			err = fmt.Errorf("spool: cannot write the acknowledgements: %w", err)
		}
	}()
	f, err := s.open(acksTemp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(s.acksBuf, 0)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = s.root.Rename(acksTemp, acksName)
	}
	s.mu.Lock()
	s.dirDirty = true
	s.mu.Unlock()
	return err
}
