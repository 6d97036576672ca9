package spool

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// modelRecord is a record of the model.
type modelRecord struct {
	content     string
	seq         Seq
	segment     Seq   // the number in its segment's name
	end         int64 // its end in the segment
	read, acked bool
	noted       bool // its acknowledgement is on disk
}

// model is the spool as a list.
type model struct {
	t       *rapid.T
	cfg     Config
	disk    disk
	s       *Spool
	count   int
	last    Seq // the greatest number in use, or given by this process
	records []*modelRecord
}

func (m *model) open() {
	m.t.Helper()
	var got []string
	var err error
	m.s, err = openSpool(m.cfg, func(record []byte) { got = append(got, string(record)) },
		m.disk.open)
	if err != nil {
		m.t.Fatalf("Open: %v", err)
	}
	// Records without acknowledgement must come back. Those whose acknowledgement is on disk must
	// not. Other acknowledged ones may.
	var records []*modelRecord
	for _, r := range m.records {
		found := len(got) > 0 && got[0] == r.content
		switch {
		case found && r.noted:
			m.t.Fatalf("record %d came back although its acknowledgement is on disk", r.seq)
		case found:
			got = got[1:]
			r.read, r.acked = false, false
			records = append(records, r)
		case !r.acked:
			m.t.Fatalf("record %d is missing, %d others follow", r.seq, len(got))
		}
	}
	if len(got) > 0 {
		m.t.Fatalf("%d records that should not be there, or out of order: %.50q", len(got), got)
	}
	m.records, m.last = records, 0
	for _, r := range records {
		m.last = r.seq
	}
}

// remaining returns the records that Next has to return.
func (m *model) remaining() (unread []*modelRecord) {
	for _, r := range m.records {
		if !r.read && !r.acked {
			unread = append(unread, r)
		}
	}
	return unread
}

// some does an action several times, so that there are records to acknowledge.
func (m *model) some(what func()) func(*rapid.T) {
	return func(*rapid.T) {
		for range rapid.IntRange(1, 6).Draw(m.t, "times") {
			what()
		}
	}
}

func (m *model) append() {
	size := rapid.SampledFrom([]int{0, 1, 10, 100, 500, 3000}).Draw(m.t, "size")
	size = rapid.IntRange(size/2, size).Draw(m.t, "exactly")
	m.count++
	content := fmt.Sprintf("%d %s", m.count, strings.Repeat("x", size))
	before := m.s.Stats()
	seq, err := m.s.Append([]byte(content))
	switch {
	case errors.Is(err, ErrTooLarge):
		if recordSize([]byte(content))+segmentHeader <= m.cfg.MaxBytes {
			m.t.Fatalf("%v", err)
		}
		return
	case errors.Is(err, ErrFull):
		if before.Bytes+recordSize([]byte(content))+segmentHeader <= m.cfg.MaxBytes ||
			before.Records == 0 {
			m.t.Fatalf("ErrFull with %+v", before)
		}
		return
	case errors.Is(err, syscall.ENOSPC):
		m.disk.set(math.MaxInt, false)
		return
	case err != nil:
		m.t.Fatalf("Append: %v", err)
	case seq <= m.last:
		m.t.Fatalf("number %d after %d", seq, m.last)
	}
	m.last = seq
	g := m.s.segments[len(m.s.segments)-1]
	m.records = append(m.records, &modelRecord{content: content, seq: seq, segment: g.first,
		end: g.end})
}

func (m *model) next() {
	seq, b, err := m.s.Next(nil)
	unread := m.remaining()
	if len(unread) == 0 {
		if err != ErrEmpty {
			m.t.Fatalf("Next at the end: %d, %v", seq, err)
		}
		return
	}
	r := unread[0]
	if err != nil || seq != r.seq || string(b) != r.content {
		m.t.Fatalf("Next: %d %.30q, %v; want %d %.30q", seq, b, err, r.seq, r.content)
	}
	r.read = true
}

// ack acknowledges some records that were read, in order or scattered, and rarely one that was not
// read.
func (m *model) ack(*rapid.T) {
	if len(m.records) == 0 {
		return
	}
	from := rapid.IntRange(0, len(m.records)-1).Draw(m.t, "from")
	to := rapid.IntRange(from, min(len(m.records), from+8)).Draw(m.t, "to")
	all := rapid.Bool().Draw(m.t, "all")
	var seqs []Seq
	for _, r := range m.records[from:to] {
		if (all || rapid.Bool().Draw(m.t, "this")) &&
			(r.read || rapid.IntRange(0, 9).Draw(m.t, "early") == 0) {
			seqs = append(seqs, r.seq)
			r.acked = true
		}
	}
	if rapid.Bool().Draw(m.t, "backwards") {
		slices.Reverse(seqs)
	}
	m.s.Ack(append(seqs, 0, m.last+1, math.MaxUint64)...)
}

func (m *model) ackAll(*rapid.T) {
	for _, r := range m.records {
		if r.read && !r.acked {
			m.s.Ack(r.seq)
			r.acked = true
		}
	}
}

func (m *model) dropOldest(*rapid.T) {
	var want, got []string
	var from, after Seq
	if len(m.s.segments) > 0 {
		from, after = m.s.segments[0].first, m.s.segments[0].after()
	}
	for _, r := range m.remaining() {
		if r.seq >= from && r.seq < after {
			want = append(want, r.content)
		}
	}
	empty := len(m.s.segments) == 0
	err := m.s.DropOldest(func(record []byte) { got = append(got, string(record)) })
	if empty != errors.Is(err, ErrEmpty) || !empty && err != nil {
		m.t.Fatalf("DropOldest: %v", err)
	}
	if !slices.Equal(got, want) {
		m.t.Fatalf("dropped %.30q, want %.30q", got, want)
	}
	m.records = slices.DeleteFunc(m.records,
		func(r *modelRecord) bool { return r.seq >= from && r.seq < after })
}

func (m *model) flush(*rapid.T) {
	if err := m.s.flush(); err == nil {
		m.note()
	} else if !errors.Is(err, syscall.ENOSPC) {
		m.t.Fatalf("flush: %v", err)
	}
}

func (m *model) note() {
	for _, r := range m.records {
		r.noted = r.acked
	}
}

// end ends the process, and starts another.
func (m *model) end(*rapid.T) {
	rapid.SampledFrom([]func(){m.reopen, m.crash, m.powerFailure}).Draw(m.t, "how")()
}

func (m *model) reopen() {
	m.disk.set(math.MaxInt, false)
	if err := m.s.Close(); err != nil {
		m.t.Fatalf("Close: %v", err)
	}
	m.note()
	m.open()
}

func (m *model) crash() {
	crash(m.s)
	m.open()
}

// powerFailure is a crash in which the end of the newest segment is lost.
func (m *model) powerFailure() {
	crash(m.s)
	if names, _ := onDisk(m.t, m.cfg.Dir); len(names) > 0 {
		name := names[len(names)-1]
		fi, err := os.Stat(name)
		if err != nil {
			m.t.Fatalf("%v", err)
		}
		size := rapid.Int64Range(0, fi.Size()).Draw(m.t, "left")
		if err := os.Truncate(name, size); err != nil {
			m.t.Fatalf("%v", err)
		}
		m.records = slices.DeleteFunc(m.records, func(r *modelRecord) bool {
			return strings.HasSuffix(name, segmentName(r.segment)) && r.end > size
		})
	}
	m.open()
}

func (m *model) fillDisk(*rapid.T) {
	m.disk.set(rapid.IntRange(0, 2000).Draw(m.t, "space"), false)
}

func (m *model) check(*rapid.T) {
	var want Stats
	for _, r := range m.records {
		if !r.acked {
			want.Records++
		}
	}
	want.Unread = uint64(len(m.remaining()))
	names, size := onDisk(m.t, m.cfg.Dir)
	want.Segments, want.Bytes = len(names), size
	got := m.s.Stats()
	if got.Records != want.Records || got.Unread != want.Unread || got.Segments != want.Segments ||
		got.Bytes != want.Bytes || got.CorruptBytes != 0 {
		m.t.Fatalf("Stats: %+v, want %+v", got, want)
	}
	if got.Bytes > m.cfg.MaxBytes {
		m.t.Fatalf("%d bytes on disk, the limit is %d", got.Bytes, m.cfg.MaxBytes)
	}
}

// For any sequence of calls and crashes, a spool delivers the records that a list would deliver.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &model{t: rt, cfg: quiet(dir)}
		m.cfg.MaxBytes = rapid.SampledFrom([]int64{500, 8000, 50_000}).Draw(rt, "MaxBytes")
		m.cfg.SegmentBytes = rapid.SampledFrom([]int64{1, 200, 1000, 5000}).Draw(rt, "SegmentBytes")
		m.disk.set(math.MaxInt, false)
		m.open()
		defer func() { crash(m.s) }()
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.some(m.append), "append again": m.some(m.append), "next": m.some(m.next),
			"next again": m.some(m.next),
			"ack":        m.ack, "ack again": m.ack, "ackAll": m.ackAll, "dropOldest": m.dropOldest,
			"flush": m.flush, "end": m.end,
			"fillDisk": m.fillDisk, "": m.check,
		})
	})
}
