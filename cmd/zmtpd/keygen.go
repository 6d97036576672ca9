package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
	"zmtpd/curve/zeekkeys"
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
	switch {
	case c.Zeek != "":
		return writeZeekFolder(std.Out, c.Zeek)
	case c.Env:
		_, err := std.Out.Write(zeekkeys.Generate().AppendExports(nil))
		return err
	case c.Dir != "":
		if c.Name == "" || c.Name != filepath.Base(c.Name) {
			return daemon.Usagef("--name %q: give a file name without folders", c.Name)
		}
		return c.writeCertificates(std)
	default:
		public, secret := curve.GenerateKeyPair()
		out := json.NewEncoder(std.Out)
		out.SetEscapeHTML(false) // Z85 has <, > and &
		return out.Encode(struct {
			Public string `json:"public"`
			Secret string `json:"secret"`
		}{public.String(), secret.Text()})
	}
}

// writeCertificates writes the two files of a certificate and prints their names.
func (c *keygenCommand) writeCertificates(std *daemon.Stdio) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	name := filepath.Join(c.Dir, c.Name+".key")
	public, secret := curve.GenerateKeyPair()
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

// writeZeekFolder makes the folder dir with the keys of a cluster, and prints the use of its files.
func writeZeekFolder(out io.Writer, dir string) error {
	f, err := zeekkeys.Generate().WriteFolder(dir, time.Now())
	if err != nil {
		return fmt.Errorf("--zeek: %w", err)
	}
	_, err = fmt.Fprintf(out, `Zeek's nodes: load %s on every node, or set the variables in %s there.
zmtpd's daemons: --curve-secret-key-file %s --curve-clients %s
zmtpd pub, sub, push, pull, replay: --curve-server-key %s --curve-secret-key-file %s
`, f.Script, f.Exports, f.Server, f.Clients, f.ToolServer, f.ToolClient)
	return err
}
