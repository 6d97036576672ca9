package daemon

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"

	"zmtpd/zmtp"
)

// PlainClientFlags make a socket that connects a PLAIN client.
type PlainClientFlags struct {
	PlainUsername     string `group:"security" placeholder:"NAME" help:"User name for the PLAIN mechanism (RFC 24), which encrypts nothing: name and password pass in clear."`
	PlainPasswordFile string `group:"security" placeholder:"FILE" help:"File with the password of that user, which only its owner may read."`
}

// maxPlain is the longest name or password in bytes (RFC 24).
const maxPlain = 255

// plain returns the user of the flags, nil for none.
func (f *PlainClientFlags) plain(prefix string) (*zmtp.PlainClient, error) {
	user, file := "--"+prefix+"plain-username", "--"+prefix+"plain-password-file"
	switch {
	case f.PlainUsername == "" && f.PlainPasswordFile == "":
		return nil, nil
	case f.PlainUsername == "" || f.PlainPasswordFile == "":
		return nil, Usagef("%s and %s: give both or none", user, file)
	case len(f.PlainUsername) > maxPlain:
		return nil, Usagef("%s has %d bytes; at most %d are possible", user, len(f.PlainUsername),
			maxPlain)
	}
	text, err := readSecrets(f.PlainPasswordFile, maxPlain+2)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	password, _ := bytes.CutSuffix(text, []byte("\n"))
	password, _ = bytes.CutSuffix(password, []byte("\r"))
	if len(password) > maxPlain {
		return nil, fmt.Errorf("%s: the password in %s has more than %d bytes", file,
			f.PlainPasswordFile, maxPlain)
	}
	return &zmtp.PlainClient{User: f.PlainUsername, Password: string(password)}, nil
}

// readSecrets reads a file of at most so many bytes. On systems with file modes it refuses a file
// that others than its owner may read or write.
func readSecrets(path string, most int) ([]byte, error) {
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
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s has a password, and others than its owner may read or change it "+
			"(mode %04o): chmod 600 %[1]s", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}
