package main

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

	"zmtpd/capture"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// replayMessage is a message of a file.
type replayMessage struct {
	zmtp.Message
	publish bool // with the XPUB, not the PUSH socket
}

// replayFile is a file with messages.
type replayFile struct {
	*os.File
	recording bool  // not a capture
	size      int64 // when it was opened, 0 if it is no regular file

	begin int64        // bytes of the passes before this one
	read  int64        // bytes of this pass that were read
	taken atomic.Int64 // bytes of all passes that messages were made of

	torn error // the recording ends within a message, as when its writer was killed
	// sessions of a capture, or halves of them, that could not be read, of the last pass
	problems int
	problem  error // the first of them
}

// openReplay opens a file and finds out what it is: a recording begins with a number of
// parts, whose first byte is 0; no capture does.
func openReplay(name string) (*replayFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	var first [1]byte
	if _, err := f.ReadAt(first[:], 0); err != nil {
		f.Close()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s is empty", name)
		}
		return nil, err
	}
	r := &replayFile{File: f, recording: first[0] == 0}
	if fi.Mode().IsRegular() {
		r.size = fi.Size()
	}
	return r, nil
}

// passes returns how often the file was taken, the pass that goes on as a fraction; 0 if its size
// is not known. It may be called by another goroutine than the one that takes the messages.
func (f *replayFile) passes() float64 {
	if f.size == 0 {
		return 0
	}
	return float64(f.taken.Load()) / float64(f.size)
}

// Read reads on in the file, up to the size that it had when it was opened. It may grow by what is
// replayed: a broker with --tap-file records that as well, and so does a capture of the interface.
func (f *replayFile) Read(b []byte) (int, error) {
	if f.size > 0 {
		if f.read >= f.size {
			return 0, io.EOF
		}
		b = b[:min(int64(len(b)), f.size-f.read)]
	}
	n, err := f.File.Read(b)
	f.read += int64(n)
	return n, err
}

// advance notes that messages were made of what was read, but for what is buffered in b.
func (f *replayFile) advance(b *bufio.Reader) {
	f.taken.Store(f.begin + f.read - int64(b.Buffered()))
}

// messages returns an iterator over the messages that the command wants to send. An
// error is the last thing that it yields. It may be called again for another pass.
func (f *replayFile) messages(ctx context.Context, c *replayCommand) iter.Seq2[replayMessage,
	error] {
	return func(yield func(replayMessage, error) bool) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			yield(replayMessage{}, err)
			return
		}
		f.read = 0
		b := bufio.NewReaderSize(f, 1<<20)
		if f.recording {
			f.recorded(b, len(c.Push) == 0, yield)
		} else {
			f.captured(ctx, b, c, yield)
		}
		f.begin += f.size
		f.taken.Store(f.begin)
	}
}

// recorded yields the messages of a recording.
func (f *replayFile) recorded(b *bufio.Reader, publish bool,
	yield func(replayMessage, error) bool) {
	r := newMessageReader(b, formatRecording)
	for n := 0; ; n++ {
		m, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if errors.Is(err, io.ErrUnexpectedEOF) && n > 0 {
			f.torn = err
			return
		}
		if err != nil {
			yield(replayMessage{},
				fmt.Errorf("%s: %w (neither a capture nor a whole recording)", f.Name(), err))
			return
		}
		if !yield(replayMessage{m, publish}, nil) {
			return
		}
		f.advance(b)
	}
}

// captured yields the messages in a capture that connecting sockets sent.
func (f *replayFile) captured(ctx context.Context, b *bufio.Reader, c *replayCommand,
	yield func(replayMessage, error) bool) {
	f.problems, f.problem = 0, nil
	var options capture.Options
	if len(c.Port) > 0 {
		options.Select = func(_, server netip.AddrPort) bool {
			return slices.Contains(c.Port,
				server.Port())
		}
	}
	r, err := capture.NewReader(b, options)
	if err != nil {
		yield(replayMessage{}, fmt.Errorf("%s: %w", f.Name(), err))
		return
	}
	senders := map[uint64]wire.SocketType{} // what the clients are, by session
	for ev, err := range r.Events(ctx) {
		f.advance(b)
		if err != nil {
			yield(replayMessage{}, fmt.Errorf("%s: %w", f.Name(), err))
			return
		}
		switch ev.Kind {
		case capture.Problem:
			f.problems++
			if f.problem == nil {
				f.problem = ev.Err
			}
		case capture.Closed:
			delete(senders, ev.Session.ID)
		case capture.Metadata:
			if ev.From == capture.Client {
				value, _ := ev.Metadata.Get(wire.PropSocketType)
				senders[ev.Session.ID] = wire.SocketType(value)
			}
		case capture.Message:
			if ev.From != capture.Client {
				continue
			}
			m := replayMessage{Message: ev.Message}
			switch senders[ev.Session.ID] {
			case wire.PUSH:
				if len(c.Push) == 0 {
					continue
				}
			case wire.PUB, wire.XPUB:
				if len(c.XSub) == 0 {
					continue
				}
				m.publish = true
			default:
				continue
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// explain says why there may be less in the file than expected, if something is known.
func (f *replayFile) explain() string {
	if f.problems == 0 {
		return ""
	}
	return fmt.Sprintf(": %d sessions could not be read, the first one because: %v", f.problems,
		f.problem)
}
