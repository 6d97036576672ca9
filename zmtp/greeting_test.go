package zmtp

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// A socket sends each step of its greeting as soon as the peer's bytes allow it, as libzmq does.
func TestGreetingInSteps(t *testing.T) {
	greeting := wire.AppendGreeting(nil, "NULL", false)
	bubble(t, func(t *testing.T, n *zmtptest.Network) {
		pull := NewPull(Config{})
		defer closeNow(t, pull)
		bind(t, n, pull.Socket, addr)
		r := dialRaw(t, n, addr)
		end := r.Conn.(*zmtptest.Conn)
		due := map[int][]byte{
			0:                      greeting[:wire.SignatureSize],
			wire.SignatureSize:     greeting[wire.SignatureSize : wire.SignatureSize+1],
			wire.SignatureSize + 1: greeting[wire.SignatureSize+1:],
			wire.GreetingSize:      ready(wire.PULL),
		}
		for sent := 0; ; sent++ {
			synctest.Wait()
			r.Expect(due[sent])
			if left := end.Buffered(); left > 0 {
				t.Fatalf("after %d bytes of the peer: %d bytes too many", sent, left)
			}
			if sent == wire.GreetingSize {
				break
			}
			r.Send(greeting[sent : sent+1])
		}
		r.Send(ready(wire.PUSH))
		alive(r)
	})
}

// The log names the version of a peer that is too old, and tells what to do. The peer must receive
// no more than our version: JeroMQ 0.3.6 closes on the rest of a 3.x greeting, before it has sent
// its own.
func TestOldPeerIsRefusedByName(t *testing.T) {
	signature := signature()
	for name, c := range map[string]struct {
		says    []byte
		version string
	}{
		"libzmq 2.1, no identity":       {[]byte{1, 0}, "ZMTP 1.0"},
		"libzmq 2.1, identity":          {[]byte("\x07\x00worker"), "ZMTP 1.0"},
		"ZMTP 1.0, versioned greeting":  {append(bytes.Clone(signature), 0), "ZMTP 1.0"},
		"libzmq 3.2, PUSH":              {append(bytes.Clone(signature), 1, 8), "ZMTP 2.0"},
		"libzmq 3.2, PUSH and identity": {append(bytes.Clone(signature), 1, 8, 0, 0), "ZMTP 2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *zmtptest.Network) {
				var log bytes.Buffer
				pull := NewPull(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				defer closeNow(t, pull)
				bind(t, n, pull.Socket, addr)
				r := dialRaw(t, n, addr)
				r.Expect(signature)
				head := min(wire.SignatureSize, len(c.says)-1)
				r.Send(c.says[:head])
				if head == wire.SignatureSize {
					r.Expect([]byte{3}) // libzmq's answer to a signature, and nothing behind it
				}
				r.Send(c.says[head:])
				r.ExpectClose()
				synctest.Wait()
				if st := pull.Stats(); st.HandshakeFailures[wire.UnsupportedVersion] != 1 {
					t.Errorf("failures %v", st.HandshakeFailures)
				}
				for _, want := range []string{"level=WARN", "reason=unsupported_version", c.version, "update its ZeroMQ library"} {
					if !strings.Contains(log.String(), want) {
						t.Errorf("the log does not contain %q:\n%s", want, &log)
					}
				}
			})
		})
	}
}
