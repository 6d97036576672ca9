package zmtptest

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// DefaultTimeout is how long a [Raw] waits for what it expects. It is long because the machine may
// be busy; only a test that fails waits for it.
const DefaultTimeout = 60 * time.Second

// maxRawFrame bounds a frame of ReadFrame, in bytes.
const maxRawFrame = 64 << 20

// A Raw is a peer without knowledge of ZMTP. It sends given bytes, and ends the test with a
// readable difference if others arrive than expected. Only the goroutine of the test may use it.
type Raw struct {
	// Conn is the connection. A test may use it beside the methods.
	Conn net.Conn
	// Timeout is the time after which a method gives up. Default DefaultTimeout.
	Timeout time.Duration

	tb testing.TB
}

// NewRaw returns a peer at this end of a connection, which it closes when the test ends.
func NewRaw(tb testing.TB, conn net.Conn) *Raw {
	tb.Cleanup(func() { conn.Close() })
	return &Raw{Conn: conn, Timeout: DefaultTimeout, tb: tb}
}

// Bytes decodes a string of hexadecimal digits and white space. It panics on anything else.
func Bytes(digits string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
	if err != nil {
		panic("zmtptest: not hexadecimal digits: " + err.Error())
	}
	return b
}

// Send writes b.
func (r *Raw) Send(b []byte) {
	r.tb.Helper()
	r.Conn.SetWriteDeadline(time.Now().Add(r.Timeout))
	if n, err := r.Conn.Write(b); err != nil {
		r.tb.Fatalf("after %d of %d bytes were sent: %v", n, len(b), err)
	}
}

// SendHex writes the bytes that the digits stand for. See [Bytes].
func (r *Raw) SendHex(digits string) {
	r.tb.Helper()
	r.Send(Bytes(digits))
}

// Expect reads len(want) bytes, which must be equal to want.
func (r *Raw) Expect(want []byte) {
	r.tb.Helper()
	got := make([]byte, len(want))
	r.Conn.SetReadDeadline(time.Now().Add(r.Timeout))
	n, err := io.ReadFull(r.Conn, got)
	if diff := Diff(got[:n], want); diff != "" {
		if err != nil {
			r.tb.Fatalf("%v\n%s", err, diff)
		}
		r.tb.Fatal(diff)
	}
}

// ExpectHex is Expect of the bytes that the digits stand for. See [Bytes].
func (r *Raw) ExpectHex(digits string) {
	r.tb.Helper()
	r.Expect(Bytes(digits))
}

// ExpectClose waits until the other end closes or resets the connection. No byte may come before
// that.
func (r *Raw) ExpectClose() {
	r.tb.Helper()
	r.Conn.SetReadDeadline(time.Now().Add(r.Timeout))
	got, err := io.ReadAll(io.LimitReader(r.Conn, 4096))
	if len(got) > 0 {
		r.tb.Fatalf("expected a close, received\n%s", strings.TrimSuffix(hex.Dump(got), "\n"))
	}
	// Any other error is a reset. Its name depends on the system.
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		r.tb.Fatalf("expected a close: %v", err)
	}
}

// ExpectSilence checks that nothing comes for the time d and that the connection stays open.
func (r *Raw) ExpectSilence(d time.Duration) {
	r.tb.Helper()
	r.Conn.SetReadDeadline(time.Now().Add(d))
	got := make([]byte, 4096)
	n, err := r.Conn.Read(got)
	if n > 0 {
		r.tb.Fatalf("expected silence, received\n%s", strings.TrimSuffix(hex.Dump(got[:n]), "\n"))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		r.tb.Fatalf("expected silence: %v", err)
	}
}

// ReadFrame reads one frame of ZMTP 2.0 or later (RFC 37, "Framing").
func (r *Raw) ReadFrame() (flags byte, body []byte) {
	r.tb.Helper()
	r.Conn.SetReadDeadline(time.Now().Add(r.Timeout))
	var header [9]byte
	read := func(b []byte, what string) {
		if n, err := io.ReadFull(r.Conn, b); err != nil {
			r.tb.Helper()
			r.tb.Fatalf("%s of a frame: %d of %d bytes, then %v", what, n, len(b), err)
		}
	}
	read(header[:2], "flags and length")
	size := uint64(header[1])
	if flags = header[0]; flags&0x02 != 0 {
		read(header[2:], "long length")
		size = binary.BigEndian.Uint64(header[1:])
	}
	if size > maxRawFrame {
		r.tb.Fatalf("a frame announces %d bytes: % x", size, header)
	}
	body = make([]byte, size)
	read(body, "body")
	return flags, body
}

// Diff describes the first difference between two byte strings, in lines of 16 bytes. It is empty
// if they are equal.
func Diff(got, want []byte) string {
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	if at == len(got) && at == len(want) {
		return ""
	}
	var s strings.Builder
	fmt.Fprintf(&s, "received %d bytes, expected %d, the first difference is at offset %d (0x%x)\n",
		len(got), len(want), at, at)
	// One line before the difference, and at most eight from there on.
	start := max(at/16-1, 0) * 16
	end := min(at/16*16+8*16, max(len(got), len(want)))
	for off := start; off < end; off += 16 {
		g, w := line(got, off), line(want, off)
		if g == w {
			fmt.Fprintf(&s, "  %06x  %s\n", off, g)
			continue
		}
		fmt.Fprintf(&s, "- %06x  %s\n+ %06x  %s\n", off, w, off, g)
	}
	if end < max(len(got), len(want)) {
		s.WriteString("  ...\n")
	}
	s.WriteString("  (- expected, + received)")
	return s.String()
}

// line renders up to 16 bytes of b from off on.
func line(b []byte, off int) string {
	if off >= len(b) {
		return "(end)"
	}
	b = b[off:min(off+16, len(b))]
	text := []byte(string(b))
	for i, c := range text {
		if c < ' ' || c > '~' {
			text[i] = '.'
		}
	}
	return fmt.Sprintf("%-47s  |%s|", fmt.Sprintf("% x", b), text)
}
