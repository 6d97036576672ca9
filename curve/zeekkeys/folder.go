package zeekkeys

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"zmtpd/curve"
)

// Keys are the keys of a cluster: those of the server and those that all clients share.
type Keys struct {
	Server, Client curve.Secret
}

// Generate returns new keys.
func Generate() Keys {
	_, server := curve.GenerateKeyPair()
	_, client := curve.GenerateKeyPair()
	return Keys{server, client}
}

// AppendExports appends a line for each of Zeek's four variables, as a POSIX shell reads it.
func (k Keys) AppendExports(dst []byte) []byte {
	return k.appendExports(dst, Names()...)
}

func (k Keys) appendExports(dst []byte, names ...string) []byte {
	values := Variables{
		ServerPublic: k.Server.Public().String(),
		ServerSecret: k.Server.Text(),
		ClientPublic: k.Client.Public().String(),
		ClientSecret: k.Client.Text(),
	}
	for _, name := range names {
		// Z85 has no single quote: the shell takes every key literally.
		dst = fmt.Appendf(dst, "export %s='%s'\n", name, values[name])
	}
	return dst
}

// script is the script for nodes. Zeek takes its keys from script variables or from the
// environment, and refuses a mixture. Z85 has neither quotes nor backslashes, so Zeek takes every
// key literally.
const script = `# CURVE keys of the nodes, made by zmtpd keygen --zeek.
# The nodes are clients of zmtpd: this file does not have the server's secret key.
# Load it on every node, or set the variables in nodes.env there, but not both.
redef Cluster::Backend::ZeroMQ::curve_server_publickey = "%s";
redef Cluster::Backend::ZeroMQ::curve_client_publickey = "%s";
redef Cluster::Backend::ZeroMQ::curve_client_secretkey = "%s";
`

// Folder has the paths of the files with a cluster's keys.
type Folder struct {
	Server  string // folder of the server's key pair
	Clients string // folder of the public keys of clients that a server admits
	Script  string // script that Zeek's nodes load
	Exports string // shell script that sets Zeek's variables for nodes; it replaces Script
	// ToolServer and ToolClient are certificate files for other clients: the server's public key,
	// and the pair of the clients.
	ToolServer, ToolClient string
}

// WriteFolder makes the folder dir, with its parents, and writes the files. Only their owner can
// read them. Only Server has the server's secret key. It refuses a folder that exists, so that no
// key in use is overwritten.
func (k Keys) WriteFolder(dir string, made time.Time) (Folder, error) {
	tools := filepath.Join(dir, "tools")
	f := Folder{
		Server:     filepath.Join(dir, "server"),
		Clients:    filepath.Join(dir, "clients"),
		Script:     filepath.Join(dir, "curve.zeek"),
		Exports:    filepath.Join(dir, "nodes.env"),
		ToolServer: filepath.Join(tools, "server.key"),
		ToolClient: filepath.Join(tools, "zeek.key_secret"),
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.Mkdir(dir, 0o700)); err != nil {
		if errors.Is(err, os.ErrExist) {
			return Folder{}, fmt.Errorf("%w; name a folder that does not exist, so that no key in "+
				"use is overwritten", err)
		}
		return Folder{}, err
	}
	for _, folder := range []string{f.Server, f.Clients, tools} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return Folder{}, err
		}
	}
	for _, c := range []struct {
		file, name string
		public     curve.Key
		secret     *curve.Secret
	}{
		{filepath.Join(f.Server, "zmtpd.key"), "zmtpd", k.Server.Public(), &k.Server},
		{filepath.Join(f.Clients, "zeek.key"), "zeek", k.Client.Public(), nil},
		{filepath.Join(tools, "zeek.key"), "zeek", k.Client.Public(), &k.Client},
		{f.ToolServer, "zmtpd", k.Server.Public(), nil},
	} {
		certificate := curve.Certificate{Public: c.public, Secret: c.secret,
			Metadata: []curve.CertificateProperty{{Name: "name", Value: c.name}}}
		if err := certificate.WriteFiles(c.file, made); err != nil {
			return Folder{}, err
		}
	}
	text := fmt.Appendf(nil, script, k.Server.Public(), k.Client.Public(), k.Client.Text())
	if err := os.WriteFile(f.Script, text, 0o600); err != nil {
		return Folder{}, err
	}
	text = k.appendExports(nil, ServerPublic, ClientPublic, ClientSecret)
	return f, os.WriteFile(f.Exports, text, 0o600)
}
