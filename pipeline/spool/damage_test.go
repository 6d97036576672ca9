package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// place is the place of a record on disk.
type place struct {
	content string
	segment string
	off     int64
}

func (p place) end() int64 { return p.off + recordHeader + int64(len(p.content)) }

// build fills a folder with records in several segments, and returns their places. Some records
// contain bytes that look like a record.
func build(t testing.TB, dir string) (places []place) {
	t.Helper()
	cfg := quiet(dir)
	cfg.SegmentBytes = 1000
	s, _ := start(t, cfg)
	var sum headerSum
	for i := range 40 {
		content := fmt.Sprintf("%d %s", i, strings.Repeat("x", i*7%150))
		if i%5 == 0 {
			inner := []byte("inner")
			content += string(append(sum.appendHeader(nil, Seq(i+2), inner), inner...))
		}
		appendRecords(t, s, content)
		g := s.active
		places = append(places, place{content, filepath.Join(dir, g.name),
			g.end - recordSize([]byte(content))})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return places
}

// damage changes bytes of a file. Three bytes of how make a change: two for the position, and one
// that is combined with the byte there.
func damage(content, how []byte) {
	for ; len(how) >= 3; how = how[3:] {
		content[int(binary.BigEndian.Uint16(how))%len(content)] ^= how[2]
	}
}

// FuzzDamage changes bytes of segments. A record may be lost only if it was changed, or if it
// follows, in its segment, a record with a changed size or checksum of the size. All others are
// delivered in order.
func FuzzDamage(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 12 {
		var how []byte
		for range 1 + n/3 {
			how = append(how, byte(r.IntN(4)), byte(r.IntN(256)), byte(1+r.IntN(255)))
		}
		f.Add(byte(n), how)
	}
	f.Fuzz(func(t *testing.T, which byte, how []byte) {
		dir := t.TempDir()
		places := build(t, dir)
		names, _ := onDisk(t, dir)
		name := names[int(which)%len(names)]
		before, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		after := bytes.Clone(before)
		damage(after, how)
		if err := os.WriteFile(name, after, 0o666); err != nil {
			t.Fatal(err)
		}
		var want []string // these at least
		unreadable := false
		for _, p := range places {
			if p.segment == name {
				unreadable = unreadable || !bytes.Equal(before[p.off:p.off+8], after[p.off:p.off+8])
				if unreadable || !bytes.Equal(before[p.off:p.end()], after[p.off:p.end()]) {
					continue
				}
			}
			want = append(want, p.content)
		}
		s, recovered := start(t, quiet(dir))
		_, got := readAll(t, s)
		if !slices.Equal(got, recovered) {
			t.Errorf("Next returned other records than Open recovered")
		}
		i := 0
		for _, p := range places {
			switch {
			case i < len(got) && got[i] == p.content:
				i++
			case slices.Contains(want, p.content):
				t.Errorf("record %.20q at %d of %s is missing", p.content, p.off,
					filepath.Base(p.segment))
			}
		}
		if i < len(got) {
			t.Errorf("record %.20q was not appended, or is out of order", got[i])
		}
		st := s.Stats()
		if damaged := !bytes.Equal(before, after); damaged != (st.CorruptBytes+st.TornBytes > 0) {
			t.Errorf("damaged: %v, Stats: %+v", damaged, st)
		}
	})
}

// FuzzFiles opens a folder with any content in a segment and in the file of acknowledgements. The
// spool works afterwards, and takes no more memory than a few times the size of the files.
func FuzzFiles(f *testing.F) {
	dir := f.TempDir()
	build(f, dir)
	names, _ := onDisk(f, dir)
	segment, err := os.ReadFile(names[0])
	if err != nil {
		f.Fatal(err)
	}
	s, _ := start(f, quiet(f.TempDir()))
	appendRecords(f, s, "a", "b", "c", "d")
	s.Ack(2, 4)
	noted := s.appendAcks(nil)
	for _, fixed := range []bool{false, true} {
		f.Add(segment, noted, fixed)
		f.Add(segment[:100], noted[:40], fixed)
		f.Add(new(headerSum).appendHeader(bytes.Clone(segment[:segmentHeader]), 1,
			make([]byte, MaxRecord/16)), []byte(acksMagic), fixed)
		f.Add(make([]byte, 100), make([]byte, 100), fixed)
	}
	f.Fuzz(func(t *testing.T, segment, noted []byte, fixed bool) {
		if fixed { // hostile content behind a right checksum
			if len(segment) >= segmentHeader {
				binary.BigEndian.PutUint32(segment[20:], crc32.Checksum(segment[:20], castagnoli))
			}
			if len(noted) >= 4 {
				n := len(noted) - 4
				binary.BigEndian.PutUint32(noted[n:], crc32.Checksum(noted[:n], castagnoli))
			}
		}
		dir := t.TempDir()
		for name, content := range map[string][]byte{
			segmentName(1): segment, segmentName(maxSeq): segment, acksName: noted,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		allocated := m.TotalAlloc
		n := 0
		s, err := Open(quiet(dir), func([]byte) { n++ })
		if errors.Is(err, errVersion) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		runtime.ReadMemStats(&m)
		most := uint64(2*windowSize + 8*len(segment) + 8*len(noted) + 256<<10)
		if used := m.TotalAlloc - allocated; used > most {
			t.Errorf("%d bytes of files took %d bytes of memory", len(segment)+len(noted), used)
		}
		appendRecords(t, s, "new")
		seqs, records := readAll(t, s)
		if len(records) != n+1 || records[n] != "new" {
			t.Errorf("%d recovered, %d read", n, len(records))
		}
		s.Ack(seqs...)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if names, size := onDisk(t, dir); size != 0 {
			t.Errorf("left: %q", names)
		}
	})
}

// A damaged file of acknowledgements acknowledges no record, and is replaced.
func TestDamagedAcks(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, quiet(dir))
	s.Ack(appendRecords(t, s, "a", "b", "c", "d")[1:3]...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, acksName)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
		s, got := start(t, quiet(dir))
		if want := []string{"a", "b", "c", "d"}; !slices.Equal(got, want) {
			t.Fatalf("byte %d damaged: recovered %q, want %q", i, got, want)
		}
		s.Ack(2, 3)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, whole) {
			t.Fatalf("byte %d damaged: replaced by %x, %v; want %x", i, b, err, whole)
		}
	}
}

// Files of a later version are not changed.
func TestLaterVersion(t *testing.T) {
	for _, name := range []string{segmentName(1), acksName} {
		dir := t.TempDir()
		s, _ := start(t, quiet(dir))
		s.Ack(appendRecords(t, s, "a", "b")[0])
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[11]++
		sum := len(b) - 4
		if name != acksName {
			sum = 20
		}
		binary.BigEndian.PutUint32(b[sum:], crc32.Checksum(b[:sum], castagnoli))
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(quiet(dir), nil); !errors.Is(err, errVersion) ||
			!strings.Contains(err.Error(), name) {
			t.Errorf("Open: %v", err)
		}
		if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, b) {
			t.Errorf("%s was changed, %v", name, err)
		}
	}
}

// Damage to an open spool loses the same records as at the next Open. Records that are appended
// afterwards are safe.
func TestDamageWhileOpen(t *testing.T) {
	for _, size := range []bool{false, true} {
		dir := t.TempDir()
		s, _ := start(t, quiet(dir))
		seqs := appendRecords(t, s, "a", "b", "c")
		off := int64(segmentHeader + recordHeader + 1)
		if !size {
			off += recordHeader
		}
		f, err := os.OpenFile(filepath.Join(dir, segmentName(1)), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{99}, off); err != nil {
			t.Fatal(err)
		}
		f.Close()
		want, lost := []string{"a", "c"}, uint64(1)
		if size {
			want, lost = []string{"a"}, 2
		}
		s.Ack(seqs[1]) // an acknowledgement does not make it readable
		lost--
		_, got := readAll(t, s)
		if !slices.Equal(got, want) {
			t.Errorf("read %q, want %q", got, want)
		}
		appendRecords(t, s, "d")
		if _, got := readAll(t, s); !slices.Equal(got, []string{"d"}) {
			t.Errorf("read %q, want d", got)
		}
		want = append(want, "d")
		if st := s.Stats(); st.CorruptRecords != lost || st.CorruptBytes == 0 ||
			st.Records != uint64(len(want)) || st.Unread != 0 {
			t.Errorf("Stats: %+v", st)
		}
		crash(s)
		if _, got := start(t, quiet(dir)); !slices.Equal(got, want) {
			t.Errorf("recovered %q, want %q", got, want)
		}
	}
}

// DropOldest drops unreadable records without its callback.
func TestDropDamaged(t *testing.T) {
	dir := t.TempDir()
	cfg := quiet(dir)
	cfg.SegmentBytes = 70
	s, _ := start(t, cfg)
	appendRecords(t, s, "aaaaaaaa", "bbbbbbbb", "cccccccc")
	if err := os.Truncate(filepath.Join(dir, segmentName(1)), segmentHeader+20); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Next(nil); err != nil {
		if !strings.Contains(err.Error(), "unexpected EOF") {
			t.Errorf("Next: %v", err)
		}
	} else {
		t.Error("Next returned a damaged record")
	}
	if err := s.DropOldest(func(b []byte) { t.Errorf("dropped %q", b) }); err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.CorruptRecords != 2 || st.Records != 1 || st.Unread != 1 {
		t.Errorf("Stats: %+v", st)
	}
	if _, got := readAll(t, s); !slices.Equal(got, []string{"cccccccc"}) {
		t.Errorf("read %q", got)
	}
}

// A damaged length never makes the content of a record look like records.
func TestNoRecordInContent(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, quiet(dir))
	forged := []byte("forged")
	content := append(new(headerSum).appendHeader(nil, 2, forged), forged...)
	appendRecords(t, s, string(content), "b")
	crash(s)
	name := filepath.Join(dir, segmentName(1))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint32(b[segmentHeader:], 0)
	if err := os.WriteFile(name, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, got := start(t, quiet(dir)); len(got) > 0 {
		t.Errorf("recovered %q", got)
	}
}

// The remains of a record that was not written whole, and could not be cut off, never become a
// record, whatever is appended.
func TestNoRecordInRemains(t *testing.T) {
	dir := t.TempDir()
	d := &disk{space: math.MaxInt}
	s, err := openSpool(quiet(dir), nil, d.open)
	if err != nil {
		t.Fatal(err)
	}
	appendRecords(t, s, "a")
	forged := []byte("forged")
	content := append(new(headerSum).appendHeader([]byte("?"), 3, forged), forged...)
	d.set(recordHeader+len(content), true)
	if _, err := s.Append(append(content, "and more"...)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Append: %v", err)
	}
	d.set(math.MaxInt, true)
	appendRecords(t, s, "b")
	crash(s)
	if _, got := start(t, quiet(dir)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("recovered %q, want a and b", got)
	}
}

// A file of acknowledgements with an impossible content is refused even if its checksum is right.
func TestParseAcks(t *testing.T) {
	file := func(next, floor Seq, n uint32, ranges ...Seq) []byte {
		b := binary.BigEndian.AppendUint32([]byte(acksMagic), acksVersion)
		b = binary.BigEndian.AppendUint64(b, uint64(next))
		b = binary.BigEndian.AppendUint64(b, uint64(floor))
		b = binary.BigEndian.AppendUint32(b, n)
		for _, r := range ranges {
			b = binary.BigEndian.AppendUint64(b, uint64(r))
		}
		return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	}
	a, err := parseAcks(file(20, 5, 2, 7, 9, 11, 20))
	if err != nil {
		t.Fatal(err)
	}
	for seq := range Seq(25) {
		want := seq < 5 || seq == 7 || seq == 8 || seq >= 11 && seq < 20
		if a.contains(seq) != want {
			t.Errorf("contains(%d) = %v", seq, !want)
		}
	}
	for name, b := range map[string][]byte{
		"no next":              file(0, 0, 0),
		"next too large":       file(maxSeq+1, 0, 0),
		"floor above next":     file(20, 21, 0),
		"too few ranges":       file(20, 5, 2, 7, 9),
		"too many ranges":      file(20, 5, 1, 7, 9, 11, 13),
		"half a range":         file(20, 5, 1, 7),
		"range at floor":       file(20, 5, 1, 5, 9),
		"range beyond next":    file(20, 5, 1, 7, 21),
		"empty range":          file(20, 5, 1, 7, 7),
		"backwards":            file(20, 5, 1, 9, 7),
		"ranges out of order":  file(20, 5, 2, 11, 13, 7, 9),
		"ranges side by side":  file(20, 5, 2, 7, 9, 9, 11),
		"short":                file(20, 5, 0)[:acksHeader],
		"count that overflows": file(20, 5, math.MaxUint32),
	} {
		if _, err := parseAcks(b); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// A header with a length that Append would refuse is refused.
func TestParseHeader(t *testing.T) {
	for length, want := range map[uint32]bool{
		0: true, MaxRecord: true, MaxRecord + 1: false, math.MaxUint32: false,
	} {
		var sum headerSum
		b := binary.BigEndian.AppendUint32(nil, length)
		b = binary.BigEndian.AppendUint32(b, sum.of(7, length))
		b = binary.BigEndian.AppendUint32(b, 0)
		if _, _, ok := sum.parseHeader(b, 7); ok != want {
			t.Errorf("length %d: %v", length, ok)
		}
		if _, _, ok := sum.parseHeader(b, 8); ok {
			t.Errorf("length %d: the header is accepted for another record", length)
		}
	}
}
