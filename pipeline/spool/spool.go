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

// MaxRecord is the largest content of a record, in bytes. The log batches of a Zeek node have up to
// 256 MB of text.
const MaxRecord = 512 << 20

// DefaultMaxBytes is that of Config.MaxBytes.
const DefaultMaxBytes = 1 << 30

const (
	// a segment is what DropOldest gives up, and what one undelivered record keeps on disk
	maxDefaultSegment   = 64 << 20
	segmentsByDefault   = 8
	defaultSyncInterval = time.Second
)

var (
	// ErrFull is Append's error when the segments would take more than Config.MaxBytes.
	ErrFull = errors.New("spool: full")
	// ErrTooLarge is Append's error for a record that would not fit into an empty spool either.
	ErrTooLarge = errors.New("spool: record too large")
	// ErrEmpty is the error of Next when all records are read, and of DropOldest when there are
	// none.
	ErrEmpty = errors.New("spool: empty")
	// ErrNoRoom is the error of NextIn when its caller has no memory for the record.
	ErrNoRoom = errors.New("spool: no memory for the record")
	// ErrClosed is the error of all calls after Close.
	ErrClosed = errors.New("spool: closed")
	// ErrLocked is Open's error when another process, or another Spool of this one, uses the
	// folder.
	ErrLocked = errors.New("spool: folder is in use")
)

// Seq is the number of a record: one more than that of the record before it in the process, and
// greater than those of earlier processes. No record has 0.
type Seq uint64

// Config is what a Spool is opened with.
type Config struct {
	// Dir is the folder. It is made if it is missing, and locked.
	Dir string
	// MaxBytes limits the segments on disk, in bytes. Default: 1 GiB.
	MaxBytes int64
	// SegmentBytes is the size at which a new segment begins, in bytes; a single larger record has
	// a segment of its own. Default: an eighth of MaxBytes, at most 64 MiB.
	SegmentBytes int64
	// SyncInterval is how long records may wait to be synced to the disk, and acknowledgements
	// to be noted there. Default: 1 s.
	SyncInterval time.Duration
	// SyncEach makes Append sync each record before it returns. Default: they wait for
	// SyncInterval.
	SyncEach bool
	// Logger is told of damage and of failures that no call returns. Default: none.
	Logger *slog.Logger
}

// Spool is a queue of records on disk, see the package comment. Append, Next, Ack, DropOldest and
// Stats may be called from several goroutines; Next and DropOldest wait for each other, and so do
// calls of Append.
type Spool struct {
	// Static after construction.
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
	curSeg  *segment // where cur is placed, nil if nowhere; guarded by reading

	writing sync.Mutex
	scratch []byte    // guarded by writing
	sum     headerSum // guarded by writing

	// Owned by the flusher, which is a goroutine until Close, and then Close.
	acksBuf []byte

	mu       sync.Mutex
	closed   bool
	segments []*segment // ascending; the last one may be active
	// which is written, nil if the next Append begins one; changed only with writing held too
	active    *segment
	undeleted []*segment // dead, but still in the folder
	next      Seq        // number of the next record; changed only with writing held too
	// all below were read by Next, or dropped; changed only with reading held too
	read      Seq
	bytes     int64 // of all in segments and undeleted
	stats     Stats
	acksDirty bool // the file of acknowledgements is not up to date
	dirDirty  bool // the folder has changed since it was synced
}

// Stats is what a Spool holds, and what happened since Open.
type Stats struct {
	// Records is the number of records that are not acknowledged, Unread the number of those
	// that Next has not returned.
	Records, Unread uint64
	// Segments and Bytes are what is on disk, done or not.
	Segments int
	Bytes    int64
	// Full counts the records that Append refused with ErrFull.
	Full uint64
	// CorruptRecords counts the records that were skipped for damage, as far as they could be told,
	// and CorruptBytes what was skipped. TornBytes is what was cut off the end of the newest
	// segment by Open.
	CorruptRecords          uint64
	CorruptBytes, TornBytes int64
	// SetAside counts the records that SetAside has taken out.
	SetAside uint64
	// Err is why syncing or noting acknowledgements failed the last time, nil if it did not. It is
	// tried again every Config.SyncInterval; meanwhile a power failure loses more, kill -9 delivers
	// more again.
	Err error
}

// Open returns the Spool in a folder. It calls recovered, in order, for each record of earlier
// processes that was not acknowledged; Next returns them later. The record is valid during the
// call.
//
// It reads all segments. Damage is skipped; an error that the file system returns is an error here,
// so that nothing is lost that could be read at another time.
func Open(cfg Config, recovered func(record []byte)) (*Spool, error) {
	return openSpool(cfg, recovered, nil)
}

// openSpool is Open with files that open opens, for tests; nil is those of the folder.
func openSpool(cfg Config, recovered func(record []byte),
	open func(root *os.Root, name string, flag int) (file, error)) (*Spool, error) {
	if cfg.MaxBytes < 0 || cfg.SegmentBytes < 0 || cfg.SyncInterval < 0 {
		return nil, errors.New("spool: a limit or interval is negative")
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

// openFile opens a file of the folder. A nil *os.File would be a file that is not nil.
func openFile(root *os.Root, name string, flag int) (file, error) {
	f, err := root.OpenFile(name, flag, 0o666)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Stats returns what the spool holds.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Segments = len(s.segments) + len(s.undeleted)
	st.Bytes = s.bytes
	return st
}

// Close syncs the records, notes exactly what is acknowledged, and unlocks the folder. After an
// error, which only the first call returns, all records are in the folder as far as it took them,
// and acknowledged ones may be delivered again.
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

// release closes all files, of which the lock is one.
func (s *Spool) release() {
	for _, g := range slices.Concat(s.segments, s.undeleted) {
		g.closeFiles()
	}
	if s.lock != nil {
		s.lock.Close()
	}
	s.root.Close()
}
