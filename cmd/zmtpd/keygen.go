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
	Env  bool   `xor:"form" help:"Print two key pairs, for the server and the clients, as the four environment variables that Zeek reads."`
	Dir  string `xor:"form" placeholder:"DIR" help:"Write a key pair as certificate files of CZMQ and pyzmq, NAME.key and NAME.key_secret, to this folder. keygen makes the folder."`
	Zeek string `xor:"form" placeholder:"DIR" help:"Make this folder with everything for an encrypted cluster: keys for zmtpd, for its clients and for the tools, and a script and variables for Zeek's nodes."`
	Name string `default:"zmtpd" help:"Name of the files of --dir, and name of the client."`
}

// Help is shown by zmtpd keygen --help.
func (keygenCommand) Help() string {
	return `--zeek is for a new cluster; the nodes do not get the server's secret key. --dir makes
a key pair for one more client. --env is for hosts on which zmtpd and Zeek's nodes share their
environment. Without flags, keygen prints one key pair as JSON, as Zeek's
to_json(Cluster::Backend::ZeroMQ::generate_keypair()) does.

Printed secret keys are not encrypted: keep them out of shared terminals and logs.`
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
			// Z85 has no single quote: the shell takes every key literally.
			if _, err := fmt.Fprintf(std.Out, "export %s='%s'\n", v.name, v.key); err != nil {
				return err
			}
		}
		return nil
	case c.Dir != "":
		if c.Name == "" || c.Name != filepath.Base(c.Name) {
			return daemon.Usagef("--name %q: give a file name without folders", c.Name)
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
