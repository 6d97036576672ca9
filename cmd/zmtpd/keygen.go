package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
)

type keygenCommand struct {
	Env  bool   `xor:"form" help:"Print two key pairs, for servers and clients, as the four environment variables that Zeek reads."`
	Dir  string `xor:"form" placeholder:"DIR" help:"Write the pair as certificate files of CZMQ and pyzmq into this folder, which is made if it does not exist: NAME.key and NAME.key_secret."`
	Zeek string `xor:"form" placeholder:"DIR" help:"Make this folder with all that a Zeek cluster and zmtpd need: keys for both, a script and variables for the nodes."`
	Name string `default:"zmtpd" help:"NAME of the certificate files of --dir, and of the client."`
}

// Help is shown by zmtpd keygen --help.
func (keygenCommand) Help() string {
	return `Without flags it prints one key pair as JSON, as Zeek's to_json(Cluster::Backend::ZeroMQ::generate_keypair()) does. A
secret key is printed in the clear: keep it off shared terminals and logs.

--env is for hosts where zmtpd and Zeek's nodes have the same environment. --zeek keeps the server's secret key from the nodes,
and --dir makes a key for one more client.`
}

// Run makes and prints the keys.
func (c *keygenCommand) Run(std *daemon.Stdio) error {
	public, secret := curve.GenerateKeyPair()
	switch {
	case c.Zeek != "":
		return writeZeekFolder(std.Out, c.Zeek, time.Now())
	case c.Env:
		clientPublic, clientSecret := curve.GenerateKeyPair()
		for _, v := range []struct{ name, key string }{
			{daemon.ZeekServerPublic, public.String()},
			{daemon.ZeekServerSecret, secret.Text()},
			{daemon.ZeekClientPublic, clientPublic.String()},
			{daemon.ZeekClientSecret, clientSecret.Text()},
		} {
			// Z85 has no quote, so that the shell takes every key as it stands.
			if _, err := fmt.Fprintf(std.Out, "export %s='%s'\n", v.name, v.key); err != nil {
				return err
			}
		}
		return nil
	case c.Dir != "":
		if c.Name == "" || c.Name != filepath.Base(c.Name) {
			return daemon.Usagef("--name %q: give the name of a file without folders", c.Name)
		}
		return c.writeCertificates(std, public, secret)
	default:
		out := json.NewEncoder(std.Out)
		out.SetEscapeHTML(false) // Z85 has <, > and &
		return out.Encode(struct {
			Public string `json:"public"`
			Secret string `json:"secret"`
		}{public.String(), secret.Text()})
	}
}

// writeCertificates writes the two files of a certificate and prints their names.
func (c *keygenCommand) writeCertificates(std *daemon.Stdio, public curve.Key,
	secret curve.Secret) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	name := filepath.Join(c.Dir, c.Name+".key")
	pair := curve.Certificate{
		Public: public, Secret: &secret,
		Metadata: []curve.CertificateProperty{{Name: "name", Value: c.Name}},
	}
	if err := pair.WriteFiles(name, time.Now()); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	_, err := fmt.Fprintf(std.Out, "%s\n%s_secret\n", name, name)
	return err
}
