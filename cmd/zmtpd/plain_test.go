package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/zap"
)

// A tool is admitted with the right password only, and says why it is not.
func TestPlain(t *testing.T) {
	pull := zmtp.NewPull(zmtp.Config{Mechanism: (&zmtp.PlainServer{Auth: zmtp.Auth{
		Handler: zap.Passwords{"alice": "secret word"}}}).Mechanism})
	defer pull.Close()
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(t.TempDir(), "password")
	push := func(text string, flags ...string) (stderr string, err error) {
		t.Helper()
		if err := os.WriteFile(password, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out testkit.Output
		err = run(t.Context(), append([]string{"push", "--connect", endpoint}, flags...),
			strings.NewReader("hello\n"), &out, &out)
		return out.String(), err
	}
	user := []string{"--plain-username", "alice", "--plain-password-file", password}
	for _, text := range []string{"secret word", "secret word\n", "secret word\r\n"} {
		if _, err := push(text, user...); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if m, err := pull.Recv(testkit.Context(t)); err != nil || string(m.Part(0)) != "hello" {
			t.Fatalf("%v, %v", m, err)
		}
	}
	if _, err := push("secret", append(user, "--linger", "300ms")...); err == nil {
		t.Error("a wrong password is accepted")
	}
	stderr, err := push("", "--linger", "300ms")
	if err == nil || !strings.Contains(stderr, "--plain-username for PLAIN") {
		t.Errorf("error %v, %s", err, stderr)
	}
}
