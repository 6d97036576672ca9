package fuzz_test

import (
	"bytes"
	"strings"
	"testing"

	"zmtpd/curve"
	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zmtptest"
)

// curveKeys are the long-term keys of the recorded exchanges.
func curveKeys(tb testing.TB) (server, client curve.Secret) {
	tb.Helper()
	v, ok := zmtptest.Vectors(tb)["curve-client-dealer"]
	if !ok {
		tb.Fatal("there is no exchange curve-client-dealer")
	}
	return curve.Secret(v.Key(tb, "server-secret")), curve.Secret(v.Key(tb, "client-secret"))
}

func curveSides(tb testing.TB) (client, server func() zmtp.Mechanism) {
	tb.Helper()
	serverSecret, clientSecret := curveKeys(tb)
	c, err := curve.NewClient(serverSecret.Public(), clientSecret)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := curve.NewServer(zmtp.Auth{Open: true}, serverSecret)
	if err != nil {
		tb.Fatal(err)
	}
	s = s.WithLimiter(curve.NewLimiter(0)) // no step waits
	local := wire.Metadata{{Name: wire.PropSocketType, Value: []byte("DEALER")}}
	return func() zmtp.Mechanism { return c.Mechanism(local) },
		func() zmtp.Mechanism { return s.Mechanism(local) }
}

// curveFrames are the recorded sides without their greetings.
func curveFrames(tb testing.TB) [][]byte {
	var all [][]byte
	for _, b := range recorded(tb, func(name string, _ zmtptest.Vector) bool {
		return strings.HasPrefix(name, "curve-")
	}) {
		if len(b) > 64 {
			all = append(all, b[64:])
		}
	}
	return all
}

// eachFrame calls take with the bodies of the whole frames in b, until take returns false.
func eachFrame(b []byte, take func(body []byte) bool) {
	for {
		_, size, n, err := wire.ParseHeader(b)
		if err != nil || n == 0 || size > int64(len(b)-n) || !take(b[n:n+int(size)]) {
			return
		}
		b = b[n+int(size):]
	}
}

// A stranger without a key can at most repeat what another client has sent to the same server.
// Whatever it sends, a server sends at most WELCOME, and neither side becomes Ready.
func FuzzCurveStranger(f *testing.F) {
	addSeeds(f)
	newClient, newServer := curveSides(f)
	welcome := wire.FrameSize(168)
	f.Fuzz(func(t *testing.T, frames []byte) {
		for name, m := range map[string]zmtp.Mechanism{
			"client": newClient(), "server": newServer(),
		} {
			if _, _, err := m.Handshake(nil, nil); err != nil {
				t.Fatal(err)
			}
			var said []byte
			failed := false
			eachFrame(frames, func(body []byte) bool {
				before := len(said)
				out, progress, err := m.Handshake(said, body)
				if progress != zmtp.ProgressContinue {
					t.Fatalf("%s: progress %d", name, progress)
				}
				if failed && err == nil || err != nil && len(out) != before {
					t.Fatalf("%s: the handshake goes on after an error", name)
				}
				said, failed = out, err != nil
				return true
			})
			if name == "client" && len(said) > 0 || len(said) > welcome {
				t.Fatalf("%s: the mechanism sent % x", name, said)
			}
			for _, p := range m.Metadata() {
				t.Fatalf("%s: the property %s is accepted with value %q", name, p.Name, p.Value)
			}
		}
	})
}

// curveChanges are seeds of FuzzCurveHandshake.
func curveChanges(testing.TB) [][]byte {
	var all [][]byte
	for command := range byte(4) {
		all = append(all, []byte{command}, []byte{command, 0, 1, 1}, []byte{command, 0, 200, 0x80},
			[]byte{command, 1, 0, 1, 0, 9, 7})
	}
	return append(all, []byte{0, 0, 20, 1}, []byte{0, 0, 111, 0x80}, []byte{2, 0, 10, 255})
}

// One command of a handshake is changed on its way. The first byte of the input chooses the
// command. Each three bytes behind it are a change. If both sides become Ready, only padding was
// changed.
func FuzzCurveHandshake(f *testing.F) {
	addSeeds(f)
	newClient, newServer := curveSides(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 {
			return
		}
		sides := []zmtp.Mechanism{newClient(), newServer()}
		var cmd []byte
		var progress [2]zmtp.Progress
		changed := false
		for i := range 5 {
			out, p, err := sides[i%2].Handshake(nil, cmd)
			if err != nil {
				if !changed {
					t.Fatalf("command %d: %v", i, err)
				}
				return
			}
			progress[i%2] = p
			if i == 4 {
				break
			}
			_, _, n, err := wire.ParseHeader(out)
			if err != nil || n == 0 {
				t.Fatalf("command %d is % x, %v", i, out, err)
			}
			cmd = out[n:]
			if i == int(script[0])%4 {
				before := bytes.Clone(cmd)
				for rest := script[1:]; len(rest) >= 3; rest = rest[3:] {
					at := (int(rest[0])<<8 | int(rest[1])) % len(cmd)
					cmd[at] ^= rest[2]
				}
				if i == 0 { // the zeros of HELLO
					clear(before[8:80])
					after := bytes.Clone(cmd)
					clear(after[8:80])
					changed = !bytes.Equal(before, after)
				} else {
					changed = !bytes.Equal(before, cmd)
				}
			}
		}
		if changed || progress != [2]zmtp.Progress{zmtp.ProgressReady, zmtp.ProgressReady} {
			t.Fatalf("changed: %v, progress %v", changed, progress)
		}
	})
}
