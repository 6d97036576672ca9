package fuzz_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

func init() {
	corpora["FuzzGreeting"] = func(tb testing.TB) [][]byte {
		return recorded(tb, func(string, zmtptest.Vector) bool { return true })
	}
	corpora["FuzzFrames"] = framesSeeds
	corpora["FuzzCommand"] = func(tb testing.TB) [][]byte {
		return commands(tb, wire.CmdReady,
			false)
	}
	corpora["FuzzMetadata"] = func(tb testing.TB) [][]byte {
		return commands(tb, wire.CmdReady,
			true)
	}
	corpora["FuzzNullSession"] = func(tb testing.TB) [][]byte {
		return recorded(tb, func(_ string,
			v zmtptest.Vector) bool {
			return v.Headers["mechanism"] == "NULL"
		})
	}
}

// traffic returns the bytes behind the greetings of the recorded exchanges.
func traffic(tb testing.TB) [][]byte {
	tb.Helper()
	var all [][]byte
	for _, b := range recorded(tb, func(string, zmtptest.Vector) bool { return true }) {
		if len(b) > wire.GreetingSize {
			all = append(all, b[wire.GreetingSize:])
		}
	}
	return all
}

// framesSeeds are streams with their cuts in front; see FuzzFrames.
func framesSeeds(tb testing.TB) [][]byte {
	var all [][]byte
	for _, b := range traffic(tb) {
		all = append(all, append([]byte{3, 1, 7, 200}, b...))
	}
	return all
}

// commands returns the bodies of the recorded commands or, if data is set, only the data of the
// commands named only.
func commands(tb testing.TB, only string, data bool) [][]byte {
	tb.Helper()
	var all [][]byte
	for _, b := range traffic(tb) {
		for len(b) > 0 {
			_, size, n, err := wire.ParseHeader(b)
			if err != nil || n == 0 || size > int64(len(b)-n) {
				break
			}
			body := b[n : n+int(size)]
			b = b[n+int(size):]
			name, rest, err := wire.ParseCommand(body)
			if err != nil || len(body) == 0 {
				continue
			}
			if !data {
				all = append(all, body)
			} else if string(name) == only {
				all = append(all, rest)
			}
		}
	}
	return all
}

// refusal reports whether err is an error. It must then be a *wire.Error with a reason.
func refusal(t *testing.T, err error) bool {
	t.Helper()
	if err == nil {
		return false
	}
	e, ok := errors.AsType[*wire.Error](err)
	if !ok || e.Reason == wire.ReasonNone || e.Detail == "" {
		t.Fatalf("an error without a reason: %#v", err)
	}
	return true
}

// A greeting is refused together with all its long enough beginnings, whatever follows, or accepted
// at exactly 64 bytes. An accepted greeting that is written again reads back the same.
func FuzzGreeting(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, n, err := wire.ParseGreeting(b)
		refused := refusal(t, err)
		if refused && n != 0 || !refused &&
			(n == wire.GreetingSize) != (len(b) >= wire.GreetingSize) {
			t.Fatalf("%d of %d bytes are consumed, error %v", n, len(b), err)
		}
		before := false
		for i := range min(len(b), wire.GreetingSize) + 1 {
			_, n, err := wire.ParseGreeting(b[:i])
			now := refusal(t, err)
			if before && !now {
				t.Fatalf("the first %d bytes are refused, the first %d are not", i-1, i)
			}
			if n != 0 && i < wire.GreetingSize {
				t.Fatalf("the greeting is accepted after %d bytes", i)
			}
			before = now
		}
		if before != refused {
			t.Fatalf("the bytes behind the greeting change the result: %v and %v", before, refused)
		}
		if n == 0 {
			return
		}
		again := wire.AppendGreeting(nil, whole.Mechanism, whole.AsServer)
		again[10], again[11] = whole.Major, whole.Minor
		g, n, err := wire.ParseGreeting(again)
		if g != whole || n != wire.GreetingSize || err != nil {
			t.Fatalf("the greeting reads back as %+v, %v, want %+v", g, err, whole)
		}
	})
}

// item is a message or command found in a stream.
type item struct {
	kind         wire.Kind
	b            string
	parts, bytes int
}

// decode feeds a stream in pieces. It returns the items, the number of bytes left, and the error.
func decode(t *testing.T, stream []byte, limit int64, cuts []byte) (found []item, left int,
	err error) {
	t.Helper()
	d := wire.Decoder{MaxMessageSize: limit}
	var buf []byte
	for i := 0; len(stream) > 0; i++ {
		n := len(stream)
		if len(cuts) > 0 {
			n = min(n, int(cuts[i%len(cuts)])+1)
		}
		buf = append(buf, stream[:n]...)
		stream = stream[n:]
		for {
			it, err := d.Next(buf)
			if err != nil {
				return found, len(buf), err
			}
			if it.From < 0 || it.From > it.To || it.To > len(buf) {
				t.Fatalf("the item %+v is found in %d bytes", it, len(buf))
			}
			switch it.Kind {
			case wire.AMessage:
				found = append(found, item{it.Kind, string(buf[:it.Size]), it.Parts, it.Bytes})
			case wire.ACommand:
				found = append(found, item{it.Kind, string(it.Body), 0, 0})
			}
			buf = buf[it.From:it.To]
			if it.Kind == wire.NeedMore {
				if it.Size <= len(buf) {
					t.Fatalf("the decoder needs %d bytes although it has %d", it.Size, len(buf))
				}
				break
			}
			if len(buf) == 0 && d.Inside() {
				t.Fatal("the decoder is inside a message although no bytes are left")
			}
		}
	}
	return found, len(buf), nil
}

// A stream has the same items in any pieces. A message has its frames and is within the limit.
// Commands between its frames do not change it.
func FuzzFrames(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		n := min(int(b[0]%8), len(b)-1)
		cuts, stream := b[1:1+n], b[1+n:]
		const limit = 1000
		want, left, werr := decode(t, stream, limit, nil)
		refusal(t, werr)
		got, gotLeft, gerr := decode(t, stream, limit, cuts)
		if refusal(t, gerr) != (werr != nil) || werr != nil &&
			werr.(*wire.Error).Reason != gerr.(*wire.Error).Reason {
			t.Fatalf("in one piece %v, in pieces %v", werr, gerr)
		}
		if !slices.Equal(got, want) || werr == nil && gotLeft != left {
			t.Fatalf("in one piece %d items and %d bytes, in pieces %d and %d", len(want), left,
				len(got), gotLeft)
		}
		var plain, mixed []byte
		for _, it := range want {
			if it.kind == wire.ACommand {
				continue
			}
			m, err := zmtp.ParseMessage([]byte(it.b))
			if err != nil || m.NumParts() != it.parts || m.Size() != it.bytes {
				t.Fatalf("message of %d parts and %d bytes: %d parts, %d bytes, %v", it.parts, it.bytes,
					m.NumParts(), m.Size(), err)
			}
			plain = append(plain, it.b...)
			for rest := []byte(it.b); len(rest) > 0; {
				_, size, n, err := wire.ParseHeader(rest)
				if err != nil || n == 0 {
					t.Fatalf("a message does not consist of frames: %v", err)
				}
				mixed = wire.AppendPing(mixed, len(rest))
				mixed = append(mixed, rest[:n+int(size)]...)
				rest = rest[n+int(size):]
			}
		}
		messages := slices.DeleteFunc(slices.Clone(want),
			func(it item) bool { return it.kind == wire.ACommand })
		for name, stream := range map[string][]byte{
			"alone": plain, "with commands between the frames": mixed,
		} {
			again, left, err := decode(t, stream, limit, cuts)
			again = slices.DeleteFunc(again, func(it item) bool { return it.kind == wire.ACommand })
			if err != nil || left != 0 || !slices.Equal(again, messages) {
				t.Fatalf("messages %s: %d items, %d bytes left, %v, want %d", name, len(again), left,
					err, len(messages))
			}
		}
	})
}

// A parsed command is written as the same bytes.
func FuzzCommand(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		name, data, err := wire.ParseCommand(body)
		if refusal(t, err) {
			return
		}
		frame := wire.AppendCommand(nil, string(name), data)
		_, size, n, err := wire.ParseHeader(frame)
		if err != nil || int(size) != len(body) || !bytes.Equal(frame[n:], body) {
			t.Fatalf("% x, want % x, %v", frame[n:], body, err)
		}
		if ttl, context, err := wire.ParsePing(data); !refusal(t, err) {
			if ttl < 0 || ttl > 65535 || len(context) != len(data)-2 {
				t.Fatalf("PING of %d bytes: TTL %d, context of %d bytes", len(data), ttl,
					len(context))
			}
			pong := wire.AppendPong(nil, context)
			if len(pong) > wire.FrameSize(1+len(wire.CmdPong)+wire.MaxPingContext) {
				t.Fatalf("PONG of %d bytes", len(pong))
			}
		}
		if reason, err := wire.ParseError(data); !refusal(t, err) {
			frame := wire.AppendError(nil, reason)
			_, _, n, _ := wire.ParseHeader(frame)
			_, data, _ := wire.ParseCommand(frame[n:])
			if again, err := wire.ParseError(data); err != nil || again != reason {
				t.Fatalf("ERROR %q becomes %q, %v", reason, again, err)
			}
		}
	})
}

// Accepted metadata are written as the same bytes.
func FuzzMetadata(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.ParseMetadata(b)
		if refusal(t, err) {
			return
		}
		if again := wire.AppendMetadata(nil, m); !bytes.Equal(again, b) {
			t.Fatalf("% x, want % x", again, b)
		}
		for _, p := range m {
			if _, ok := m.Get(p.Name); !ok && p.Name != "Routing-Id" {
				t.Fatalf("property %q is not found", p.Name)
			}
		}
	})
}

// FuzzNullSession sends the bytes to listening sockets, as a whole connection and behind a valid
// handshake, with and without a limit on the size of messages. Nothing panics, and an honest client
// of the same socket is served.
func FuzzNullSession(f *testing.F) {
	addSeeds(f)
	f.Add([]byte("\x02\x7f\xff\xff\xff\xff\xff\xff\xf6")) // a frame of 2^63-10 bytes
	f.Fuzz(func(t *testing.T, b []byte) {
		nullSession(t, b, 1<<20)
		nullSession(t, b, -1)
	})
}

func nullSession(t *testing.T, b []byte, maxMessageSize int64) {
	network := new(zmtptest.Network)
	// so that no message is read before all were sent
	cfg := zmtp.Config{MaxMessageSize: maxMessageSize, RecvHWM: -1, RecvBytes: -1}
	pull, xpub := zmtp.NewPull(cfg), zmtp.NewXPub(cfg, zmtp.XPubOptions{Verboser: true})
	hostile(t, network, "pull:1", pull.Socket, wire.PUSH, b)
	hostile(t, network, "xpub:1", xpub.Socket, wire.XSUB, b)

	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	dial := zmtp.Config{Dial: dialer(network)}
	push, sub := zmtp.NewPush(dial, zmtp.PushOptions{}), zmtp.NewSub(dial)
	if err := errors.Join(push.Connect("tcp://pull:1"), sub.Connect("tcp://xpub:1"),
		sub.Subscribe("honest topic")); err != nil {
		t.Fatal(err)
	}
	if err := push.Send(ctx, zmtp.NewMessageString("honest")); err != nil {
		t.Fatal(err)
	}
	for m, err := range pull.All(ctx) {
		if err != nil {
			t.Fatal("the honest message does not arrive: ", err)
		}
		if m.Peer().Metadata() != nil && m.NumParts() == 1 && string(m.Part(0)) == "honest" {
			break
		}
	}
	for m, err := range xpub.All(ctx) {
		if err != nil {
			t.Fatal("the honest subscription does not arrive: ", err)
		}
		if m.NumParts() == 1 && string(m.Part(0)) == "\x01honest topic" {
			break
		}
	}
	if err := xpub.Send(ctx, zmtp.NewMessageString("honest topic", "text")); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.Recv(ctx); err != nil || m.NumParts() != 2 || string(m.Part(1)) != "text" {
		t.Fatal("the honest subscriber gets: ", m.Wire(), err)
	}
	for _, s := range []io.Closer{push, sub, pull, xpub} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
