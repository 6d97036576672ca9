package zmtptest

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeTB catches the failure of a Raw.
type fakeTB struct {
	testing.TB
	message string
	cleanup []func()
}

func (f *fakeTB) Helper()          {}
func (f *fakeTB) Cleanup(c func()) { f.cleanup = append(f.cleanup, c) }
func (f *fakeTB) Fatal(args ...any) {
	f.message = fmt.Sprint(args...)
	runtime.Goexit()
}
func (f *fakeTB) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// failure runs a script and returns what it failed with, "" if it did not.
func failure(conn net.Conn, script func(*Raw)) string {
	f := new(fakeTB)
	done := make(chan struct{})
	go func() {
		defer close(done)
		script(NewRaw(f, conn))
	}()
	<-done
	for _, c := range f.cleanup {
		c()
	}
	return f.message
}

func TestRaw(t *testing.T) {
	for _, tt := range []struct {
		name   string
		peer   func(net.Conn)
		script func(*Raw)
		want   string // part of the failure, none if empty
	}{
		{"send", func(c net.Conn) {
			got := make([]byte, 3)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "\x01\x02\xff" {
				t.Errorf("received % x, %v", got, err)
			}
		}, func(r *Raw) { r.SendHex("01 02 ff") }, ""},
		{"send to a closed end", func(c net.Conn) { c.Close() },
			func(r *Raw) { synctest.Wait(); r.SendHex("01") }, "0 of 1 bytes"},
		{"expect", func(c net.Conn) { c.Write([]byte("ab")) },
			func(r *Raw) { r.ExpectHex("61 62"); r.ExpectSilence(1) }, ""},
		{"expect another byte", func(c net.Conn) { c.Write([]byte("ac")) },
			func(r *Raw) { r.ExpectHex("61 62") }, "offset 1 (0x1)"},
		{"expect more", func(c net.Conn) { c.Write([]byte("a")) },
			func(r *Raw) { r.ExpectHex("61 62") }, "timeout"},
		{"expect, closed", func(c net.Conn) { c.Write([]byte("a")); c.Close() },
			func(r *Raw) { r.ExpectHex("61 62") }, "unexpected EOF"},
		{"close", func(c net.Conn) { c.Close() }, func(r *Raw) { r.ExpectClose() }, ""},
		{"close by reset", func(c net.Conn) { c.(*Conn).Cut() }, func(r *Raw) { r.ExpectClose() },
			""},
		{"close, silence", func(net.Conn) {}, func(r *Raw) { r.ExpectClose() }, "timeout"},
		{"close, byte", func(c net.Conn) { c.Write([]byte("a")); c.Close() },
			func(r *Raw) { r.ExpectClose() }, "61"},
		{"silence", func(net.Conn) {}, func(r *Raw) { r.ExpectSilence(time.Hour) }, ""},
		{"silence, byte", func(c net.Conn) { c.Write([]byte("a")) },
			func(r *Raw) { r.ExpectSilence(time.Hour) }, "61"},
		{"silence, close", func(c net.Conn) { c.Close() },
			func(r *Raw) { r.ExpectSilence(time.Hour) }, "EOF"},
		{"frame", func(c net.Conn) { c.Write(Bytes("01 02 6162 06 0000000000000001 63")) },
			func(r *Raw) {
				if flags, body := r.ReadFrame(); flags != 1 || string(body) != "ab" {
					t.Errorf("frame %x %q", flags, body)
				}
				if flags, body := r.ReadFrame(); flags != 6 || string(body) != "c" {
					t.Errorf("frame %x %q", flags, body)
				}
			}, ""},
		{"half a frame", func(c net.Conn) { c.Write(Bytes("00 02 61")); c.Close() },
			func(r *Raw) { r.ReadFrame() }, "1 of 2 bytes"},
		{"frame of all memory", func(c net.Conn) { c.Write(Bytes("02 7fffffffffffffff")) },
			func(r *Raw) { r.ReadFrame() }, "announces"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := Pipe(0)
				go tt.peer(a)
				got := failure(b, tt.script)
				if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
					t.Errorf("failed with %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestDiff(t *testing.T) {
	want := []byte(strings.Repeat("0123456789abcdef", 20))
	got := []byte(string(want))
	if d := Diff(got, want); d != "" {
		t.Errorf("equal, but\n%s", d)
	}
	got[40] = 0
	const expected = `received 320 bytes, expected 320, the first difference is at offset 40 (0x28)
  000010  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  |0123456789abcdef|
- 000020  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  |0123456789abcdef|
+ 000020  30 31 32 33 34 35 36 37 00 39 61 62 63 64 65 66  |01234567.9abcdef|
  000030`
	if d := Diff(got, want); !strings.HasPrefix(d, expected) || !strings.Contains(d, "...") {
		t.Errorf("got\n%s\nwant\n%s", d, expected)
	}
	if d := Diff(want[:16], want[:17]); !strings.Contains(d, "+ 000010  (end)") ||
		!strings.Contains(d, "- 000010  30 ") {
		t.Errorf("got\n%s", d)
	}
	if Diff(nil, []byte{1}) == "" || Diff([]byte{1}, nil) == "" {
		t.Error("one of them is empty, and no difference")
	}
}
