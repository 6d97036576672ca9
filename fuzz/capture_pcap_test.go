package fuzz_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"zmtpd/capture"
)

// The seeds in testdata/pcap are parts of recorded captures: one session of most kinds, and the
// same with segments missing, repeated, cut off and in another order, in other file formats and
// with other link types. Those over WebSocket are made up.
func init() {
	corpora["FuzzPcap"] = func(tb testing.TB) [][]byte { return seeds(tb, "testdata/pcap") }
}

// capturedSize returns the size of a file, uncompressed if it is compressed, up to a limit.
func capturedSize(b []byte) int64 {
	var z io.Reader
	var err error
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
		z, err = gzip.NewReader(bytes.NewReader(b))
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err = zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxWindow(8<<20))
	default:
		return int64(len(b))
	}
	if err != nil {
		return int64(len(b))
	}
	n, _ := io.Copy(io.Discard, io.LimitReader(z, maxCaptured+1))
	return n
}

const maxCaptured = 1 << 20

// captured reads a file and returns its events and the error that ended them.
func captured(b []byte, opts capture.Options) (events []capture.Event, stats capture.Stats,
	err error) {
	r, err := capture.NewReader(bytes.NewReader(b), opts)
	if err != nil {
		return nil, capture.Stats{}, err
	}
	for ev, e := range r.Events(context.Background()) {
		if err = e; e == nil {
			events = append(events, ev.Clone())
		}
	}
	return events, r.Stats(), err
}

// The same file always gives the same events. Their order makes sense, and they hold no more bytes
// than the file has. The memory to read them is in proportion to the file.
func FuzzPcap(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		size := capturedSize(b)
		if size > maxCaptured {
			return
		}
		opts := capture.Options{MaxMessageSize: 1 << 16, MaxBuffered: 1 << 18}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		events, stats, err := captured(b, opts)
		runtime.ReadMemStats(&after)
		// A Reader has buffers of 2 MiB for a compressed file, and its decoder takes as much. An
		// event takes some 400 bytes, twice that in a growing slice, and 2 bytes in the file may be
		// a message. A search takes ten times its window.
		if took := after.TotalAlloc - before.TotalAlloc; took > 24<<20+1500*uint64(size) {
			t.Errorf("reading took %d bytes of memory for a file of %d", took, size)
		}
		again, statsAgain, errAgain := captured(b, opts)
		if (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() ||
			stats != statsAgain {
			t.Fatalf("%+v, %v and then %+v, %v", stats, err, statsAgain, errAgain)
		}
		if !slices.EqualFunc(events, again, sameEvent) {
			t.Fatalf("the second reading gives other events")
		}
		checkEvents(t, events, stats, size)
	})
}

func sameEvent(a, b capture.Event) bool {
	return a.Kind == b.Kind && a.From == b.From && a.Closed == b.Closed && a.Time.Equal(b.Time) &&
		*a.Session == *b.Session &&
		a.Greeting == b.Greeting && bytes.Equal(a.Message.Wire(), b.Message.Wire()) &&
		a.Name == b.Name && bytes.Equal(a.Data, b.Data) &&
		len(a.Metadata) == len(b.Metadata) && (a.Err == nil) == (b.Err == nil) &&
		(a.Err == nil || a.Err.Error() == b.Err.Error())
}

// checkEvents checks the properties of all events.
func checkEvents(t *testing.T, events []capture.Event, stats capture.Stats, size int64) {
	type session struct {
		opened, closed   bool
		greeted, resumed [3]bool
	}
	sessions := map[uint64]*session{}
	var opened, messages uint64
	var held int64
	for _, ev := range events {
		s := sessions[ev.Session.ID]
		if s == nil {
			s = &session{}
			sessions[ev.Session.ID] = s
		}
		if s.closed || ev.Kind != capture.Opened && !s.opened {
			t.Fatalf("%s of session %d, which is opened: %t, closed: %t", ev.Kind, ev.Session.ID,
				s.opened, s.closed)
		}
		switch ev.Kind {
		case capture.Opened:
			if s.opened {
				t.Fatalf("session %d was opened twice", ev.Session.ID)
			}
			s.opened = true
			opened++
		case capture.Greeting, capture.Upgrade:
			if s.greeted[ev.From] {
				t.Fatalf("two greetings of the %s of session %d", ev.From, ev.Session.ID)
			}
			s.greeted[ev.From] = true
		case capture.Metadata, capture.Message, capture.Command:
			if !s.greeted[ev.From] && !s.resumed[ev.From] {
				t.Fatalf("%s before the greeting of the %s of session %d", ev.Kind, ev.From,
					ev.Session.ID)
			}
		case capture.Problem:
			if ev.Err == nil {
				t.Fatalf("a problem of session %d without an error", ev.Session.ID)
			}
		case capture.Resumed:
			s.resumed[ev.From] = true
		case capture.Closed:
			s.closed = true
		}
		if ev.Kind == capture.Message {
			messages++
			for range ev.Message.Parts() { // panics if it is not well formed
			}
		}
		held += int64(len(ev.Message.Wire()) + len(ev.Data))
	}
	for id, s := range sessions {
		if s.opened != s.closed {
			t.Fatalf("session %d was opened: %t, closed: %t", id, s.opened, s.closed)
		}
	}
	// A frame of 256 bytes has a header of 5 bytes over WebSocket, with its flags, and one of 9
	// here.
	if held > size+size*4/261 {
		t.Fatalf("%d bytes of messages and commands in a file of %d", held, size)
	}
	if opened != stats.Sessions || messages != stats.Messages {
		t.Fatalf("%d sessions, %d messages; counted were %+v", opened, messages, stats)
	}
}

// Seeds without ZMTP would test nothing but the refusal.
func TestPcapSeeds(t *testing.T) {
	for i, b := range corpora["FuzzPcap"](t) {
		events, stats, err := captured(b, capture.Options{})
		if err != nil || len(events) == 0 || stats.Sessions+stats.NoStart == 0 ||
			stats.Skipped > 0 {
			t.Errorf("seed %d: %d events, %+v, %v", i, len(events), stats, err)
		}
	}
}
