package daemon

import (
	"bytes"
	"fmt"

	"zmtpd/curve/access"
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
	text, err := access.ReadSecretFile(f.PlainPasswordFile, maxPlain+2)
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
