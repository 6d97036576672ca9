package access

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"zmtpd/zmtp"
	"zmtpd/zmtp/testkit"
	"zmtpd/zmtp/zap"
)

func usersFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	writeUsers(t, path, text)
	return path
}

func writeUsers(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUsersFile(t *testing.T) {
	u, err := OpenUsers(usersFile(t, "# all\n\nalice secret word \r\nbob  b"))
	if err != nil {
		t.Fatal(err)
	}
	for name, password := range map[string]string{"alice": "secret word ", "bob": " b"} {
		reply, err := u.Authenticate(t.Context(), &zap.Request{Mechanism: "PLAIN",
			Credentials: [][]byte{[]byte(name), []byte(password)}})
		if err != nil || reply.Status != zap.StatusOK || reply.UserID != name {
			t.Errorf("%s: %+v, %v", name, reply, err)
		}
	}
	if u.Len() != 2 {
		t.Errorf("%d users", u.Len())
	}
}

// A faulty file is refused, and the error has nothing that may be a password.
func TestFaultyUsersFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "no user",
		"# comment\n":                        "no user",
		"a b\nsecret\n":                      "line 2: want a name, a space and a password",
		"a \n":                               "line 1: want a name",
		"a " + strings.Repeat("secret", 43):  "of 1 to 255 bytes",
		"a secret\na secret\n":               "line 2: the user a is there already",
		" secret\n":                          "line 1: a name has",
		"se\x01cret b\n":                     "line 1: a name has",
		strings.Repeat("n", 256) + " secret": "line 1: a name has",
		strings.Repeat("#secret\n", 600_000): "more than 4194304 bytes",
	} {
		_, err := OpenUsers(usersFile(t, text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: error %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error names a secret: %v", err)
		}
	}
	if runtime.GOOS != "windows" {
		path := usersFile(t, "a b")
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenUsers(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("error %v", err)
		}
	}
}

// A file that changes holds for new connections at once. A user who was removed is disconnected; a
// faulty file changes nothing.
func TestUsersChange(t *testing.T) {
	path := usersFile(t, "alice a\nbob b\n")
	users, err := OpenUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	g := NewPlainGuard(users, slog.New(slog.DiscardHandler))
	config, err := g.Protect(zmtp.Config{}, "pull")
	if err != nil {
		t.Fatal(err)
	}
	pull := zmtp.NewPull(config)
	defer pull.Close()
	g.Cover(pull)
	endpoint, err := pull.Listen("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	connect := func(name, password string) {
		t.Helper()
		s := zmtp.NewPush(zmtp.Config{RetryAlways: true,
			Mechanism: (&zmtp.PlainClient{User: name, Password: password}).Mechanism})
		t.Cleanup(func() { s.Close() })
		if err := s.Connect(endpoint); err != nil {
			t.Fatal(err)
		}
	}
	wait := func(want string) {
		t.Helper()
		testkit.Eventually(t, "the clients "+want, func() bool {
			names := map[string]bool{}
			for _, p := range pull.Peers() {
				names[p.UserID] = true
			}
			got := ""
			for _, name := range []string{"alice", "bob", "carol"} {
				if names[name] {
					got += name + " "
				}
			}
			return got == want
		})
	}
	connect("alice", "a")
	connect("bob", "b")
	connect("carol", "c")
	wait("alice bob ")
	testkit.Eventually(t, "the refusal of carol",
		func() bool { return g.Answers()["pull"]["400"] > 0 })

	writeUsers(t, path, "alice a\nbob")
	g.Poll()
	g.Sweep()
	wait("alice bob ")

	writeUsers(t, path, "alice a\ncarol c\n")
	g.Poll()
	g.Sweep()
	wait("alice carol ")
}

func FuzzUsers(f *testing.F) {
	f.Add([]byte("alice secret word\n# comment\nbob b\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseUsers(text)
		if (err == nil) == (len(all) == 0) {
			t.Errorf("%d users, error %v", len(all), err)
		}
		for name, password := range all {
			reply, err := all.Authenticate(context.Background(), &zap.Request{Mechanism: "PLAIN",
				Credentials: [][]byte{[]byte(name), []byte(password)}})
			if err != nil || reply.Status != zap.StatusOK {
				t.Errorf("%+v, %v", reply, err)
			}
		}
	})
}
