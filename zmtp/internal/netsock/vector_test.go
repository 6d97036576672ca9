package netsock

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// connected returns both ends of a TCP connection that takes little at once.
func connected(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	other, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	a, b = conn.(*net.TCPConn), other.(*net.TCPConn)
	a.SetWriteBuffer(16 << 10)
	return a, b
}

// TestVectorWriter writes pieces of any number and size, more of them than the kernel takes with
// one call, and goes on after writes that have timed out. The reader gets the same bytes.
func TestVectorWriter(t *testing.T) {
	for name, writer := range map[string]func(net.Conn) Writer{
		"direct": NewWriter, "buffers": newBuffersWriter,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := connected(t)
			w, in := writer(a), NewReader(b)
			rapid.Check(t, func(t *rapid.T) {
				count := rapid.SampledFrom([]int{0, 1, 2, 10, 1023, 1024, 1025, 3000}).
					Draw(t, "pieces")
				size := rapid.SampledFrom([]int{0, 1, 100, 20_000}).Draw(t, "size")
				vec := make([][]byte, count)
				for i := range vec {
					n := size * (i % 3)
					if count > 10 {
						n = min(n, 200)
					}
					vec[i] = bytes.Repeat([]byte{byte(i)}, n)
				}
				want := bytes.Join(vec, nil)
				got := make(chan []byte)
				go func() {
					b := make([]byte, len(want))
					_, _ = io.ReadFull(in, b)
					got <- b
				}()
				a.SetWriteDeadline(time.Now().Add(-time.Second))
				w.Start(vec)
				for n := 0; ; {
					m, err := w.Flush()
					n += m
					if errors.Is(err, os.ErrDeadlineExceeded) {
						// The next one may write for a moment, or not at all.
						a.SetWriteDeadline(time.Now().Add(time.Millisecond))
						continue
					}
					if err != nil || n != len(want) {
						t.Fatalf("%d of %d bytes were written: %v", n, len(want), err)
					}
					break
				}
				w.End()
				if !bytes.Equal(<-got, want) {
					t.Error("the reader got other bytes")
				}
			})
		})
	}
}

// TestDirectEnds: the end of a connection is reported as package net reports it.
func TestDirectEnds(t *testing.T) {
	a, b := connected(t)
	in, w := NewReader(a), NewWriter(a)
	a.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := in.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %d, %v", n, err)
	}
	a.SetReadDeadline(time.Time{})
	b.CloseWrite()
	if n, err := in.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("at the end of file: %d, %v", n, err)
	}
	b.SetLinger(0)
	b.Close()
	var err error
	for err == nil {
		w.Start([][]byte{{1}})
		_, err = w.Flush()
	}
	if netErr := (*net.OpError)(nil); !errors.As(err, &netErr) || netErr.Op != "write" {
		t.Errorf("after a reset: %v", err)
	}
	a.Close()
	if _, err := in.Read(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the local close: %v", err)
	}
	w.Start([][]byte{{1}})
	if _, err := w.Flush(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the local close: %v", err)
	}
}
