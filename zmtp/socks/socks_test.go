package socks

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// socksProxy is a SOCKS5 proxy (RFC 1928) that wants a password and knows one name.
type socksProxy struct {
	user, password string
	name           string // is 127.0.0.1
}

// serve runs the proxy until the test ends and returns its address.
func (p socksProxy) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer conn.Close()
				if err := p.handle(conn); err != nil {
					t.Logf("the proxy: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		done.Wait()
	})
	return l.Addr().String()
}

// handle connects a client to its target, and passes bytes on until both ends are closed.
func (p socksProxy) handle(conn net.Conn) error {
	field := func() (string, error) {
		var n [1]byte
		if _, err := io.ReadFull(conn, n[:]); err != nil {
			return "", err
		}
		b := make([]byte, n[0])
		_, err := io.ReadFull(conn, b)
		return string(b), err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(conn, head[:1]); err != nil {
		return err
	}
	if _, err := field(); err != nil { // the methods; this proxy has one
		return err
	}
	conn.Write([]byte{5, 2})
	if _, err := io.ReadFull(conn, head[:1]); err != nil {
		return err
	}
	user, err := field()
	if err != nil {
		return err
	}
	password, err := field()
	if err != nil || user != p.user || password != p.password {
		conn.Write([]byte{1, 1})
		return fmt.Errorf("user %q refused, %v", user, err)
	}
	conn.Write([]byte{1, 0})
	if _, err := io.ReadFull(conn, head); err != nil {
		return err
	}
	name, err := field()
	port := make([]byte, 2)
	if _, perr := io.ReadFull(conn, port); perr != nil || err != nil || head[3] != 3 ||
		name != p.name {
		conn.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
		return fmt.Errorf("no name that is known: %q of type %d, %v, %v", name, head[3], err, perr)
	}
	target, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", binary.BigEndian.Uint16(port)))
	if err != nil {
		return err
	}
	defer target.Close()
	conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{conn, target}, {target, conn}} {
		both.Go(func() {
			io.Copy(way[0], way[1])
			way[0].(*net.TCPConn).CloseWrite()
		})
	}
	both.Wait()
	return nil
}

// through sends messages from a PUSH behind the proxy, whose Shutdown delivers all of them.
func through(t *testing.T, d *Dialer, host string) {
	t.Helper()
	pull := zmtp.NewPull(zmtp.Config{})
	defer pull.Close()
	bound, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(bound, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	push := zmtp.NewPush(zmtp.Config{Dial: d.Dial, ReconnectInterval: time.Millisecond})
	defer push.Close()
	if err := push.Connect("tcp://" + host + ":" + port); err != nil {
		t.Fatal(err)
	}
	const count = 100
	for i := range count {
		if err := push.Send(testkit.Context(t), zmtp.NewMessageString(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	if err := push.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if m, err := pull.Recv(ctx); err != nil || string(m.Part(0)) != fmt.Sprint(i) {
			t.Fatalf("received %v, %v; want %d", m, err, i)
		}
	}
}

// A connection goes through a proxy that asks for a password and resolves the name (libzmq,
// test_socks).
func TestPassword(t *testing.T) {
	p := socksProxy{"user", "secret", "only.the.proxy.knows"}
	address := p.serve(t)
	through(t, &Dialer{Proxy: address, User: "user", Password: "secret"}, p.name)
	for want, d := range map[string]*Dialer{
		"refused user \"user\" or the password": {Proxy: address, User: "user", Password: "wrong"},
		"not offered":                           {Proxy: address},
	} {
		if _, err := d.Dial(t.Context(), "tcp", p.name+":1"); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	d := &Dialer{Proxy: address, User: "user", Password: "secret"}
	if _, err := d.Dial(t.Context(), "tcp", "other:1"); err == nil ||
		!strings.Contains(err.Error(), "host unreachable") {
		t.Errorf("an unknown name: %v", err)
	}
}

// A proxy of others works too.
func TestMicrosocks(t *testing.T) {
	program, err := exec.LookPath("microsocks")
	if err != nil {
		t.Skipf("%v; on Debian: apt-get install microsocks", err)
	}
	port := fmt.Sprint(testkit.ReservePort(t))
	cmd := exec.Command(program, "-i", "127.0.0.1", "-p", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	through(t, &Dialer{Proxy: "127.0.0.1:" + port}, "127.0.0.1")
}

// Answers of a proxy that are no SOCKS5 or not complete are errors, and so is silence.
func TestAnswers(t *testing.T) {
	for answer, want := range map[string]string{
		"\x04\x00":                      "version 4",
		"\x05\xff":                      "another way to log in",
		"\x05\x02":                      "not offered",
		"\x05":                          "unexpected EOF",
		"\x05\x00\x05\x05\x00\x01":      "connection refused",
		"\x05\x00\x05\x63\x00\x01":      "error 99",
		"\x05\x00\x04\x00\x00\x01":      "version 4",
		"\x05\x00\x05\x00\x00\x09":      "address of type 9",
		"\x05\x00\x05\x00\x00\x03\xffx": "EOF",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, answer)
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
		}()
		d := &Dialer{Proxy: l.Addr().String()}
		if _, err := d.Dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", answer, err, want)
		}
		testkit.Done(t, "the end of the proxy", done)
		l.Close()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := (&Dialer{Proxy: l.Addr().String()}).Dial(ctx, "tcp", "127.0.0.1:1"); err == nil {
		t.Error("a silent proxy was waited for")
	}
}

// Requests have the address in its shortest form; what cannot be sent is refused.
func TestRequests(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:80":          "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
		"[::ffff:127.0.0.1]:80": "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
		"[::1]:256":             "\x05\x01\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x01\x00",
		"host:1":                "\x05\x01\x00\x03\x04host\x00\x01",
	} {
		if got, err := appendRequest(nil, address); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
	for _, address := range []string{"host", "host:x", "host:65536",
		strings.Repeat("h", 256) + ":1"} {
		if _, err := appendRequest(nil, address); err == nil {
			t.Errorf("%.10s was taken", address)
		}
	}
	if _, err := new(Dialer).Dial(t.Context(), "unix", "/path"); err == nil {
		t.Error("a path was taken")
	}
}
