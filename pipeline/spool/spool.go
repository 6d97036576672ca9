package spool

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"zmtpd/pipeline/internal/dirlock"
)

// MaxRecord is the largest size of a record's content, in bytes. The log batches of a Zeek node
// have up to 256 MB of text.
const MaxRecord = 512 << 20

// DefaultMaxBytes is the default of Config.MaxBytes.
const DefaultMaxBytes = 1 << 30

const (
	// DropOldest drops a whole segment, and one undelivered record keeps a whole segment on disk
	maxDefaultSegment   = 64 << 20
	segmentsByDefault   = 8
	defaultSyncInterval = time.Second
)

var (
	// ErrFull is the error of Append when the segments would take more than Config.MaxBytes.
	ErrFull = errors.New("spool: full")
	// ErrTooLarge is the error of Append for a record that would not fit even into an empty spool.
	ErrTooLarge = errors.New("spool: record too large")
	// ErrEmpty is the error of Next when all records are read, and of DropOldest when there are
	// none.
	ErrEmpty = errors.New("spool: empty")
	// ErrNoRoom is the error of NextIn when its caller has no memory for the record.
	ErrNoRoom = errors.New("spool: no memory for the record")
	// ErrClosed is the error of all calls after Close.
	ErrClosed = errors.New("spool: closed")
	// ErrLocked is the error of Open when another process, or another Spool of this process, uses
	// the folder.
	ErrLocked = errors.New("spool: folder is in use")
)

// Seq is the number of a record. It is greater than the numbers of all earlier records. No record
// has 0.
type Seq uint64

// Config configures a Spool.
type Config struct {
	// Dir is the folder. Open creates it if it is missing, and locks it.
	Dir string
	// MaxBytes bounds the size of all segments, in bytes. Default: 1 GiB.
	MaxBytes int64
	// SegmentBytes is the size in bytes at which a new segment begins. A larger record gets a
	// segment of its own. Default: an eighth of MaxBytes, at most 64 MiB.
	SegmentBytes int64
	// SyncInterval is the time after which records are synced and acknowledgements written.
	// Default: 1 s.
	SyncInterval time.Duration
	// SyncEach lets Append sync each record before it returns. Default: records wait for
	// SyncInterval.
	SyncEach bool
	// Logger takes messages about damage, and about failures that no call returns. Default: none.
	Logger *slog.Logger
}

// Spool is a queue of records on disk; see the package comment. Append, Next, Ack, DropOldest and
// Stats are safe for concurrent use. Next and DropOldest wait for each other, and so do calls of
// Append.
type Spool struct {
	// Not changed after Open.
	cfg     Config
	log     *slog.Logger
	root    *os.Root
	lock    *os.File
	open    func(name string, flag int) (file, error)
	closing chan struct{}
	running sync.WaitGroup // the flusher, and removals of segments

	suspecting sync.Mutex
	suspects   suspects // guarded by suspecting, which is locked last

	// Lock order: reading, writing, mu. No file is read, written, synced or deleted under mu.

	reading sync.Mutex
	cur     cursor   // guarded by reading
	curSeg  *segment // the segment of cur, nil if there is none; guarded by reading

	writing sync.Mutex
	scratch []byte    // guarded by writing
	sum     headerSum // guarded by writing

	// Used by the flusher only and, after its end, by Close.
	acksBuf []byte

	mu       sync.Mutex
	closed   bool
	segments []*segment // ascending; the last one may be active
	// active is being written; nil if the next Append begins a segment; changed with writing held
	// too
	active    *segment
	undeleted []*segment // dead, but still in the folder
	next      Seq        // number of the next record; changed with writing held too
	// read is the number of the first record that was neither read by Next nor dropped; changed
	// with reading held too
	read      Seq
	bytes     int64 // size of all in segments and undeleted
	stats     Stats
	acksDirty bool // the file of acknowledgements is not up to date
	dirDirty  bool // the folder has changed since it was synced
}

// Stats describes a Spool at one moment, and counts events since Open.
type Stats struct {
	// Records is the number of records without acknowledgement. Unread is the number of those that
	// Next has not returned.
	Records, Unread uint64
	// Segments and Bytes are the number and size of all segments on disk, done or not.
	Segments int
	Bytes    int64
	// Full counts the records that Append refused with ErrFull.
	Full uint64
	// CorruptRecords counts the records that were skipped for damage, as far as their number is
	// known, and CorruptBytes their size. TornBytes is the size of what Open cut off the newest
	// segment.
	CorruptRecords          uint64
	CorruptBytes, TornBytes int64
	// SetAside counts the calls of SetAside that succeeded.
	SetAside uint64
	// Err is why the last sync, or the last write of acknowledgements, failed; nil if it did not.
	// The spool tries again every Config.SyncInterval. Meanwhile a power failure loses more
	// records, and after kill -9 more records are delivered again.
	Err error
}

// Open returns the Spool in a folder. It calls recovered, in order, for each record of earlier
// processes without acknowledgement; Next returns these records later. The record is valid during
// the call.
//
// Open reads all segments and skips damage. It returns an error of the file system, since the
// records may be readable at another time.
func Open(cfg Config, recovered func(record []byte)) (*Spool, error) {
	return openSpool(cfg, recovered, nil)
}

// openSpool is Open with files that open opens, for tests. If open is nil, it opens those of the
// folder.
func openSpool(cfg Config, recovered func(record []byte),
	open func(root *os.Root, name string, flag int) (file, error)) (*Spool, error) {
	if cfg.MaxBytes < 0 || cfg.SegmentBytes < 0 || cfg.SyncInterval < 0 {
		return nil, errors.New("spool: MaxBytes, SegmentBytes or SyncInterval is negative: " +
			"0 means the default")
	}
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, DefaultMaxBytes)
	cfg.SegmentBytes = cmp.Or(cfg.SegmentBytes,
		min(maxDefaultSegment, cfg.MaxBytes/segmentsByDefault))
	cfg.SyncInterval = cmp.Or(cfg.SyncInterval, defaultSyncInterval)
	s := &Spool{cfg: cfg, log: cfg.Logger, closing: make(chan struct{}),
		scratch: make([]byte, 0, scratchSize)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.open = func(name string, flag int) (file, error) {
		if open != nil {
			return open(s.root, name, flag)
		}
		return openFile(s.root, name, flag)
	}

	if err := os.MkdirAll(cfg.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var err error
	if s.root, err = os.OpenRoot(cfg.Dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lock, taken, err := dirlock.Lock(s.root)
	if taken {
		err = fmt.Errorf("%w: %s", ErrLocked, cfg.Dir)
	}
	if recovered == nil {
		recovered = func([]byte) {}
	}
	if err == nil {
		s.lock = lock
		err = s.recover(recovered)
	}
	if err == nil {
		err = s.recoverSuspects()
	}
	if err != nil {
		s.release()
		return nil, err
	}
	s.running.Go(s.runFlusher)
	return s, nil
}

// openFile opens a file of the folder. It never returns a nil *os.File, as which file would not be
// nil.
func openFile(root *os.Root, name string, flag int) (file, error) {
	f, err := root.OpenFile(name, flag, 0o666)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Stats describes the spool at this moment.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Segments = len(s.segments) + len(s.undeleted)
	st.Bytes = s.bytes
	return st
}

// Close syncs the records, writes all acknowledgements, and unlocks the folder. Only the first call
// returns an error. Then acknowledged records may be delivered again; the folder has all records
// that it took.
func (s *Spool) Close() error {
	s.reading.Lock()
	s.writing.Lock()
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	s.writing.Unlock()
	s.reading.Unlock()
	if closed {
		return nil
	}
	close(s.closing)
	s.running.Wait()
	err := s.flush()
	s.suspecting.Lock()
	s.closeSuspects()
	s.suspecting.Unlock()
	s.release()
	return err
}

// release closes all files, including the lock.
func (s *Spool) release() {
	for _, g := range slices.Concat(s.segments, s.undeleted) {
		g.closeFiles()
	}
	if s.lock != nil {
		s.lock.Close()
	}
	s.root.Close()
}
