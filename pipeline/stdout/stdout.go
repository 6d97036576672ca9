// Package stdout writes log records as lines to an [io.Writer], such as the standard output: [Sink]
// is a [pipeline.Sink].
package stdout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"zmtpd/pipeline"
	"zmtpd/pipeline/internal/await"
	"zmtpd/pipeline/internal/text"
	"zmtpd/pipeline/lines"
	"zmtpd/pipeline/zeek"
	"zmtpd/zmtp/memory"
)

// Config configures a Sink. Writer is the only field that must be set.
type Config struct {
	// Writer takes the records of a batch in one call of Write, unless that call writes less or the
	// text is larger than zeek.PieceBytes. Only one goroutine calls it at a time.
	//
	// If it is the standard output, the program must ignore SIGPIPE (signal.Ignore). Else a reader
	// that ends also ends the program.
	Writer io.Writer
	// Format is the format of the lines. Default: zeek.DefaultOptions with UseJSON.
	Format *zeek.Options
	// Memory is the budget for text that waits to be written. Default: none.
	Memory *memory.Budget
	// Logger takes messages for the operator. It must not write to Writer. Default: nothing is
	// logged.
	Logger *slog.Logger
}

// Sink writes records as lines that begin with the log path; see package lines. An entry is done
// when all its lines are written. The lines of an entry stand together, and no line is torn by a
// failed write. Only a line of more than zeek.PieceBytes may be cut short, if its batch is given
// up.
//
// The Sink tries a failed write again until Send's context ends. If the reader of a pipe has gone,
// no write can succeed: the Sink gives up all entries, with pipeline.ErrGone.
type Sink struct {
	// Not changed after New.
	w     io.Writer
	lines *lines.Renderer
	log   *slog.Logger
	jobs  chan *job
	stop  chan struct{} // closed by Close
	ended chan struct{} // closed by the writer goroutine

	quota          *text.Quota // for texts that wait to be written
	records, bytes atomic.Uint64

	// Used by the writer goroutine only.
	rest []byte // the end of a line that was begun and whose batch was given up
	open bool   // the last written byte does not end a line

	mu      sync.Mutex
	err     error     // guarded by mu; of the last write, nil if it succeeded
	since   time.Time // guarded by mu; when err became nil or not nil
	dead    bool      // guarded by mu; the reader has gone
	writing time.Time // guarded by mu; when Write was called, zero if it has returned
}

var _ pipeline.Sink = (*Sink)(nil)

// Stats describes a Sink at one moment.
type Stats struct {
	// Up says that records are written, and Since when that began or ended. Err is the reason if
	// they are not.
	Up    bool
	Since time.Time
	Err   error
	// Records and Bytes count what was written.
	Records, Bytes uint64
}

const (
	// slowWrite is the time after which Stats reports a write that has not returned as a fault.
	slowWrite = 10 * time.Second
	// maxTexts bounds the text that waits to be written, in bytes. minTexts of it do not depend on
	// the memory budget.
	maxTexts, minTexts = 32 << 20, 4 * text.PieceBytes
)

// New returns a Sink. Its goroutine ends with Close.
func New(cfg Config) (*Sink, error) {
	if cfg.Writer == nil {
		return nil, errors.New("stdout: Config.Writer is nil: set it, for example to os.Stdout")
	}
	if cfg.Format == nil {
		format := zeek.DefaultOptions()
		format.UseJSON = true
		cfg.Format = &format
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	render, err := lines.New(*cfg.Format, true)
	if err != nil {
		return nil, fmt.Errorf("stdout: %w", err)
	}
	s := &Sink{
		w:     cfg.Writer,
		lines: render,
		log:   cfg.Logger,
		jobs:  make(chan *job),
		stop:  make(chan struct{}),
		ended: make(chan struct{}),
		since: time.Now(),
	}
	s.quota = text.NewQuota(cfg.Memory, "stdout", maxTexts, minTexts)
	go s.run()
	return s, nil
}

// job is a batch for the writer goroutine, which then owns its text.
type job struct {
	ctx     context.Context
	text    *[]byte
	long    *longText
	written chan error // has room for the outcome: the receiver may have gone
	bytes   uint64     // written so far; the goroutine's until it has sent the outcome
	size    int64      // size in bytes of the text, as counted in the quota
}

// longText is a batch with a text of several pieces. The writer goroutine renders them one by one.
type longText struct {
	mu    sync.Mutex // held while batch is read
	batch zeek.Batch // guarded by mu
	ended bool       // guarded by mu; the entry is done, so batch must not be read
}

// errLong reports that a text has more than one piece.
var errLong = errors.New("more than one piece")

// Send implements pipeline.Sink. It returns when e is done. It renders the batch itself, so that
// all cores can render, unless the text is long.
func (s *Sink) Send(ctx context.Context, e *pipeline.Entry) {
	if !s.quota.Acquire(ctx, ctx, text.PieceBytes) {
		e.Done(s.givenUp(ctx))
		return
	}
	j := &job{ctx: ctx, text: text.Get(), size: text.PieceBytes, written: make(chan error, 1)}
	var err error
	*j.text, err = s.lines.Render(*j.text, e.Batch,
		func(piece []byte) ([]byte, error) { return piece[:0], errLong })
	drop, dropped := errors.AsType[*pipeline.DropError](err)
	switch {
	case dropped:
		s.release(j)
		e.Refuse(uint64(e.Batch.NumRecords), drop)
		e.Done(nil)
		return
	case err != nil: // errLong: the batch has no fault
		*j.text = (*j.text)[:0] // the writer goroutine renders it there
		j.long = &longText{batch: e.Batch}
	case len(*j.text) == 0:
		s.release(j)
		e.Done(nil)
		return
	default:
		j.text = text.Fit(j.text)
		s.quota.Release(j.size - int64(cap(*j.text)))
		j.size = int64(cap(*j.text))
	}
	select {
	case s.jobs <- j:
	case <-ctx.Done():
		s.release(j)
		e.Done(s.givenUp(ctx))
		return
	}
	select {
	case err = <-j.written:
	case <-ctx.Done():
		err = s.givenUp(ctx) // whatever the writer does with it
		if j.long != nil {
			j.long.mu.Lock()
			j.long.ended = true
			j.long.mu.Unlock()
		}
	}
	if err == nil {
		s.records.Add(uint64(e.Batch.NumRecords))
		s.bytes.Add(j.bytes)
	}
	e.Done(err)
}

// givenUp returns the error for a batch that was not written before ctx ended or the reader went
// away.
func (s *Sink) givenUp(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(ctx.Err(), s.err)
	if s.dead {
		err = errors.Join(errGone, s.err)
	}
	return fmt.Errorf("stdout: %w", err)
}

// release returns the text of a job.
func (s *Sink) release(j *job) {
	text.Put(j.text)
	s.quota.Release(j.size)
}

// Close implements pipeline.Sink. If a call of Write hangs until ctx ends, Close returns and leaves
// the call and its goroutine behind.
func (s *Sink) Close(ctx context.Context) error {
	close(s.stop)
	defer s.quota.Close()
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stdout: a write of log records has not returned: %w", ctx.Err())
	}
}

// Stats describes the Sink at this moment.
func (s *Sink) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Up: s.err == nil, Since: s.since, Err: s.err, Records: s.records.Load(),
		Bytes: s.bytes.Load()}
	if st.Up && !s.writing.IsZero() && time.Since(s.writing) > slowWrite {
		st.Up, st.Since, st.Err = false, s.writing, errors.New("the reader takes nothing")
	}
	return st
}

// run is the writer goroutine.
func (s *Sink) run() {
	defer close(s.ended)
	for {
		select {
		case j := <-s.jobs:
			j.written <- s.write(j)
			s.release(j)
		case <-s.stop:
			_, _ = s.put(s.rest)
			return
		}
	}
}

// write writes the text of a job. It tries until the text is written or the job's context ends.
func (s *Sink) write(j *job) error {
	if j.long == nil {
		return s.writeText(j, *j.text)
	}
	j.long.mu.Lock()
	defer j.long.mu.Unlock()
	if j.long.ended {
		return s.givenUp(j.ctx)
	}
	var err error
	*j.text, err = s.lines.Render(*j.text, j.long.batch, func(text []byte) ([]byte, error) {
		j.long.mu.Unlock()
		err := s.writeText(j, text)
		j.long.mu.Lock()
		if err == nil && j.long.ended {
			err = s.givenUp(j.ctx)
			s.endLine(nil)
		}
		return text[:0], err
	})
	if err != nil {
		return err
	}
	return s.writeText(j, *j.text)
}

// writeText writes text. It tries until the text is written, the job's context ends, or the reader
// has gone.
func (s *Sink) writeText(j *job, text []byte) error {
	done := 0
	var backoff await.Backoff
	for {
		n, err := s.put(s.rest)
		s.rest = s.rest[:copy(s.rest, s.rest[n:])]
		if err == nil {
			n, err = s.put(text[done:])
			done += n
		}
		s.note(err)
		if err == nil {
			j.bytes += uint64(len(text))
			return nil
		}
		if s.gone() || !backoff.Sleep(j.ctx, j.ctx) {
			s.endLine(text[done:])
			return s.givenUp(j.ctx)
		}
	}
}

// endLine makes sure that a line that was begun is ended, although its text was given up: with the
// rest of the line in text or, if that lacks the end of the line, with a line feed.
func (s *Sink) endLine(text []byte) {
	if !s.open || len(s.rest) > 0 {
		return
	}
	if end := bytes.IndexByte(text, '\n'); end >= 0 {
		s.rest = append(s.rest, text[:end+1]...)
	} else {
		s.rest = append(s.rest, '\n')
	}
}

// put writes b and returns the number of bytes written. It is less than len(b) only with an error.
func (s *Sink) put(b []byte) (done int, err error) {
	if s.gone() {
		return 0, errGone
	}
	s.mu.Lock()
	s.writing = time.Now()
	s.mu.Unlock()
	for done < len(b) && err == nil {
		var n int
		if n, err = s.w.Write(b[done:]); n == 0 && err == nil {
			err = io.ErrShortWrite
		}
		if n > 0 {
			s.open = b[done+n-1] != '\n'
		}
		done += n
	}
	s.mu.Lock()
	s.writing = time.Time{}
	s.mu.Unlock()
	return done, err
}

// errGone reports that no write can succeed any more.
var errGone = fmt.Errorf("the reader has ended: %w", pipeline.ErrGone)

func (s *Sink) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// note records the outcome of a write, and logs it if the outcome has changed.
func (s *Sink) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return
	}
	if (err == nil) != (s.err == nil) {
		down := time.Since(s.since)
		s.since = time.Now()
		if err == nil {
			s.log.Info("writing log records to the output works again", "after",
				down.Round(time.Millisecond))
		} else if !broken(err) {
			s.log.Warn("log records cannot be written to the output; trying again "+
				"until it works", "err", err)
		}
	}
	s.err = err
	if err != nil && broken(err) {
		s.dead = true
		s.log.Error("the reader of the output has ended; no more log records are written to it",
			"err", err)
	}
}

// broken reports whether no write can succeed after the error err.
func broken(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, fs.ErrClosed)
}
