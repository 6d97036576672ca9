package daemon

import (
	"os"

	"zmtpd/curve/zeekkeys"
	"zmtpd/zmtp"
)

// ClientFlags are the flags of a socket that is a client of another process: keys for CURVE, or a
// user for PLAIN.
type ClientFlags struct {
	CurveClientFlags
	PlainClientFlags
}

// Socket returns the configuration of a tool's socket. The socket connects again after every error:
// the other side may be configured in the meantime.
func (f *ClientFlags) Socket() (zmtp.Config, error) {
	mechanism, err := f.Mechanism("")
	return zmtp.Config{RetryAlways: true, Mechanism: mechanism}, err
}

// Mechanism returns the mechanism of the flags or of Zeek's variables, nil for NULL. prefix is the
// prefix of the flags' names.
func (f *ClientFlags) Mechanism(prefix string) (func(zmtp.Metadata) zmtp.Mechanism, error) {
	plain, err := f.plain(prefix)
	if err != nil {
		return nil, err
	}
	keys, err := f.keys(prefix)
	switch {
	case err != nil:
		return nil, err
	case keys != nil && plain != nil:
		return nil, Usagef("--%splain-username together with keys for CURVE, in flags or in "+
			"Zeek's variables: a connection has one of the two; remove the other", prefix)
	case plain != nil:
		return plain.Mechanism, nil
	case keys != nil:
		return keys.Mechanism, nil
	}
	return nil, nil
}

// Given reports whether any of the flags is given.
func (f *ClientFlags) Given() bool { return *f != ClientFlags{} }

// Encrypted reports whether connections are encrypted, if the flags are right.
func (f *ClientFlags) Encrypted() bool {
	return f.PlainUsername == "" && (f.CurveServerKey != "" || len(zeekkeys.Read(os.Getenv)) > 0)
}
