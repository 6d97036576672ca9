package capture

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp"
)

// chunk is what one read of a relay got.
type chunk struct {
	up bool
	b  []byte
}

// relay passes one connection on to a server and returns where it listens. recorded waits for the
// end of the connection and returns what went through.
func relay(t *testing.T, server string) (address string, recorded func() []chunk) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var chunks []chunk
	var mu sync.Mutex
	done := make(chan struct{})
	go func() {
		defer close(done)
		client, err := ln.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		defer server.Close()
		var wait sync.WaitGroup
		for _, up := range []bool{true, false} {
			from, to := client, server
			if !up {
				from, to = server, client
			}
			wait.Go(func() {
				for b := make([]byte, 1400); ; {
					n, err := from.Read(b)
					mu.Lock()
					chunks = append(chunks, chunk{up, bytes.Clone(b[:n])})
					mu.Unlock()
					if _, e := to.Write(b[:n]); err != nil || e != nil {
						from.Close()
						to.Close()
						return
					}
				}
			})
		}
		wait.Wait()
	}()
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String(), func() []chunk {
		ln.Close()
		<-done
		return chunks
	}
}

// chunksFile makes a capture of what went through a relay.
func chunksFile(t *testing.T, chunks []chunk) []byte {
	segments, ups, downs := opening(), 0, 0
	for _, c := range chunks {
		if c.up {
			segments = append(segments, up(ups, c.b))
			ups += len(c.b)
		} else {
			segments = append(segments, down(downs, c.b))
			downs += len(c.b)
		}
	}
	return file(t, segments...)
}

// pushEncrypted pushes messages over CURVE and returns the capture of it. The key logs of both
// sides may be nil; path is their file.
func pushEncrypted(t *testing.T, path string, client, server *curve.KeyLog,
	messages ...string) []byte {
	t.Helper()
	serverKey, serverSecret := curve.GenerateKeyPair()
	_, clientSecret := curve.GenerateKeyPair()
	s, err := curve.NewServer(zmtp.Auth{Open: true}, serverSecret)
	if err != nil {
		t.Fatal(err)
	}
	c, err := curve.NewClient(serverKey, clientSecret)
	if err != nil {
		t.Fatal(err)
	}
	pull := zmtp.NewPull(zmtp.Config{Mechanism: s.WithKeyLog(server).Mechanism})
	defer pull.Close()
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	address, recorded := relay(t, strings.TrimPrefix(endpoint, "tcp://"))
	push := zmtp.NewPush(zmtp.Config{Mechanism: c.WithKeyLog(client).Mechanism}, zmtp.PushOptions{})
	defer push.Close()
	if err := push.Connect("tcp://" + address); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, m := range messages {
		if err := push.Send(ctx, zmtp.NewMessageString("log-write", m)); err != nil {
			t.Fatal(err)
		}
	}
	for range messages {
		if _, err := pull.Recv(ctx); err != nil {
			t.Fatal(err)
		}
	}
	push.Close()
	for _, secret := range []curve.Secret{serverSecret, clientSecret} {
		for _, form := range []string{secret.Text(), hex.EncodeToString(secret[:])} {
			if strings.Contains(logText(t, path), form) {
				t.Error("the key log has a long-term secret key")
			}
		}
	}
	return chunksFile(t, recorded())
}

func logText(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// With the key log of either side everything is decrypted, and without it nothing is.
func TestDecrypt(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	messages := []string{"one", long, "", "three"}
	want := []string{"5557 metadata client Socket-Type=PUSH",
		"5557 metadata server Socket-Type=PULL"}
	for _, m := range messages {
		want = append(want, line(Event{Kind: Message, From: Client, Session: &Session{
			Server: serverEnd}, Message: zmtp.NewMessageString("log-write", m)}))
	}
	path := filepath.Join(t.TempDir(), "keys")
	var files [][]byte
	for _, side := range []string{"client", "server"} {
		l, err := curve.CreateKeyLog(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if side == "client" {
			files = append(files, pushEncrypted(t, path, l, nil, messages...))
		} else {
			files = append(files, pushEncrypted(t, path, nil, l, messages...))
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	files = append(files, pushEncrypted(t, path, nil, nil, messages...))
	keys, err := curve.OpenKeyLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	for i, file := range files {
		var got []string
		sealed := 0
		for _, ev := range mustRead(t, file, Options{Keys: keys}) {
			switch ev.Kind {
			case Message, Metadata:
				got = append(got, line(ev))
			case Encrypted:
				sealed++
			case Problem, Gap:
				t.Errorf("%s", line(ev))
			}
		}
		if i == len(files)-1 {
			if len(got) > 0 || sealed != 2*len(messages) {
				t.Errorf("without a key there are %d frames and %q", sealed, got)
			}
			continue
		}
		slices.Sort(got[:min(2, len(got))])
		diff(t, got, want)
		if sealed > 0 {
			t.Errorf("%d frames were not decrypted", sealed)
		}
	}
	if !strings.HasPrefix(logText(t, path), "CURVE_SHARED ") {
		t.Errorf("%.100q", logText(t, path))
	}
}

// Behind a gap decryption goes on: with the message after the one that is not whole.
func TestDecryptBehindGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	l, err := curve.CreateKeyLog(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var messages []string
	for i := range 300 {
		messages = append(messages, fmt.Sprintf("%d %s", i, strings.Repeat("x", 100)))
	}
	packets := packetsOf(t, pushEncrypted(t, path, l, nil, messages...))
	keys, err := curve.OpenKeyLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	for missing := len(packets) / 2; missing < len(packets)-2; missing += 3 {
		cut := slices.Delete(slices.Clone(packets), missing, missing+2)
		got, next := 0, 0
		for _, ev := range mustRead(t, pcapFile(t, 1, cut...), Options{Keys: keys}) {
			if ev.Kind != Message {
				continue
			}
			i := slices.Index(messages[next:], string(ev.Message.Part(1)))
			if i < 0 || string(ev.Message.Part(0)) != "log-write" {
				t.Fatalf("%s was not sent", line(ev))
			}
			got, next = got+1, next+i+1
		}
		if got < len(messages)-60 {
			t.Errorf("only %d of %d messages", got, len(messages))
		}
	}
}

// A file that is no key log, and one that others can read, are refused.
func TestKeyLogRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("something else\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := curve.CreateKeyLog(path, nil); err == nil ||
		!strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("%v", err)
	}
	if _, err := curve.OpenKeyLog(path); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}
