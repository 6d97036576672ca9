// Package replay reads messages from a recording or a capture in order to send them again.
package replay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"zmtpd/capture"
	"zmtpd/pipeline/recording"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// Message is a message of a file.
type Message struct {
	zmtp.Message
	Publish bool      // a PUB or XPUB socket sent it, not a PUSH socket
	Time    time.Time // when it was captured; zero in a recording
}

// Selection selects messages of a file. A recording does not tell what its messages are: they all
// count as what is selected.
type Selection struct {
	Push, Publish bool     // messages of PUSH sockets, and of PUB and XPUB sockets
	Ports         []uint16 // of a capture: messages to one of these ports; empty for all
	// Keys decrypt CURVE sessions of a capture; nil for none.
	Keys capture.KeyFinder
}

// File is a file with messages. One goroutine at a time may use it; only Passes may be called by
// others.
type File struct {
	file      *os.File
	recording bool  // not a capture
	size      int64 // when it was opened, 0 if it is not a regular file

	begin int64        // bytes of the passes before this one
	read  int64        // bytes of this pass that were read
	taken atomic.Int64 // bytes of all passes whose messages were taken

	torn     error // why the last message of a recording is not whole
	problems int   // sessions, or directions of them, that could not be read in the last pass
	problem  error // the first problem
}

// Open opens a file and finds out what it is. A recording begins with the number of parts of its
// first message, whose first byte is 0; no capture begins with 0.
func Open(name string) (*File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	r, err := newFile(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

func newFile(f *os.File) (*File, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.IsDir() {
		return nil, fmt.Errorf("%s is a folder", f.Name())
	}
	var first [1]byte
	if _, err := f.ReadAt(first[:], 0); errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is empty", f.Name())
	} else if err != nil {
		return nil, err
	}
	r := &File{file: f, recording: first[0] == 0}
	if fi.Mode().IsRegular() {
		r.size = fi.Size()
	}
	return r, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Recording reports whether the file is a recording, not a capture.
func (f *File) Recording() bool { return f.recording }

// Torn returns why the last message of a recording is not whole, as when its writer was killed, or
// nil.
func (f *File) Torn() error { return f.torn }

// Problems returns the number of sessions of a capture that could not be read in the last pass, and
// the first reason. Each direction of a session counts.
func (f *File) Problems() (n int, first error) { return f.problems, f.problem }

// Passes returns how many passes were taken, the current one as a fraction; 0 if the size of the
// file is unknown. Any goroutine may call it.
func (f *File) Passes() float64 {
	if f.size == 0 {
		return 0
	}
	return float64(f.taken.Load()) / float64(f.size)
}

// Read reads on up to the size that the file had when it was opened. It may grow by what is
// replayed: through a broker with --tap-file that appends to it, or a capture of the interface.
func (f *File) Read(b []byte) (int, error) {
	if f.size > 0 {
		if f.read >= f.size {
			return 0, io.EOF
		}
		b = b[:min(int64(len(b)), f.size-f.read)]
	}
	n, err := f.file.Read(b)
	f.read += int64(n)
	return n, err
}

// advance notes that the messages before what is buffered in b were taken.
func (f *File) advance(b *bufio.Reader) {
	f.taken.Store(f.begin + f.read - int64(b.Buffered()))
}

// Messages returns an iterator over the messages of a selection. An error ends it. Messages may be
// called again for another pass. A message refers to memory of its own.
func (f *File) Messages(ctx context.Context, s Selection) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		if _, err := f.file.Seek(0, io.SeekStart); err != nil {
			yield(Message{}, err)
			return
		}
		f.read = 0
		b := bufio.NewReaderSize(f, 1<<20)
		if f.recording {
			f.recorded(b, s.Publish, yield)
		} else {
			f.captured(ctx, b, s, yield)
		}
		f.begin += f.size
		f.taken.Store(f.begin)
	}
}

// recorded yields the messages of a recording.
func (f *File) recorded(b *bufio.Reader, publish bool, yield func(Message, error) bool) {
	r := recording.NewReader(b)
	for n := 0; ; n++ {
		parts, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if errors.Is(err, io.ErrUnexpectedEOF) && n > 0 {
			f.torn = err
			return
		}
		if err == nil && len(parts) == 0 {
			err = errors.New("a message without parts cannot be sent")
		}
		if err != nil {
			yield(Message{}, fmt.Errorf("%s: %w (neither a capture nor a whole recording)",
				f.file.Name(), err))
			return
		}
		if !yield(Message{Message: zmtp.NewMessage(parts...), Publish: publish}, nil) {
			return
		}
		f.advance(b)
	}
}

// captured yields the messages of a capture that connecting sockets sent.
func (f *File) captured(ctx context.Context, b *bufio.Reader, s Selection,
	yield func(Message, error) bool) {
	f.problems, f.problem = 0, nil
	options := capture.Options{Keys: s.Keys}
	if len(s.Ports) > 0 {
		options.Select = func(_, server netip.AddrPort) bool {
			return slices.Contains(s.Ports, server.Port())
		}
	}
	r, err := capture.NewReader(b, options)
	if err != nil {
		yield(Message{}, fmt.Errorf("%s: %w", f.file.Name(), err))
		return
	}
	sealed := map[uint64]bool{} // sessions that are encrypted
	for ev, err := range r.Events(ctx) {
		f.advance(b)
		if err != nil {
			yield(Message{}, fmt.Errorf("%s: %w", f.file.Name(), err))
			return
		}
		switch ev.Kind {
		case capture.Encrypted:
			if !sealed[ev.Session.ID] {
				sealed[ev.Session.ID] = true
				f.failed(errEncrypted)
			}
		case capture.Closed:
			delete(sealed, ev.Session.ID)
		case capture.Problem:
			f.failed(ev.Err)
		case capture.Message:
			if ev.From != capture.Client {
				continue
			}
			m := Message{Message: ev.Clone().Message, Time: ev.Time}
			switch ev.Session.FromClient.Type {
			case wire.PUSH:
				if !s.Push {
					continue
				}
			case wire.PUB, wire.XPUB:
				if !s.Publish {
					continue
				}
				m.Publish = true
			default:
				continue
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

var errEncrypted = errors.New("the traffic is encrypted, and its key is not known")

// failed counts a session, or a direction of it, that could not be read.
func (f *File) failed(why error) {
	f.problems++
	if f.problem == nil {
		f.problem = why
	}
}
