package curve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
	"zmtpd/zmtp/zap"
	"zmtpd/zmtp/zmtptest"
)

// The recorded exchanges with libzmq are zmtptest.Vectors. With the recorded keys and random
// numbers every byte of CURVE is determined, so this library must send the same bytes as libzmq.

// recorded is a random source that returns what was recorded under these headers, in order. Some
// exchanges end before all is needed; then the rest is unknown.
func recorded(t *testing.T, v zmtptest.Vector, headers ...string) random {
	return func(b []byte) {
		if len(headers) == 0 {
			t.Fatalf("%d random bytes more than libzmq draws", len(b))
		}
		if v.Headers[headers[0]] != "" {
			k := v.Key(t, headers[0])
			if len(k) != len(b) {
				t.Fatalf("%s has %d bytes, %d are drawn", headers[0], len(k), len(b))
			}
			copy(b, k)
		}
		headers = headers[1:]
	}
}

// keyOf returns a recorded key, or an arbitrary one for the few exchanges that end before it is
// used.
func keyOf(t *testing.T, v zmtptest.Vector, header string) [32]byte {
	if v.Headers[header] == "" {
		return [32]byte{1}
	}
	return [32]byte(v.Key(t, header))
}

// plaintexts returns the recorded plaintexts with that name on a connection.
func plaintexts(v zmtptest.Vector, connection int, name string) (all [][]byte) {
	for _, s := range v.Connections[connection] {
		if s.Kind == zmtptest.Plaintext && s.Text == name {
			all = append(all, s.Data)
		}
	}
	return all
}

// recordedMechanism returns this library's side of a recorded exchange, with the recorded
// properties. The authenticator of a server answers with the recorded status, if there is one.
func recordedMechanism(t *testing.T, v zmtptest.Vector, connection int,
	role zmtptest.Kind) zmtp.Mechanism {
	t.Helper()
	own := func(name string, skip int) wire.Metadata {
		all := plaintexts(v, connection, name)
		if len(all) == 0 {
			return nil // the exchange ends before this side begins
		}
		m, err := wire.ParseMetadata(all[0][skip:])
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if role == zmtptest.Client {
		c, err := NewClient(keyOf(t, v, "server-public"), keyOf(t, v, "client-secret"))
		if err != nil {
			t.Fatal(err)
		}
		c.random = recorded(t, v, "client-ephemeral-secret", "vouch-nonce")
		return c.Mechanism(own("INITIATE", KeySize+vouchSize))
	}
	auth := zmtp.Auth{Open: true}
	if word, rest := v.Outcome(); word == "error" {
		status, err := strconv.Atoi(rest[:3])
		if err != nil {
			t.Fatal(err)
		}
		auth.Handler = zap.HandlerFunc(func(_ context.Context, r *zap.Request) (zap.Reply, error) {
			if r.Mechanism != "CURVE" || len(r.Credentials) != 1 || !bytes.Equal(r.Credentials[0],
				v.Key(t, "client-public")) {
				t.Errorf("the authenticator is asked %+v", r)
			}
			return zap.Reply{Status: status}, nil
		})
	}
	s, err := NewServer(auth, keyOf(t, v, "server-secret"))
	if err != nil {
		t.Fatal(err)
	}
	if connection == 0 { // libzmq's random numbers for another connection are not known
		s.random = recorded(t, v, "server-ephemeral-secret", "cookie-key", "cookie-nonce",
			"welcome-nonce")
	}
	return s.Mechanism(own("READY", 0))
}

// replay is one side of a recorded connection, played by this library.
type replay struct {
	mechanism zmtp.Mechanism
	sealer    zmtp.Sealer // nil before the end of the handshake
	opener    zmtp.Opener
	sent      []byte
	received  [][2][]byte // for each MESSAGE: the opened and the recorded plaintext
}

func (r *replay) handshake(cmd []byte) error {
	var progress zmtp.Progress
	var err error
	r.sent, progress, err = r.mechanism.Handshake(r.sent, cmd)
	if err == nil && progress == zmtp.ProgressNeedsAuth {
		r.sent, progress, err = r.mechanism.(zmtp.Authorizer).Authorize(context.Background(),
			r.sent,
			&net.TCPAddr{})
	}
	if err == nil && progress == zmtp.ProgressReady {
		r.sealer, r.opener = r.mechanism.Traffic()
	}
	return err
}

// receive takes frames of the other side. text has the recorded plaintexts of the MESSAGEs among
// them.
func (r *replay) receive(frames []byte, text [][]byte) error {
	for len(frames) > 0 {
		_, size, n, err := wire.ParseHeader(frames)
		if err != nil {
			return err
		}
		whole := frames[:n+int(size)]
		frames = frames[len(whole):]
		if r.opener == nil {
			if err := r.handshake(whole[n:]); err != nil {
				return err
			}
			continue
		}
		out, err := r.opener.Open(nil, whole)
		if err != nil {
			return err
		}
		if len(text) == 0 {
			return fmt.Errorf("opened % x, of which there is no recorded plaintext", out)
		}
		r.received = append(r.received, [2][]byte{out, nullFrame(text[0])})
		text = text[1:]
	}
	return nil
}

// nullFrame returns the frame of NULL for a plaintext of a MESSAGE.
func nullFrame(text []byte) []byte {
	flags := wire.Flags(text[0] & 1)
	if text[0]&2 != 0 {
		flags |= wire.Command
	}
	return wire.AppendFrame(nil, flags, text[1:])
}

const greetingSize = 64

// play plays one side of a connection to its end, or to the first error of this side.
func play(m zmtp.Mechanism, steps []zmtptest.Step, role zmtptest.Kind) (*replay, error) {
	r := &replay{mechanism: m}
	if err := r.handshake(nil); err != nil {
		return r, err
	}
	greeting := map[zmtptest.Kind]int{zmtptest.Client: greetingSize, zmtptest.Server: greetingSize}
	var text [][]byte
	for _, s := range steps {
		switch s.Kind {
		case zmtptest.Comment:
			continue
		case zmtptest.Plaintext:
			if s.Text == "MESSAGE" {
				text = append(text, s.Data)
			}
			continue
		}
		if left := greeting[s.Kind]; left > 0 {
			greeting[s.Kind] -= len(s.Data)
			continue
		}
		if s.Kind == role {
			if r.sealer != nil {
				for _, t := range text {
					r.sent = r.sealer.Seal(r.sent, nullFrame(t))
				}
			}
		} else if err := r.receive(s.Data, text); err != nil {
			return r, err
		}
		text = nil
	}
	return r, nil
}

// curveVectors returns the exchanges in which libzmq, or a peer that behaves like it, plays the
// side role.
func curveVectors(t *testing.T, role zmtptest.Kind) []string {
	all := zmtptest.Vectors(t)
	var names []string
	for name := range all {
		side, isCurve := strings.CutPrefix(name, "curve-")
		if !isCurve || name == "curve-client-null-greeting" { // about greetings, not about CURVE
			continue
		}
		switch {
		case strings.HasPrefix(side, "both-"),
			role == zmtptest.Server && strings.HasPrefix(side, "client-"),
			role == zmtptest.Client && strings.HasPrefix(side, "server-"):
			names = append(names, name)
		}
	}
	// and the exchanges in which the side that is not libzmq does nothing odd
	if role == zmtptest.Client {
		names = append(names, "curve-client-dealer", "curve-client-sub", "curve-client-sub-30",
			"curve-client-ping-received",
			"curve-client-zap-400", "curve-client-zap-500")
	} else {
		names = append(names, "curve-server-dealer", "curve-server-req", "curve-server-sub-31",
			"curve-server-xsub-31",
			"curve-server-ping-received")
	}
	want := map[zmtptest.Kind]int{zmtptest.Client: 3 + 19 + 6, zmtptest.Server: 3 + 33 + 5}[role]
	if len(names) != want {
		t.Fatalf("%d exchanges for us as %v, want %d", len(names), role, want)
	}
	slices.Sort(names)
	return names
}

// reasons maps libzmq's protocol errors to reasons.
var reasons = map[string]wire.Reason{
	"0x10000001": wire.UnexpectedCommand,
	"0x10000002": wire.InvalidSequence,
	"0x10000003": wire.KeyExchange,
	"0x10000011": wire.MalformedCommand,
	"0x10000012": wire.MalformedMessage,
	"0x10000013": wire.MalformedHello,
	"0x10000014": wire.MalformedInitiate,
	"0x10000016": wire.MalformedReady,
	"0x10000018": wire.MalformedReady,
	"0x11000001": wire.Cryptographic,
}

// ourReasons are reasons where libzmq gives none, or another one.
var ourReasons = map[string]wire.Reason{
	"curve-client-initiate-metadata-trailing":  wire.MalformedReady,
	"curve-client-initiate-vouch-other-server": wire.KeyExchange,
	"curve-client-nonce-initiate-below-hello":  wire.InvalidSequence,
	"curve-server-welcome-167":                 wire.MalformedWelcome,
	"curve-server-welcome-169":                 wire.MalformedWelcome,
	"curve-server-error-500":                   wire.PeerError,
	"curve-server-error-instead-of-ready":      wire.PeerError,
	"curve-server-error-instead-of-welcome":    wire.PeerError,
	"curve-client-zap-400":                     wire.AuthRefused,
	"curve-client-zap-500":                     wire.AuthRefused,
	"curve-client-zap-400 as C>":               wire.PeerError,
	"curve-client-zap-500 as C>":               wire.PeerError,
}

func wantReason(name string, v zmtptest.Vector, role zmtptest.Kind) wire.Reason {
	if r, ok := ourReasons[name+" as "+role.String()]; ok {
		return r
	}
	if r, ok := ourReasons[name]; ok {
		return r
	}
	_, code, _ := strings.Cut(v.Headers["event"], "HANDSHAKE_FAILED_PROTOCOL(")
	code, _, _ = strings.Cut(code, ")")
	return reasons[code]
}

func reasonOf(err error) wire.Reason {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Reason
	}
	return wire.ReasonNone
}

// zmtp finds a wrong socket type in the metadata that the mechanism returns.
var typeMismatch = []string{"curve-client-initiate-type-mismatch",
	"curve-server-ready-type-mismatch"}

func TestVectors(t *testing.T) {
	all := zmtptest.Vectors(t)
	for _, role := range []zmtptest.Kind{zmtptest.Client, zmtptest.Server} {
		for _, name := range curveVectors(t, role) {
			t.Run(fmt.Sprintf("%s/%s", map[zmtptest.Kind]string{zmtptest.Client: "client",
				zmtptest.Server: "server"}[role], name), func(t *testing.T) {
				v := all[name]
				last := len(v.Connections) - 1
				m := recordedMechanism(t, v, last, role)
				r, err := play(m, v.Connections[last], role)

				word, _ := v.Outcome()
				mismatch := slices.Contains(typeMismatch, name)
				switch {
				case word == "accept" || mismatch:
					if err != nil {
						t.Fatal(err)
					}
				case err == nil:
					t.Fatalf("accepted, want %s", word)
				case reasonOf(err) != wantReason(name, v, role):
					t.Fatalf("refused with %v, want %v", err, wantReason(name, v, role))
				}
				if mismatch {
					kind, _ := m.Metadata().Get(wire.PropSocketType)
					if wire.SocketType("DEALER").Accepts(wire.SocketType(kind)) {
						t.Errorf("the peer's socket type %q is not to be refused", kind)
					}
					return // zmtp then takes back the READY
				}
				if last > 0 {
					return
				}
				want := v.Bytes(last, role)[greetingSize:]
				if strings.Contains(name, "vouch-other-server") || strings.Contains(name,
					"initiate-below-hello") {
					want = want[:len(r.sent)] // libzmq goes on with READY
				}
				if diff := zmtptest.Diff(r.sent, want); diff != "" {
					t.Error(diff)
				}
				for _, p := range r.received {
					if diff := zmtptest.Diff(p[0], p[1]); diff != "" {
						t.Error(diff)
					}
				}
			})
		}
	}
}

// The lists above must not contain exchanges that no longer exist.
func TestOurReasonsAreUsed(t *testing.T) {
	all := zmtptest.Vectors(t)
	for key := range maps.Keys(ourReasons) {
		name, _, _ := strings.Cut(key, " as ")
		if _, ok := all[name]; !ok {
			t.Errorf("there is no exchange %s", name)
		}
	}
}
