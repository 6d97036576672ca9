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
	"slices"
)

// A record that kills the process would also kill the next process, which delivers it again. To
// find it, Begin and End write to a file which records are being delivered. Records that were being
// delivered at the death of a process are suspects.

const (
	suspectsName    = "delivering"
	suspectsMagic   = "\x89spdel\r\n"
	suspectsVersion = 1
	suspectsHeader  = 12
	slotSize        = 16

	// maxSlots bounds the file. If more records are being delivered, the others are not in it.
	maxSlots = 1024

	// begun is set in a slot's number while the record is being delivered.
	begun = 1 << 31

	// asideDir contains the records that were set aside.
	asideDir = "aside"
)

// suspects are the records that are being delivered, and those at which a process has died.
// Spool.suspecting guards it.
type suspects struct {
	f      file // nil until there is something to write
	buf    [slotSize]byte
	slots  []Seq
	places map[Seq]int    // slot by record
	deaths map[Seq]uint32 // by record; not zero
}

// Begin records that the delivery of a record from Next begins. If the process dies before End,
// [Spool.Deaths] of later processes counts that. Begin waits until the system has taken a few
// bytes.
func (s *Spool) Begin(seq Seq) {
	s.suspecting.Lock()
	defer s.suspecting.Unlock()
	u := &s.suspects
	place, ok := u.places[seq]
	if !ok {
		if place = slices.Index(u.slots, 0); place < 0 {
			if place = len(u.slots); place == maxSlots {
				return
			}
			u.slots = append(u.slots, 0)
		}
		u.slots[place] = seq
		u.places[seq] = place
	}
	s.note(place, seq, u.deaths[seq]|begun)
}

// End records that the delivery has ended, and removes the suspicion.
func (s *Spool) End(seq Seq) {
	s.suspecting.Lock()
	defer s.suspecting.Unlock()
	u := &s.suspects
	place, ok := u.places[seq]
	if !ok {
		return
	}
	u.slots[place] = 0
	delete(u.places, seq)
	delete(u.deaths, seq)
	s.note(place, 0, 0)
}

// Deaths returns how many processes in a row have died while they delivered the record.
func (s *Spool) Deaths(seq Seq) int {
	s.suspecting.Lock()
	defer s.suspecting.Unlock()
	return int(s.suspects.deaths[seq])
}

// SetAside moves a record from Next to a file of its own in the folder "aside". It syncs the file
// and acknowledges the record. The spool never reads or deletes the file. It returns the file's
// path.
func (s *Spool) SetAside(seq Seq, record []byte) (path string, err error) {
	if path, err = s.writeAside(seq, record); err != nil {
		return "", fmt.Errorf("spool: cannot set a record aside: %w", err)
	}
	s.Ack(seq)
	s.End(seq)
	s.mu.Lock()
	s.stats.SetAside++
	s.mu.Unlock()
	return path, nil
}

func (s *Spool) writeAside(seq Seq, record []byte) (path string, err error) {
	if err := s.root.Mkdir(asideDir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	name := fmt.Sprintf("%s/%0*d", asideDir, seqDigits, uint64(seq))
	f, err := s.open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	for i := 1; errors.Is(err, fs.ErrExist); i++ { // a number may be given again
		name = fmt.Sprintf("%s/%0*d-%d", asideDir, seqDigits, uint64(seq), i)
		f, err = s.open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	}
	if err != nil {
		return "", err
	}
	_, err = f.WriteAt(record, 0)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = s.root.Remove(name)
		return "", err
	}
	s.syncFolder(asideDir)
	s.syncFolder(".")
	return s.root.Name() + "/" + name, nil
}

// note writes a slot. If that fails, a record that kills the process may not be found. The caller
// holds suspecting.
func (s *Spool) note(place int, seq Seq, number uint32) {
	u := &s.suspects
	if u.f == nil {
		f, err := s.open(suspectsName, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		if err != nil {
			return
		}
		u.f = f
		_, _ = f.WriteAt(binary.BigEndian.AppendUint32([]byte(suspectsMagic), suspectsVersion), 0)
	}
	_, _ = u.f.WriteAt(appendSlot(u.buf[:0], seq, number), suspectsHeader+int64(place)*slotSize)
}

// appendSlot appends a slot. An empty one consists of zeros.
func appendSlot(dst []byte, seq Seq, number uint32) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint64(dst, uint64(seq))
	dst = binary.BigEndian.AppendUint32(dst, number)
	if seq == 0 {
		return binary.BigEndian.AppendUint32(dst, 0)
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// parseSuspects returns how many processes have died at which record. It skips damaged slots.
func parseSuspects(b []byte) (map[Seq]uint32, error) {
	deaths := map[Seq]uint32{}
	if len(b) < suspectsHeader || !bytes.HasPrefix(b, []byte(suspectsMagic)) {
		return deaths, nil
	}
	if binary.BigEndian.Uint32(b[8:]) != suspectsVersion {
		return nil, errVersion
	}
	for b = b[suspectsHeader:]; len(b) >= slotSize; b = b[slotSize:] {
		seq, number := Seq(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:])
		if seq == 0 || seq > maxSeq ||
			crc32.Checksum(b[:12], castagnoli) != binary.BigEndian.Uint32(b[12:]) {
			continue
		}
		n := number &^ begun
		if number&begun != 0 && n < begun-1 {
			n++
		}
		if n > 0 {
			deaths[seq] = n
		}
	}
	return deaths, nil
}

// recoverSuspects reads the file of earlier processes and begins a new one with its content. The
// segments must be known.
func (s *Spool) recoverSuspects() error {
	u := &s.suspects
	u.places = map[Seq]int{}
	f, err := s.open(suspectsName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		u.deaths = map[Seq]uint32{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, suspectsHeader+maxSlots*slotSize))
	f.Close()
	if err != nil {
		return fmt.Errorf("spool: cannot read %s: %w", suspectsName, err)
	}
	if u.deaths, err = parseSuspects(b); err != nil {
		return fmt.Errorf("%w: %s", err, suspectsName)
	}
	_ = s.root.Remove(suspectsName)
	for seq, n := range u.deaths {
		if g := s.find(seq); g == nil || seq < g.first || g.done.has(uint64(seq-g.first)) {
			delete(u.deaths, seq)
			continue
		}
		u.places[seq] = len(u.slots)
		u.slots = append(u.slots, seq)
		s.note(u.places[seq], seq, n)
	}
	return nil
}

// closeSuspects closes the file, and deletes it if there are no suspects. No record is being
// delivered any more.
func (s *Spool) closeSuspects() {
	u := &s.suspects
	if u.f == nil {
		return
	}
	u.f.Close()
	u.f = nil
	if len(u.deaths) == 0 {
		_ = s.root.Remove(suspectsName)
	}
}
