package capture

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"io"
	"iter"
	"net/netip"
	"slices"
	"time"

	"zmtpd/zmtp/wire"
)

// Options are the options of a Reader. The zero value is ready to use.
type Options struct {
	// Select reports whether a session is to be decoded; others have no events. It is called at
	// most once for each TCP connection, ZMTP or not. client is the endpoint that connected, as far
	// as the file tells. Default nil: all sessions.
	Select func(client, server netip.AddrPort) bool

	// MaxMessageSize bounds a message in bytes, as zmtp.Config's does. A larger one is a Problem.
	// Default 64 MiB.
	MaxMessageSize int64

	// MaxSessions bounds the TCP connections of which the Reader keeps the state. The one that was
	// idle for longest makes room for a new one. Default 65536.
	MaxSessions int

	// MaxIdle ends a session of which no packet was seen for so long, in the time of the packets.
	// If it goes on, it is a session whose beginning is missing. Default 0: no limit.
	MaxIdle time.Duration

	// Keys finds the keys of CURVE sessions. Default nil: they are not decrypted.
	Keys KeyFinder

	// MaxBuffered bounds the unfinished messages of all sessions together, in bytes. Default 256
	// MiB.
	MaxBuffered int64
}

// Stats are the counters of a Reader.
type Stats struct {
	Packets uint64 // packets of the file
	// of these: not TCP over IP, fragments, malformed headers, an unknown link type
	Skipped       uint64
	Truncated     uint64 // of these: TCP segments of which a part was not captured
	Sessions      uint64 // ZMTP sessions, as many as there are Opened events
	OtherSessions uint64 // TCP connections that are not ZMTP, were not selected, or had no data
	// TCP connections that began before the capture, and in which no frames were found
	NoStart      uint64
	Messages     uint64 // messages, as many as there are Message events
	Encrypted    uint64 // frames of CURVE whose key is not known
	Gaps         uint64 // gaps in ZMTP sessions
	MissingBytes uint64 // bytes of these gaps
}

// Add returns the sums of two sets of counters.
func (s Stats) Add(t Stats) Stats {
	return Stats{Packets: s.Packets + t.Packets, Skipped: s.Skipped + t.Skipped,
		Truncated: s.Truncated + t.Truncated, Sessions: s.Sessions + t.Sessions,
		OtherSessions: s.OtherSessions + t.OtherSessions, NoStart: s.NoStart + t.NoStart,
		Messages: s.Messages + t.Messages, Encrypted: s.Encrypted + t.Encrypted,
		Gaps: s.Gaps + t.Gaps, MissingBytes: s.MissingBytes + t.MissingBytes}
}

// Reader reads the ZMTP sessions of one source. It is not for concurrent use.
type Reader struct {
	opts   Options
	limit  limits
	source Source
	stats  Stats
	pool   pool
	search search
	header [wire.MaxHeaderSize]byte // of the frame of ZMTP that a WebSocket frame contains

	sessions map[connKey]*session
	recent   *list.List // of all *session, the one that was idle for longest first
	lastID   uint64
	buffered int64 // capacity of all half.buf
	waiting  int64 // bytes of all half.waits

	now   time.Time // of the packet that is being read
	yield func(Event, error) bool
}

// errStop ends the reading when the loop over the events was left.
var errStop = errors.New("stopped")

// NewReader returns a Reader for a file, see OpenFile.
func NewReader(file io.Reader, opts Options) (*Reader, error) {
	source, err := OpenFile(file)
	if err != nil {
		return nil, err
	}
	return New(source, opts), nil
}

// New returns a Reader for a source of packets.
func New(source Source, opts Options) *Reader {
	return newReader(source, opts, limits{
		sessions: cmp.Or(opts.MaxSessions, 1<<16), held: maxHeld, waiting: maxWaiting,
		waitingTotal: maxWaitingTotal, firstOffset: firstOffset,
		message: cmp.Or(opts.MaxMessageSize, 64<<20), buffered: cmp.Or(opts.MaxBuffered, 256<<20),
	})
}

func newReader(source Source, opts Options, l limits) *Reader {
	return &Reader{opts: opts, limit: l, source: source, sessions: map[connKey]*session{},
		recent: list.New()}
}

// Events returns the events in the order of the packets that completed them. It reads the file
// while the loop runs, and can be used once: a loop that was left cannot be continued. An error,
// for a damaged file or the end of ctx, comes last, behind the events of the packets before it.
func (r *Reader) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		r.yield = yield
		if err := r.read(ctx); err != nil && err != errStop {
			yield(Event{}, err)
		}
	}
}

// Stats returns the counts so far.
func (r *Reader) Stats() Stats { return r.stats }

func (r *Reader) read(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := r.source.Next()
		if err != nil {
			if ended := r.endOfFile(); ended != nil {
				return ended
			}
			if err == io.EOF {
				return nil
			}
			return err
		}
		r.stats.Packets++
		r.now = p.Time
		s, err := decode(cutLink(p.Link, p.Data))
		if err != nil {
			r.stats.Skipped++
			continue
		}
		if s.missing > 0 {
			r.stats.Truncated++
		}
		if err := r.segment(s); err != nil {
			return err
		}
		if err := r.endIdle(); err != nil {
			return err
		}
	}
}

// endIdle ends the sessions that were idle for too long.
func (r *Reader) endIdle() error {
	for r.opts.MaxIdle > 0 && r.recent.Len() > 0 {
		s := r.recent.Front().Value.(*session)
		if r.now.Sub(s.last) < r.opts.MaxIdle {
			break
		}
		if err := r.end(s, Idle); err != nil {
			return err
		}
		r.forget(s)
	}
	return nil
}

// segment takes one segment to its session.
func (r *Reader) segment(seg segment) error {
	key, side := keyOf(seg.src, seg.dst)
	s := r.sessions[key]
	if s != nil && seg.syn && s.replacedBy(side, seg.seq) {
		if err := r.end(s, PortReused); err != nil {
			return err
		}
		r.forget(s)
		s = nil
	}
	if s == nil {
		if !seg.syn && len(seg.payload) == 0 {
			return nil // the end of a connection without data
		}
		if len(r.sessions) >= r.limit.sessions {
			oldest := r.recent.Front().Value.(*session)
			if err := r.end(oldest, Evicted); err != nil {
				return err
			}
			r.forget(oldest)
		}
		r.lastID++
		s = newSession(r.lastID, key, side, r.limit.firstOffset)
		s.began, s.place = r.now, r.recent.PushBack(s)
		r.sessions[key] = s
	}
	s.last = r.now
	r.recent.MoveToBack(s.place)
	if s.phase == ended {
		return nil
	}
	return r.track(s, side, seg)
}

// endOfFile ends what is open, in the order in which it began.
func (r *Reader) endOfFile() error {
	open := make([]*session, 0, len(r.sessions))
	for _, s := range r.sessions {
		open = append(open, s)
	}
	slices.SortFunc(open, func(a, b *session) int { return cmp.Compare(a.id, b.id) })
	for _, s := range open {
		if err := r.end(s, EndOfFile); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) forget(s *session) {
	r.recent.Remove(s.place)
	delete(r.sessions, s.key)
}

// emit hands one event over.
func (r *Reader) emit(s *session, ev Event) error {
	ev.Time, ev.Session = r.now, s.public
	if !r.yield(ev, nil) {
		return errStop
	}
	return nil
}

// Endpoints returns the endpoints of a packet that is a TCP segment.
func Endpoints(p Packet) (src, dst netip.AddrPort, ok bool) {
	s, err := decode(cutLink(p.Link, p.Data))
	return s.src, s.dst, err == nil
}
