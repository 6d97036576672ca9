package curve

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/wire"
)

// The key of a connection is found with the short-term keys of one side and a key of the server,
// and with less than that it is not. A KeyLog writes no other keys.
func TestKeyLogFile(t *testing.T) {
	dir := t.TempDir()
	log, err := CreateKeyLog(filepath.Join(dir, "own"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	serverKey, serverSecret := GenerateKeyPair()
	clientKey, clientSecret := GenerateKeyPair()
	otherKey, otherSecret := GenerateKeyPair()
	var ephemeral [2]Secret // of client and server: the first that each draws
	draw := func(side int) random {
		return func(b []byte) {
			rand.Read(b)
			if ephemeral[side] == (Secret{}) {
				ephemeral[side] = Secret(b)
			}
		}
	}
	c, s := newClient(t, serverKey, clientSecret), newServer(t, zmtp.Auth{Open: true}, serverSecret)
	c.random, s.random = draw(0), draw(1)
	p := pair{c.WithKeyLog(log).Mechanism(localMetadata), s.Mechanism(localMetadata)}
	var cmds [4][]byte
	sides := []zmtp.Mechanism{p.client, p.server}
	for i := range cmds {
		var cmd []byte
		if i > 0 {
			cmd = cmds[i-1]
		}
		out, _, err := sides[i%2].Handshake(nil, cmd)
		if err != nil {
			t.Fatal(err)
		}
		cmds[i] = bytes.Clone(body(t, out))
	}
	hello := Key(cmds[0][helloKey:])
	_, welcome, err := wire.ParseCommand(cmds[1])
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "own"))
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := strings.Cut(strings.TrimPrefix(string(text),
		fmt.Sprintf("CURVE_SHARED %x ", hello[:])), "\n")
	if len(want) != 2*KeySize || strings.Count(string(text), "\n") != 1 {
		t.Fatalf("%s", text)
	}
	for name, secret := range map[string]Secret{"server's": serverSecret, "client's": clientSecret,
		"client's short-term": ephemeral[0], "server's short-term": ephemeral[1]} {
		if strings.Contains(string(text), hex.EncodeToString(secret[:])) ||
			strings.Contains(string(text), secret.Text()) {
			t.Errorf("the key log has the %s secret key", name)
		}
	}

	none := func(*KeyLogFile) {}
	public := func(l *KeyLogFile) { l.AddServer(serverKey) }
	secret := func(l *KeyLogFile) { l.AddServerSecret(otherSecret); l.AddServerSecret(serverSecret) }
	wrong := func(l *KeyLogFile) { l.AddServer(clientKey); l.AddServerSecret(otherSecret) }
	line := func(side int) string {
		k := ephemeral[side].Public()
		return fmt.Sprintf("CURVE_EPHEMERAL %x %x\n", k[:], ephemeral[side][:])
	}
	for i, test := range []struct {
		log     string
		keys    func(*KeyLogFile)
		welcome []byte
		found   bool
	}{
		{string(text), none, nil, true},
		{line(0), public, welcome, true},
		{line(0), secret, welcome, true},
		{line(1), secret, welcome, true},
		{line(0) + line(1), secret, welcome, true},
		{line(0), none, welcome, false},
		{line(0), wrong, welcome, false},
		{line(0), public, nil, false},
		{line(0), public, welcome[1:], false},
		{line(1), public, welcome, false},
		{line(0) + line(1), none, welcome, false},
		{"# nothing yet\n", secret, welcome, false},
	} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, []byte(test.log), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenKeyLog(path)
		if err != nil {
			t.Fatal(err)
		}
		test.keys(l)
		got, found := l.Find(hello, test.welcome)
		if found != test.found || found && hex.EncodeToString(got[:]) != want {
			t.Errorf("%d: found %t, want %t", i, found, test.found)
		}
		if _, found := l.Find(otherKey, test.welcome); found {
			t.Errorf("%d: found the key of another connection", i)
		}
		l.Close()
	}
}

// The file of another user is refused: that user could read the keys.
func TestKeyLogOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file away")
	}
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 1, 1); err != nil {
		t.Fatal(err)
	}
	if l, err := CreateKeyLog(path, nil); err == nil ||
		!strings.Contains(err.Error(), "another user") {
		t.Errorf("%v", err)
		l.Close()
	}
}
