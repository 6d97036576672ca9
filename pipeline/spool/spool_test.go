package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"zmtpd/zmtp/testkit"
)

// The format on disk is that of the package's documentation.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, quiet(dir))
	s.Ack(appendRecords(t, s, "a", "", "ccc", "d")[1:3]...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	crc := func(b []byte) []byte { return binary.BigEndian.AppendUint32(nil, slowCRC32C(b)) }
	segment := []byte("\x89spool\r\n\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01")
	segment = append(segment, crc(segment)...)
	for i, content := range []string{"a", "", "ccc", "d"} {
		size := binary.BigEndian.AppendUint32(nil, uint32(len(content)))
		seq := binary.BigEndian.AppendUint64(nil, uint64(1+i))
		segment = slices.Concat(segment, size, crc(slices.Concat(seq, size)), crc([]byte(content)),
			[]byte(content))
	}
	noted := []byte("\x89spack\r\n\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x05" +
		"\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00\x00\x04")
	noted = append(noted, crc(noted)...)
	for name, want := range map[string][]byte{
		"00000000000000000001.segment": segment, "acknowledged": noted,
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil ||
			!bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%x, want\n%x", name, err, got, want)
		}
	}
}

// slowCRC32C is CRC-32C as in RFC 3720, appendix B.4, bit by bit.
func slowCRC32C(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ -(crc&1)&0x82f63b78
		}
	}
	return ^crc
}

// Records of sizes around those of the buffers read back unchanged.
func TestSizes(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, quiet(dir))
	var want []string
	r := rand.NewChaCha8([32]byte{})
	for _, around := range []int{
		0, scratchSize - segmentHeader - recordHeader, scratchSize - recordHeader, scratchSize,
		windowSize - recordHeader, windowSize, 1 << 20,
	} {
		for d := -2; d <= 2; d++ {
			b := make([]byte, max(0, around+d))
			_, _ = r.Read(b)
			want = append(want, string(b))
			appendRecords(t, s, string(b))
		}
	}
	if _, got := readAll(t, s); !slices.Equal(got, want) {
		t.Error("Next returned another record")
	}
	crash(s)
	if _, got := start(t, quiet(dir)); !slices.Equal(got, want) {
		t.Error("Open recovered another record")
	}
}

// An idle spool has synced all records, and takes no space once all are acknowledged.
func TestFlusher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, _ := start(t, Config{Dir: dir})
		seqs := appendRecords(t, s, "a", "b")
		s.Ack(seqs[1])
		dirty := func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.segments[0].dirty
		}
		if !dirty() {
			t.Error("there is nothing to sync")
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if dirty() || s.Stats().Segments != 1 {
			t.Errorf("not synced: %+v", s.Stats())
		}
		crash(s)
		s, got := start(t, Config{Dir: dir})
		if !slices.Equal(got, []string{"a"}) {
			t.Errorf("recovered %q, want a", got)
		}
		s.Ack(appendRecords(t, s, "c")...)
		if _, got := readAll(t, s); !slices.Equal(got, []string{"a"}) {
			t.Errorf("read %q, want a", got)
		}
		s.Ack(1)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != acksName {
			t.Errorf("left: %v, %v", entries, err)
		}
		if st := s.Stats(); st != (Stats{}) {
			t.Errorf("Stats: %+v", st)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A failure of the flusher is reported, and its work is done later.
func TestFlusherFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{space: math.MaxInt}
		var log bytes.Buffer
		s, err := openSpool(Config{Dir: t.TempDir(),
			Logger: slog.New(slog.NewTextHandler(&log, nil))}, nil, d.open)
		if err != nil {
			t.Fatal(err)
		}
		appendRecords(t, s, "a")
		d.set(math.MaxInt, true)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if err := s.Stats().Err; !errors.Is(err, syscall.EIO) {
			t.Errorf("Stats say %v", err)
		}
		d.set(math.MaxInt, false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if err := s.Stats().Err; err != nil {
			t.Errorf("Stats still say %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines were logged:\n%s", n, &log)
		}
	})
}

// A record that is lost although its acknowledgement is on disk does not make a later one vanish.
func TestNumbersAfterLoss(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, quiet(dir))
	s.Ack(appendRecords(t, s, "a", "b", "c")[1:]...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, segmentName(1))); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, quiet(dir))
	appendRecords(t, s, "d", "e", "f")
	crash(s)
	if _, got := start(t, quiet(dir)); !slices.Equal(got, []string{"d", "e", "f"}) {
		t.Errorf("recovered %q", got)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, quiet(dir))
	if _, err := Open(quiet(dir), nil); !errors.Is(err, ErrLocked) ||
		!strings.Contains(err.Error(), dir) {
		t.Errorf("Open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, quiet(dir))
}

func TestClosed(t *testing.T) {
	s, _ := start(t, quiet(t.TempDir()))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	_, err1 := s.Append(nil)
	_, _, err2 := s.Next(nil)
	err3 := s.DropOldest(nil)
	if err1 != ErrClosed || err2 != ErrClosed || err3 != ErrClosed {
		t.Errorf("after Close: %v, %v, %v", err1, err2, err3)
	}
	s.Ack(1)
}

func TestNegativeLimitsAreRefused(t *testing.T) {
	for _, cfg := range []Config{{MaxBytes: -1}, {SegmentBytes: -1}, {SyncInterval: -1}, {}} {
		if s, err := Open(cfg, nil); err == nil {
			s.Close()
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

// Files that are not the spool's stay unchanged.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	names := []string{"1.segment", "0000000000000000000+.segment", "99999999999999999999.segment",
		"00000000000000000000.segment", "00000000000000000002.segment.gz", "x"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	folder := segmentName(7)
	if err := os.Mkdir(filepath.Join(dir, folder), 0o777); err != nil {
		t.Fatal(err)
	}
	s, got := start(t, quiet(dir))
	seqs := appendRecords(t, s, "a")
	s.Ack(seqs...)
	if err := s.Close(); err != nil || len(got) > 0 {
		t.Errorf("recovered %q, %v", got, err)
	}
	for _, name := range names {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != "mine" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, folder)); err != nil {
		t.Error(err)
	}
}

// On a disk on which only reading works, all accepted records are there.
func TestBrokenDisk(t *testing.T) {
	dir := t.TempDir()
	d := &disk{space: math.MaxInt}
	cfg := quiet(dir)
	s, err := openSpool(cfg, nil, d.open)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 50 {
		content := fmt.Sprintf("%d %s", i, strings.Repeat("x", i))
		d.set(rand.IntN(150), true)
		if _, err := s.Append([]byte(content)); err == nil {
			want = append(want, content)
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Append: %v", err)
		}
		if err := s.flush(); s.Stats().Records > 0 && err == nil {
			t.Error("flush returns no error")
		}
		if _, size := onDisk(t, dir); s.Stats().Bytes < size {
			t.Errorf("%d bytes on disk, Stats: %+v", size, s.Stats())
		}
	}
	if len(want) == 0 || len(want) == 50 {
		t.Errorf("%d records were accepted, the test shows nothing", len(want))
	}
	if _, got := readAll(t, s); !slices.Equal(got, want) {
		t.Errorf("read %.20q, want %.20q", got, want)
	}
	s.Ack(1)
	if err := s.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close: %v", err)
	}
	if _, got := start(t, cfg); !slices.Equal(got, want) && !slices.Equal(got, want[1:]) {
		t.Errorf("recovered %.20q, want %.20q", got, want)
	}
}

// A full spool takes records again when some are acknowledged or dropped.
func TestFull(t *testing.T) {
	cfg := quiet(t.TempDir())
	cfg.MaxBytes, cfg.SegmentBytes = 1000, 300
	s, _ := start(t, cfg)
	if _, err := s.Append(make([]byte, 1000-segmentHeader-recordHeader+1)); !errors.Is(err,
		ErrTooLarge) {
		t.Errorf("a record that never fits: %v", err)
	}
	record := make([]byte, 100)
	var dropped int
	for range 30 {
		for {
			_, err := s.Append(record)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			if err := s.DropOldest(func([]byte) { dropped++ }); err != nil {
				t.Fatal(err)
			}
		}
	}
	st := s.Stats()
	if dropped == 0 || st.Records+uint64(dropped) != 30 || st.Full == 0 {
		t.Errorf("%d dropped, %+v", dropped, st)
	}
	seqs, _ := readAll(t, s)
	s.Ack(seqs...)
	if _, err := s.Append(make([]byte, 1000-segmentHeader-recordHeader)); err != nil {
		t.Errorf("an empty spool: %v", err)
	}
}

// No call waits for a slow sync, and the room of a segment that is dropped during its sync is free
// at once.
func TestSlowSync(t *testing.T) {
	syncing, goOn := make(chan bool, 10), make(chan bool)
	d := &disk{space: math.MaxInt, syncing: func() { syncing <- true; <-goOn }}
	cfg := quiet(t.TempDir())
	cfg.MaxBytes, cfg.SegmentBytes = 3*(segmentHeader+recordHeader+1), 1
	s, err := openSpool(cfg, nil, d.open)
	if err != nil {
		t.Fatal(err)
	}
	appendRecords(t, s, "a", "b")
	flushed := make(chan error)
	go func() { flushed <- s.flush() }()
	<-syncing
	appendRecords(t, s, "c")
	if _, err := s.Append([]byte("d")); !errors.Is(err, ErrFull) {
		t.Errorf("Append: %v", err)
	}
	if err := s.DropOldest(func([]byte) {}); err != nil {
		t.Error(err)
	}
	appendRecords(t, s, "d")
	seqs, got := readAll(t, s)
	if !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("read %q", got)
	}
	if st := s.Stats(); st.Bytes != cfg.MaxBytes {
		t.Errorf("Stats: %+v", st)
	}
	s.Ack(seqs[1])
	close(goOn)
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	if names, size := onDisk(t, cfg.Dir); len(names) != 2 || size != s.Stats().Bytes {
		t.Errorf("%d bytes on disk: %q; %+v", size, names, s.Stats())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// With concurrent calls of all kinds, each record is delivered once and in order, or dropped.
func TestConcurrent(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MaxBytes: 100 << 10, SegmentBytes: 10 << 10,
		SyncInterval: 5 * time.Millisecond}
	s, _ := start(t, cfg)
	const senders, each = 3, 2000
	var sending, acking sync.WaitGroup
	var dropped sync.Map
	for n := range senders {
		sending.Go(func() {
			for i := range each {
				record := fmt.Appendf(nil, "%d %d %s", n, i, strings.Repeat("x", i%200))
				for {
					_, err := s.Append(record)
					if err == nil {
						break
					}
					if !errors.Is(err, ErrFull) {
						t.Error(err)
						return
					}
					err = s.DropOldest(func(b []byte) {
						dropped.Store(string(b[:strings.LastIndexByte(string(b), ' ')]), true)
					})
					if err != nil && err != ErrEmpty {
						t.Error(err)
					}
				}
			}
		})
	}
	sent := make(chan struct{})
	go func() { sending.Wait(); close(sent) }()
	toAck := make(chan Seq, 100)
	for range 2 {
		acking.Go(func() {
			var some []Seq
			for seq := range toAck {
				some = append(some, seq)
				if len(some) > 20 {
					rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
					s.Ack(some...)
					some = some[:0]
				}
			}
			s.Ack(some...)
		})
	}
	var next [senders]int
	var read, last = 0, Seq(0)
	var buf []byte
	for ended := false; ; {
		seq, b, err := s.Next(buf)
		if err == ErrEmpty {
			if ended {
				break
			}
			select {
			case <-sent:
				ended = true
			case <-time.After(time.Millisecond):
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		buf = b
		var n, i int
		if _, err := fmt.Sscanf(string(b), "%d %d", &n, &i); err != nil || i < next[n] ||
			seq <= last {
			t.Fatalf("record %d %.20q, %v, after %d, %v", seq, b, err, last, next)
		}
		for ; next[n] < i; next[n]++ {
			if _, ok := dropped.Load(fmt.Sprint(n, " ", next[n])); !ok {
				t.Fatalf("record %d of %d is missing", next[n], n)
			}
		}
		next[n]++
		last = seq
		read++
		toAck <- seq
	}
	close(toAck)
	acking.Wait()
	drops := 0
	dropped.Range(func(any, any) bool { drops++; return true })
	if read+drops != senders*each {
		t.Errorf("%d read, %d dropped of %d", read, drops, senders*each)
	}
	if st := s.Stats(); st.Records != 0 || st.Unread != 0 || st.Err != nil {
		t.Errorf("Stats: %+v", st)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if names, _ := onDisk(t, cfg.Dir); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

// The test uses a real disk that is full.
func TestTmpfsFull(t *testing.T) {
	dir := testkit.Tmpfs(t, 256<<10)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 64<<10), 0o666); err != nil {
		t.Fatal(err)
	}
	cfg := quiet(filepath.Join(dir, "spool"))
	cfg.SegmentBytes = 50_000
	s, _ := start(t, cfg)
	var want []string
	var err error
	fill := func() {
		for err = nil; err == nil; {
			record := fmt.Sprintf("%d %s", len(want), strings.Repeat("x", len(want)*37%5000))
			if _, err = s.Append([]byte(record)); err == nil {
				want = append(want, record)
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Append: %v", err)
		}
	}
	fill()
	full := len(want)
	seq, _, err := s.Next(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Ack(seq)
	if err := s.flush(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("flush on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(); err != nil {
		t.Errorf("flush: %v", err)
	}
	fill()
	if full < 10 || len(want) < full+10 {
		t.Errorf("%d records, then %d", full, len(want))
	}
	if _, got := readAll(t, s); !slices.Equal(got, want[1:]) {
		t.Errorf("%d records were read, want %d", len(got), len(want)-1)
	}
	crash(s)
	if _, got := start(t, cfg); !slices.Equal(got, want[1:]) {
		t.Errorf("%d records were recovered, want %d", len(got), len(want)-1)
	}
}

// No record costs an allocation.
func TestNoAllocations(t *testing.T) {
	s, _ := start(t, quiet(t.TempDir()))
	record, buf := make([]byte, 300), make([]byte, 0, 300)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := s.Append(record); err != nil {
			t.Fatal(err)
		}
		seq, b, err := s.Next(buf)
		if err != nil || len(b) != len(record) {
			t.Fatal(err)
		}
		s.Ack(seq)
	}); n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}

// A file that cannot be deleted counts until it can. A folder in its place prevents the deletion,
// also for root.
func TestUndeleted(t *testing.T) {
	dir := t.TempDir()
	cfg := quiet(dir)
	cfg.SegmentBytes = 1
	s, _ := start(t, cfg)
	appendRecords(t, s, "a", "b")
	if err := s.flush(); err != nil { // closes the first
		t.Fatal(err)
	}
	name := filepath.Join(dir, segmentName(1))
	if err := os.Rename(name, name+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(name, "x"), 0o777); err != nil {
		t.Fatal(err)
	}
	s.Ack(1)
	if st := s.Stats(); st.Segments != 2 || st.Bytes != 2*(segmentHeader+recordHeader+1) ||
		st.Records != 1 {
		t.Errorf("Stats: %+v", st)
	}
	if err := s.flush(); err == nil || !strings.Contains(err.Error(), "cannot delete") ||
		!strings.Contains(err.Error(), segmentName(1)) {
		t.Errorf("flush: %v", err)
	}
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".away", name); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(); err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.Segments != 1 || st.Bytes != segmentHeader+recordHeader+1 {
		t.Errorf("Stats: %+v", st)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{200, 4000, 60_000} {
		b.Run(fmt.Sprint("size=", size), func(b *testing.B) {
			s, _ := start(b, Config{Dir: b.TempDir(), MaxBytes: 256 << 20, SegmentBytes: 16 << 20})
			record := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_, err := s.Append(record)
				if errors.Is(err, ErrFull) {
					if err = s.DropOldest(func([]byte) {}); err == nil {
						_, err = s.Append(record)
					}
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNext(b *testing.B) {
	for _, size := range []int{200, 4000, 60_000} {
		b.Run(fmt.Sprint("size=", size), func(b *testing.B) {
			cfg := Config{Dir: b.TempDir(), MaxBytes: 256 << 20}
			s, _ := start(b, cfg)
			record := make([]byte, size)
			for range 64 << 20 / size {
				if _, err := s.Append(record); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				_, r, err := s.Next(buf)
				if err == ErrEmpty { // begin again
					b.StopTimer()
					if err = s.Close(); err == nil {
						s, err = Open(cfg, nil)
					}
					if err == nil {
						_, r, err = s.Next(buf)
					}
					b.StartTimer()
				}
				if err != nil {
					b.Fatal(err)
				}
				buf = r
			}
			s.Close()
		})
	}
}

// Acknowledgements across segments make one range.
func TestRangeAcrossSegments(t *testing.T) {
	dir := t.TempDir()
	cfg := quiet(dir)
	cfg.SegmentBytes = segmentHeader + 2*(recordHeader+1)
	s, _ := start(t, cfg)
	s.Ack(appendRecords(t, s, "a", "b", "c", "d")[1:3]...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, acksName))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := parseAcks(b); err != nil || len(a.ranges) != rangeSize {
		t.Errorf("%+v, %v", a, err)
	}
	if _, got := start(t, cfg); !slices.Equal(got, []string{"a", "d"}) {
		t.Errorf("recovered %q", got)
	}
}
