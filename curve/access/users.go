package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"zmtpd/curve"
	"zmtpd/zmtp/zap"
)

const (
	maxUsersFile = 4 << 20 // bytes
	maxPassword  = 255     // bytes (RFC 24)
)

// Users is the [zap.Handler] of PLAIN clients whose names and passwords are in a file. Each line
// has a name, a space and a password, which may have spaces too. Empty lines and those that begin
// with # have no meaning. All methods may be called from any goroutine.
type Users struct {
	path string
	now  atomic.Pointer[zap.Passwords]
	seen print // of the file when it was read last; for one caller at a time
}

// OpenUsers reads a file of users.
func OpenUsers(path string) (*Users, error) {
	u := &Users{path: path}
	return u, u.reload()
}

// Authenticate implements [zap.Handler].
func (u *Users) Authenticate(ctx context.Context, req *zap.Request) (zap.Reply, error) {
	return u.now.Load().Authenticate(ctx, req)
}

// Len returns the number of users.
func (u *Users) Len() int { return len(*u.now.Load()) }

func (u *Users) has(name string) bool {
	_, ok := (*u.now.Load())[name]
	return ok
}

// reload reads the file. After an error the users from before stay.
func (u *Users) reload() error {
	u.seen = u.print()
	text, err := ReadSecretFile(u.path, maxUsersFile)
	if err != nil {
		return err
	}
	all, err := parseUsers(text)
	if err != nil {
		return fmt.Errorf("%s: %w", u.path, err)
	}
	u.now.Store(&all)
	return nil
}

// reloadIfChanged is reload if the file seems to have changed, else the error is [ErrUnchanged].
func (u *Users) reloadIfChanged() error {
	if u.print() == u.seen {
		return ErrUnchanged
	}
	return u.reload()
}

func (u *Users) print() print {
	return (&Sources{ClientPaths: []string{u.path}}).print(time.Now())
}

// parseUsers parses the text of a file of users. No error has a part of a password.
func parseUsers(text []byte) (zap.Passwords, error) {
	all := zap.Passwords{}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		name, password, ok := strings.Cut(line, " ")
		_, twice := all[name]
		switch {
		case !ok || password == "" || len(password) > maxPassword:
			return nil, fmt.Errorf("line %d: want a name, a space and a password of 1 to %d bytes",
				number, maxPassword)
		case CheckName(name) != nil:
			return nil, fmt.Errorf("line %d: a name has 1 to %d printable bytes", number, maxName)
		case twice:
			return nil, fmt.Errorf("line %d: the user %s is there already", number, name)
		case len(all) == maxClients:
			return nil, fmt.Errorf("line %d: more than %d users", number, maxClients)
		}
		all[name] = password
	}
	if len(all) == 0 {
		return nil, errors.New("no user; write lines of a name, a space and a password")
	}
	return all, nil
}

// ReadSecretFile reads a file with passwords of at most so many bytes. It refuses a file that is
// [curve.OpenToOthers].
func ReadSecretFile(path string, most int) ([]byte, error) {
	// Open would wait for the writer of a named pipe.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // of the file that was opened
		return nil, err
	}
	if curve.OpenToOthers(info) {
		return nil, fmt.Errorf("%s is for passwords, and others than its owner may read or change "+
			"it (mode %04o): chmod 600 %[1]s", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}
