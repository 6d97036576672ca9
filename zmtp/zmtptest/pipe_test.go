package zmtptest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	var op *net.OpError
	if err != io.EOF && !errors.As(err, &op) {
		t.Errorf("%s: %T is not a *net.OpError", what, err)
	}
}

func mustWrite(t *testing.T, c net.Conn, b string) {
	t.Helper()
	if n, err := c.Write([]byte(b)); n != len(b) || err != nil {
		t.Fatalf("Write: %d of %d, %v", n, len(b), err)
	}
}

func TestPipeHoldsSoManyBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(4)
		mustWrite(t, a, "1234")
		mustWrite(t, b, "abcd") // the directions have a buffer each
		done := make(chan error)
		go func() {
			_, err := a.Write([]byte("5678901"))
			done <- err
		}()
		synctest.Wait()
		if n := b.Buffered(); n != 4 {
			t.Errorf("%d bytes in a buffer of 4", n)
		}
		got := make([]byte, 11)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "12345678901" {
			t.Errorf("read %q, %v", got, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPipeClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(0)
		mustWrite(t, a, "last words")
		blocked := make(chan error)
		go func() {
			_, err := a.Read(make([]byte, 1))
			blocked <- err
		}()
		synctest.Wait()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, "Read that was waiting at Close", <-blocked, net.ErrClosed)
		wantError(t, "second Close", a.Close(), net.ErrClosed)
		_, err := a.Read(make([]byte, 1))
		wantError(t, "Read after Close", err, net.ErrClosed)
		_, err = a.Write([]byte("x"))
		wantError(t, "Write after Close", err, net.ErrClosed)
		wantError(t, "deadline after Close", a.SetDeadline(time.Now()), net.ErrClosed)
		_, err = b.Write([]byte("x"))
		wantError(t, "Write to a closed end", err, syscall.EPIPE)
		if got, err := io.ReadAll(b); err != nil || string(got) != "last words" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestPipeCloseWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(4)
		var n int
		done := make(chan error)
		go func() {
			var err error
			n, err = a.Write([]byte("123456"))
			done <- err
		}()
		synctest.Wait()
		b.Close()
		wantError(t, "Write", <-done, syscall.EPIPE)
		if n != 4 {
			t.Errorf("%d bytes were written, want 4", n)
		}
	})
}

func TestPipeHalfClose(t *testing.T) {
	a, b := Pipe(0)
	mustWrite(t, a, "question")
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, err := a.Write([]byte("x"))
	wantError(t, "Write after CloseWrite", err, syscall.EPIPE)
	if got, err := io.ReadAll(b); err != nil || string(got) != "question" {
		t.Errorf("read %q, %v", got, err)
	}
	mustWrite(t, b, "answer")
	b.Close()
	if got, err := io.ReadAll(a); err != nil || string(got) != "answer" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(4)
		start := time.Now()
		a.SetReadDeadline(start.Add(time.Minute))
		a.SetWriteDeadline(start.Add(2 * time.Minute))
		_, err := a.Read(make([]byte, 1))
		wantError(t, "Read", err, os.ErrDeadlineExceeded)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("Read timed out after %v", d)
		}
		n, err := a.Write([]byte("123456"))
		wantError(t, "Write", err, os.ErrDeadlineExceeded)
		if d := time.Since(start); n != 4 || d != 2*time.Minute {
			t.Errorf("Write timed out after %v and %d bytes", d, n)
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Error("it does not say that it is a timeout")
		}

		// A deadline in the past ends what waits, and can be taken back.
		a.SetDeadline(time.Time{})
		done := make(chan error)
		go func() {
			_, err := a.Read(make([]byte, 1))
			done <- err
		}()
		synctest.Wait()
		a.SetDeadline(time.Unix(1, 0))
		wantError(t, "Read", <-done, os.ErrDeadlineExceeded)
		a.SetDeadline(time.Time{})
		mustWrite(t, b, "x")
		if _, err := a.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}

		// One that is moved does not fire at the old time.
		a.SetReadDeadline(time.Now().Add(time.Second))
		a.SetReadDeadline(time.Now().Add(time.Hour))
		start = time.Now()
		_, err = a.Read(make([]byte, 1))
		wantError(t, "Read", err, os.ErrDeadlineExceeded)
		if d := time.Since(start); d != time.Hour {
			t.Errorf("Read timed out after %v", d)
		}
	})
}

func TestPipeStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(4)
		b.Stall(true)
		mustWrite(t, a, "1234")
		a.SetWriteDeadline(time.Now().Add(time.Second))
		_, err := a.Write([]byte("5"))
		wantError(t, "Write to a stalled end", err, os.ErrDeadlineExceeded)
		b.SetReadDeadline(time.Now().Add(time.Second))
		_, err = b.Read(make([]byte, 9))
		wantError(t, "Read at a stalled end", err, os.ErrDeadlineExceeded)
		mustWrite(t, b, "back") // the other direction goes on
		a.Close()
		b.Stall(false)
		b.SetReadDeadline(time.Time{})
		if got, err := io.ReadAll(b); err != nil || string(got) != "1234" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestPipeCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(0)
		mustWrite(t, a, "lost")
		done := make(chan error)
		go func() {
			_, err := a.Read(make([]byte, 1))
			done <- err
		}()
		synctest.Wait()
		b.Cut()
		wantError(t, "Read that was waiting", <-done, syscall.ECONNRESET)
		for _, c := range []net.Conn{a, b} {
			_, err := c.Read(make([]byte, 9))
			wantError(t, "Read", err, syscall.ECONNRESET)
			_, err = c.Write([]byte("x"))
			wantError(t, "Write", err, syscall.ECONNRESET)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		ctx := t.Context()
		_, err := n.Dial(ctx, "127.0.0.1:5555")
		wantError(t, "Dial before Listen", err, syscall.ECONNREFUSED)
		l, err := n.Listen("127.0.0.1:5555")
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.Listen("127.0.0.1:5555")
		wantError(t, "second Listen", err, syscall.EADDRINUSE)
		free, err := n.Listen("127.0.0.1:0")
		if err != nil || free.Addr().String() == "127.0.0.1:0" {
			t.Fatalf("Listen at a free port: %v, %v", free.Addr(), err)
		}

		client, err := n.Dial(ctx, "127.0.0.1:5555")
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, client, "before Accept")
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 13)
		if _, err := io.ReadFull(server, got); err != nil || string(got) != "before Accept" {
			t.Errorf("read %q, %v", got, err)
		}
		if client.RemoteAddr() != l.Addr() || server.RemoteAddr() != client.LocalAddr() {
			t.Error("the addresses of the ends do not meet")
		}
		if c := n.Conns("127.0.0.1:5555"); len(c) != 1 || c[0] != server || c[0].Peer() != client {
			t.Errorf("Conns: %v", c)
		}

		waiting, err := n.Dial(ctx, "127.0.0.1:5555")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := free.Accept()
			done <- err
		}()
		synctest.Wait()
		free.Close()
		wantError(t, "Accept that was waiting", <-done, net.ErrClosed)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		_, err = waiting.Read(make([]byte, 1))
		wantError(t, "Read from a listener that closed", err, syscall.ECONNRESET)
		mustWrite(t, server, "still there")
		_, err = n.Dial(ctx, "127.0.0.1:5555")
		wantError(t, "Dial after Close", err, syscall.ECONNREFUSED)
		client.Close()
		server.Close()
		waiting.Close()
		if c := n.Conns("127.0.0.1:5555"); len(c) != 0 {
			t.Errorf("closed connections are listed: %v", c)
		}
		if l, err = n.Listen("127.0.0.1:5555"); err != nil {
			t.Errorf("Listen again: %v", err)
		}
		l.Close()
	})
}

func TestDialWaitsForRoomOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		l, err := n.Listen("server")
		if err != nil {
			t.Fatal(err)
		}
		for range backlog {
			if _, err := n.Dial(t.Context(), "server"); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.Dial(ctx, "server")
		wantError(t, "Dial", err, context.DeadlineExceeded)
		if got := len(n.Conns("server")); got != backlog {
			t.Errorf("%d connections, want %d", got, backlog)
		}
		done := make(chan error)
		go func() {
			_, err := n.Dial(t.Context(), "server")
			done <- err
		}()
		synctest.Wait()
		l.Close()
		if err := <-done; err != nil {
			wantError(t, "Dial", err, syscall.ECONNREFUSED)
		}
		for _, c := range n.Conns("server") {
			if _, err := c.Peer().Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("a connection outlived its listener: %v", err)
			}
		}
	})
}

func TestPipeInParallel(t *testing.T) {
	a, b := Pipe(100)
	want := bytes.Repeat([]byte("0123456789"), 10_000)
	go func() {
		a.Write(want)
		a.CloseWrite()
	}()
	go io.Copy(b, b)
	go func() {
		// The echo ends when a has closed; until then both directions are busy.
		for range 100 {
			a.SetReadDeadline(time.Now().Add(time.Minute))
			b.SetWriteDeadline(time.Now().Add(time.Minute))
		}
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(a, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the echo of %d bytes differs: %v", len(want), err)
	}
	a.Close()
	b.Close()
}
