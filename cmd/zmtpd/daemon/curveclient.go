package daemon

import (
	"fmt"
	"os"

	"zmtpd/curve"
	"zmtpd/curve/zeekkeys"
)

// CurveClientFlags make a socket that connects a CURVE client.
type CurveClientFlags struct {
	CurveServerKey     string `group:"security" placeholder:"KEY|FILE" help:"Public key of the server, as text or in a certificate file. It turns encryption on."`
	CurveSecretKeyFile string `group:"security" placeholder:"FILE" help:"Certificate file with the client's secret key, as zmtpd keygen --dir writes it."`
	CurveKeylog        string `group:"security" placeholder:"FILE" help:"Append the keys of connections to this file, with which zmtpd capture decrypts them. It never has the client's secret key."`
}

// keys returns the keys of the flags or of Zeek's variables, nil for none. prefix is the prefix
// of the flags' names.
func (f *CurveClientFlags) keys(prefix string) (*curve.Client, error) {
	client, err := f.client(prefix)
	if err != nil || f.CurveKeylog == "" {
		return client, err
	}
	if client == nil {
		return nil, keyLogWithoutKeys(prefix)
	}
	keyLog, err := curve.CreateKeyLog(f.CurveKeylog, nil) // the end of the process closes it
	if err != nil {
		return nil, fmt.Errorf("--%scurve-keylog: %w", prefix, err)
	}
	return client.WithKeyLog(keyLog), nil
}

func keyLogWithoutKeys(prefix string) error {
	return Usagef("--%scurve-keylog without keys: connections are not encrypted, so there is "+
		"nothing to write", prefix)
}

func (f *CurveClientFlags) client(prefix string) (*curve.Client, error) {
	zeek := zeekkeys.Read(os.Getenv)
	flag := prefix + "curve-server-key"
	if f.CurveServerKey == "" {
		flag = prefix + "curve-secret-key-file"
	}
	switch {
	case f.CurveServerKey != "" || f.CurveSecretKeyFile != "":
		if err := checkMixture(zeek, flag); err != nil {
			return nil, err
		}
		return f.fromFlags(prefix)
	case len(zeek) > 0:
		server, secret, err := zeek.Client()
		if err != nil {
			return nil, Usagef("%w", err)
		}
		return curve.NewClient(server, secret)
	}
	return nil, nil
}

func (f *CurveClientFlags) fromFlags(prefix string) (*curve.Client, error) {
	serverFlag, secretFlag := "--"+prefix+"curve-server-key", "--"+prefix+"curve-secret-key-file"
	switch {
	case f.CurveServerKey == "":
		return nil,
			Usagef("%s without %s: give the server's public key too", secretFlag, serverFlag)
	case f.CurveSecretKeyFile == "":
		return nil,
			Usagef("%s without %s: make a key pair with zmtpd keygen --dir, and give its public "+
				"key to the server", serverFlag, secretFlag)
	}
	server, err := readKey(serverFlag, f.CurveServerKey)
	if err != nil {
		return nil, err
	}
	c, err := curve.ReadCertificate(f.CurveSecretKeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", secretFlag, err)
	}
	if c.Secret == nil {
		return nil,
			fmt.Errorf("%s %s: the file has a public key only; the file with both keys ends in "+
				".key_secret", secretFlag, f.CurveSecretKeyFile)
	}
	return curve.NewClient(server, *c.Secret)
}

// readKey reads a public key: the text of one, or the name of a certificate file.
func readKey(flag, text string) (curve.Key, error) {
	if len(text) == curve.TextSize {
		if key, err := curve.ParseKey([]byte(text)); err == nil {
			return key, nil
		}
	}
	c, err := curve.ReadCertificate(text)
	if err != nil {
		return curve.Key{}, fmt.Errorf("%s: neither a key of %d characters nor a certificate "+
			"file: %w", flag, curve.TextSize, err)
	}
	return c.Public, nil
}
