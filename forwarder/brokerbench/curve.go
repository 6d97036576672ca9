package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// keys are the keys of a CURVE broker and of its clients.
type keys struct {
	server *curve.Client // how clients see the broker
	secret curve.Secret  // of the broker
	client curve.Key
	file   string // certificate of the broker
}

func newKeys(dir string) (*keys, error) {
	public, secret := curve.GenerateKeyPair()
	clientPublic, clientSecret := curve.GenerateKeyPair()
	client, err := curve.NewClient(public, clientSecret)
	if err != nil {
		return nil, err
	}
	k := &keys{client, secret, clientPublic, filepath.Join(dir, "broker.key")}
	c := curve.Certificate{Public: public, Secret: &secret}
	return k, c.WriteFiles(k.file, time.Now())
}

// environment returns the environment that gives libzmq's proxy its key.
func (k *keys) environment() []string {
	if k == nil {
		return nil
	}
	return append(os.Environ(), "CURVE_SECRETKEY="+k.secret.Text())
}

// flags returns the flags that give zmtpd its keys.
func (k *keys) flags() []string {
	if k == nil {
		return nil
	}
	return []string{"--curve-secret-key-file", k.file + "_secret", "--curve-client-key", "load=" +
		k.client.String()}
}

// wireSize returns the size of messages on the wire.
func (g *generator) wireSize(messages []byte) int {
	if !g.handshake || g.keys == nil {
		return len(messages)
	}
	size := 0
	for len(messages) > 0 {
		_, body, n, err := wire.ParseHeader(messages)
		if err != nil {
			panic(err) // they are ours
		}
		messages = messages[n+int(body):]
		size += wire.FrameSize(int(body) + 33)
	}
	return size
}

// curveConn is a connection behind its handshake. Write encrypts, Read decrypts.
type curveConn struct {
	net.Conn
	sealer             zmtp.Sealer
	opener             zmtp.Opener
	out, in, plaintext []byte
}

// plainConn returns the connection below: to count bytes it need not decrypt them.
func plainConn(c net.Conn) net.Conn {
	if s, ok := c.(*curveConn); ok {
		return s.Conn
	}
	return c
}

// dial does the handshake.
func (k *keys) dial(c net.Conn, socketType string) (net.Conn, error) {
	m := k.server.Mechanism(wire.Metadata{{Name: wire.PropSocketType, Value: []byte(socketType)}})
	if _, err := c.Write(wire.AppendGreeting(nil, "CURVE", false)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, make([]byte, wire.GreetingSize)); err != nil {
		return nil, err
	}
	var cmd []byte
	for {
		out, progress, err := m.Handshake(nil, cmd)
		if err != nil {
			return nil, err
		}
		if progress == zmtp.ProgressReady {
			s := &curveConn{Conn: c}
			s.sealer, s.opener = m.Traffic()
			return s, nil
		}
		if _, err := c.Write(out); err != nil {
			return nil, err
		}
		var head [2]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return nil, fmt.Errorf("CURVE handshake: %w", err)
		}
		cmd = make([]byte, head[1])
		if _, err := io.ReadFull(c, cmd); err != nil {
			return nil, err
		}
	}
}

// Write encrypts whole frames.
func (c *curveConn) Write(frames []byte) (int, error) {
	c.out = c.sealer.Seal(c.out[:0], frames)
	if _, err := c.Conn.Write(c.out); err != nil {
		return 0, err
	}
	return len(frames), nil
}

// Read returns the content of the frames that have arrived whole.
func (c *curveConn) Read(b []byte) (int, error) {
	for len(c.plaintext) == 0 {
		buf := make([]byte, 4096)
		n, err := c.Conn.Read(buf)
		if err != nil {
			return 0, err
		}
		c.in = append(c.in, buf[:n]...)
		whole := 0
		for {
			_, size, head, err := wire.ParseHeader(c.in[whole:])
			if err != nil {
				return 0, err
			}
			if head == 0 || len(c.in)-whole-head < int(size) {
				break
			}
			whole += head + int(size)
		}
		if c.plaintext, err = c.opener.Open(nil, c.in[:whole]); err != nil {
			return 0, err
		}
		c.in = append(c.in[:0], c.in[whole:]...)
	}
	n := copy(b, c.plaintext)
	c.plaintext = c.plaintext[n:]
	return n, nil
}
