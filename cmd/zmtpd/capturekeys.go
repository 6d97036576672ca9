package main

import (
	"fmt"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
)

// keyLogFlags have the keys with which CURVE sessions of a capture are decrypted.
type keyLogFlags struct {
	Keylog          string   `placeholder:"FILE" help:"Key log with which CURVE sessions are decrypted: the file of --curve-keylog of a daemon or tool."`
	KeylogServerKey []string `placeholder:"KEY|FILE" help:"Key of a CURVE server, as text or in a certificate file, for a key log with the short-term key pairs of one side (CURVE_EPHEMERAL): the server's public key if they are the clients', its secret key if they are the server's (repeatable)."`
}

// open opens the key log; without one it returns nil.
func (f *keyLogFlags) open() (*curve.KeyLogFile, error) {
	if f.Keylog == "" {
		if len(f.KeylogServerKey) > 0 {
			return nil, daemon.Usagef("--keylog-server-key without --keylog: a server's key " +
				"alone decrypts nothing; give the key log too")
		}
		return nil, nil
	}
	keys, err := curve.OpenKeyLog(f.Keylog)
	if err != nil {
		return nil, fmt.Errorf("--keylog: %w", err)
	}
	for _, text := range f.KeylogServerKey {
		if key, err := curve.ParseKey([]byte(text)); err == nil {
			keys.AddServer(key)
			continue
		}
		c, err := curve.ReadCertificate(text)
		if err != nil {
			keys.Close()
			return nil, daemon.Usagef("--keylog-server-key: neither a key of %d characters nor a "+
				"certificate file: %w", curve.TextSize, err)
		}
		if c.Secret != nil {
			keys.AddServerSecret(*c.Secret)
		} else {
			keys.AddServer(c.Public)
		}
	}
	return keys, nil
}
