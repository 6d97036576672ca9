package curve

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// zeekKeys returns the keys of the recorded cluster by the end of their variables' names.
func zeekKeys(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("testdata/zeek.env")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line),
			"export ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_"), "=")
		if !ok {
			t.Fatalf("not a variable: %q", line)
		}
		keys[name] = strings.Trim(value, "'")
	}
	if len(keys) != 4 {
		t.Fatalf("%d keys, want 4", len(keys))
	}
	return keys
}

// zeekFrames are the frames of one recorded connection behind its greetings.
type zeekFrames struct {
	client, server [][]byte
}

func zeekHandshakes(t *testing.T) []zeekFrames {
	t.Helper()
	b, err := os.ReadFile("testdata/zeek-handshakes.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []zeekFrames
	for line := range strings.Lines(string(b)) {
		mark, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if mark == "port" {
			all = append(all, zeekFrames{})
			continue
		}
		var frames [][]byte
		for _, word := range strings.Fields(rest)[1:] {
			f, err := hex.DecodeString(word)
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, f)
		}
		if c := &all[len(all)-1]; mark == "C>" {
			c.client = frames
		} else {
			c.server = frames
		}
	}
	if len(all) != 14 {
		t.Fatalf("%d connections, want 14", len(all))
	}
	return all
}

// This library's server, with Zeek's key, accepts the HELLOs of Zeek's nodes. Zeek's answers open
// with that key. Of later commands only the parts in clear can be checked.
func TestZeekHandshakes(t *testing.T) {
	serverSecret, err := ParseSecret([]byte(zeekKeys(t)["SERVER_SECRETKEY"]))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, open, serverSecret)
	for i, c := range zeekHandshakes(t) {
		hello, welcome := body(t, c.client[0]), body(t, c.server[0])
		m := s.Mechanism(localMetadata)
		out, _, err := m.Handshake(nil, hello)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if len(out) != len(c.server[0]) {
			t.Errorf("connection %d: our WELCOME has %d bytes, Zeek's %d", i, len(out),
				len(c.server[0]))
		}
		if err := refused(t, m, body(t, c.client[1]), nil); reasonOf(err) != wire.Cryptographic {
			t.Errorf("connection %d: INITIATE with the cookie of another server: %v", i, err)
		}

		k, err := newBoxKey(privateKey(serverSecret[:]), hello[helloKey:helloNonce])
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := k.open(nonceWelcome, welcome[welcomeNonce:welcomeBox],
			welcome[welcomeBox:]); !ok || len(welcome) != welcomeSize {
			t.Errorf("connection %d: WELCOME does not open", i)
		} else if initiate := body(t,
			c.client[1]); string(initiate[initiateCookie:initiateNonce]) != string(text[KeySize:]) {
			t.Errorf("connection %d: INITIATE does not have the cookie", i)
		}
		for side, want := range map[string]struct {
			frames [][]byte
			names  []string
			nonce  uint64 // of the first command with this name
			at     int    // offset of the nonce in the first command
		}{
			"client": {c.client[1:], []string{cmdInitiate, "\x07MESSAGE", "\x07MESSAGE"}, 2,
				initiateNonce},
			"server": {c.server[1:], []string{cmdReady, "\x07MESSAGE", "\x07MESSAGE"}, 1,
				readyNonce},
		} {
			for j, f := range want.frames {
				flags, _, _, _ := wire.ParseHeader(f)
				cmd := body(t, f)
				at := want.at
				if j > 0 {
					at = len(want.names[j])
				}
				if !strings.HasPrefix(string(cmd), want.names[j]) ||
					binary.BigEndian.Uint64(cmd[at:]) != want.nonce+uint64(j) ||
					(flags&wire.Command != 0) != (j == 0) {
					t.Errorf("connection %d: %s's frame %d is %q", i, side, j+1, cmd[:16])
				}
			}
		}
	}
}

// Zeek's four keys make a connection.
func TestZeekKeys(t *testing.T) {
	text := zeekKeys(t)
	key := func(name string) Key {
		k, err := ParseKey([]byte(text[name]))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	serverSecret, clientSecret := Secret(key("SERVER_SECRETKEY")), Secret(key("CLIENT_SECRETKEY"))
	if serverSecret.Public() != key("SERVER_PUBLICKEY") ||
		clientSecret.Public() != key("CLIENT_PUBLICKEY") {
		t.Error("the keys are not pairs")
	}
	p := pair{newClient(t, key("SERVER_PUBLICKEY"), clientSecret).Mechanism(localMetadata),
		newServer(t, zmtp.Auth{Open: true}, serverSecret).Mechanism(localMetadata)}
	p.finish(t)
	checkTraffic(t, p)
}
