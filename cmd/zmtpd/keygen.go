package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"zmtpd/curve"
)

type keygenCommand struct {
	Env  bool   `xor:"form" help:"Print two key pairs, for servers and clients, as the four environment variables that Zeek reads."`
	Dir  string `xor:"form" placeholder:"DIR" help:"Write the pair as certificate files of CZMQ and pyzmq into this folder: NAME.key and NAME.key_secret."`
	Name string `default:"zmtpd" help:"NAME of the certificate files."`
}

// Help is shown by zmtpd keygen --help.
func (keygenCommand) Help() string {
	return `Without flags it prints one key pair as JSON, as Zeek's to_json(Cluster::Backend::ZeroMQ::generate_keypair()) does. A
secret key is printed in the clear: keep it off shared terminals and logs.`
}

// Run makes and prints the keys.
func (c *keygenCommand) Run(std *stdio) error {
	public, secret := curve.GenerateKeyPair()
	switch {
	case c.Env:
		clientPublic, clientSecret := curve.GenerateKeyPair()
		for _, v := range []struct{ name, key string }{
			{"SERVER_PUBLICKEY", public.String()},
			{"SERVER_SECRETKEY", secret.Text()},
			{"CLIENT_PUBLICKEY", clientPublic.String()},
			{"CLIENT_SECRETKEY", clientSecret.Text()},
		} {
			// Z85 has no quote, so that the shell takes every key as it stands.
			if _, err := fmt.Fprintf(std.out, "export ZEEK_CLUSTER_BACKEND_ZEROMQ_CURVE_%s='%s'\n", v.name, v.key); err != nil {
				return err
			}
		}
		return nil
	case c.Dir != "":
		if c.Name == "" || c.Name != filepath.Base(c.Name) {
			return usagef("--name %q: give the name of a file without folders", c.Name)
		}
		return c.writeCertificates(std, public, secret)
	default:
		out := json.NewEncoder(std.out)
		out.SetEscapeHTML(false) // Z85 has <, > and &
		return out.Encode(struct {
			Public string `json:"public"`
			Secret string `json:"secret"`
		}{public.String(), secret.Text()})
	}
}

// writeCertificates writes the two files of a certificate, in the form and under the
// names that CZMQ's zcert and pyzmq's zmq.auth have, ZPL (RFC 4), and prints their
// names. It replaces no file.
func (c *keygenCommand) writeCertificates(std *stdio, public curve.Key, secret curve.Secret) error {
	made := time.Now().Format(time.RFC3339)
	text := fmt.Sprintf("# CURVE public key, made by zmtpd %s. It may be given to everybody.\n"+
		"metadata\ncurve\n    public-key = \"%s\"\n", made, public)
	secretText := fmt.Sprintf("# CURVE secret key, made by zmtpd %s. Keep this file to yourself.\n"+
		"metadata\ncurve\n    public-key = \"%s\"\n    secret-key = \"%s\"\n", made, public, secret.Text())

	name := filepath.Join(c.Dir, c.Name+".key")
	if err := writeNew(name, text); err != nil {
		return err
	}
	if err := writeNew(name+"_secret", secretText); err != nil {
		return errors.Join(err, os.Remove(name)) // a public key without its secret one is of no use
	}
	_, err := fmt.Fprintf(std.out, "%s\n%s_secret\n", name, name)
	return err
}

// writeNew writes a file that only the user can read and that is not there yet.
func writeNew(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already and may be in use; choose another --name, or move it away", name)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
