package daemon

import (
	"fmt"

	"zmtpd/curve"
	"zmtpd/zmtp"
)

// CurveClientFlags make a tool's socket a CURVE client.
type CurveClientFlags struct {
	CurveServerKey     string `group:"security" placeholder:"KEY|FILE" help:"Encrypt, and talk only to the server with this public key: its text or a certificate file."`
	CurveSecretKeyFile string `group:"security" placeholder:"FILE" help:"Certificate file with the own secret key, as zmtpd keygen --dir writes it."`
}

// Socket returns the configuration of a tool's socket. It tries again after whatever error: the
// other side may be configured in the meantime.
func (f *CurveClientFlags) Socket() (zmtp.Config, error) {
	config := zmtp.Config{RetryAlways: true}
	client, err := f.Client()
	if err != nil || client == nil {
		return config, err
	}
	config.Mechanism = client.Mechanism
	return config, nil
}

// Client returns the keys that the flags or Zeek's variables make up, nil for none.
func (f *CurveClientFlags) Client() (*curve.Client, error) {
	zeek := readZeekKeys()
	flag := "curve-server-key"
	if f.CurveServerKey == "" {
		flag = "curve-secret-key-file"
	}
	switch {
	case f.CurveServerKey != "" || f.CurveSecretKeyFile != "":
		if err := zeek.checkMixture(flag); err != nil {
			return nil, err
		}
		return f.fromFlags()
	case len(zeek) > 0:
		server, err := zeek.public(ZeekServerPublic)
		if err != nil {
			return nil, err
		}
		if _, err := zeek.public(ZeekClientPublic); err != nil {
			return nil, err
		}
		secret, err := zeek.secret(ZeekClientSecret, ZeekClientPublic)
		if err != nil {
			return nil, err
		}
		return curve.NewClient(server, secret)
	}
	return nil, nil
}

func (f *CurveClientFlags) fromFlags() (*curve.Client, error) {
	switch {
	case f.CurveServerKey == "":
		return nil,
			Usagef("--curve-secret-key-file without --curve-server-key: give the public key of " +
				"the server as well")
	case f.CurveSecretKeyFile == "":
		return nil,
			Usagef("--curve-server-key without --curve-secret-key-file: make a key with zmtpd " +
				"keygen --dir, and let the server know its public half")
	}
	server, err := readKey("curve-server-key", f.CurveServerKey)
	if err != nil {
		return nil, err
	}
	c, err := curve.ReadCertificate(f.CurveSecretKeyFile)
	if err != nil {
		return nil, fmt.Errorf("--curve-secret-key-file: %w", err)
	}
	if c.Secret == nil {
		return nil,
			fmt.Errorf("--curve-secret-key-file %s: has a public key only; the file with both "+
				"ends in .key_secret", f.CurveSecretKeyFile)
	}
	return curve.NewClient(server, *c.Secret)
}
