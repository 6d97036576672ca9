package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"zmtpd/cmd/zmtpd/daemon"
	"zmtpd/curve"
)

// zeekScript is the script that nodes load. Zeek takes its keys from script variables or from the
// environment, and refuses a mixture.
const zeekScript = `# CURVE keys of the nodes, made by zmtpd keygen --zeek.
# The nodes are clients of zmtpd: this file does not have the server's secret key.
# Load it on every node, or set the variables in nodes.env there, but not both.
redef Cluster::Backend::ZeroMQ::curve_server_publickey = "%s";
redef Cluster::Backend::ZeroMQ::curve_client_publickey = "%s";
redef Cluster::Backend::ZeroMQ::curve_client_secretkey = "%s";
`

// writeZeekFolder makes the folder dir, which must not exist, and prints the use of its files.
func writeZeekFolder(out io.Writer, dir string, now time.Time) error {
	serverPublic, serverSecret := curve.GenerateKeyPair()
	clientPublic, clientSecret := curve.GenerateKeyPair()
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.Mkdir(dir, 0o700)); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("--zeek: %w; name a folder that does not exist, so that no key in "+
				"use is overwritten", err)
		}
		return fmt.Errorf("--zeek: %w", err)
	}
	server, clients, tools := filepath.Join(dir, "server"), filepath.Join(dir, "clients"),
		filepath.Join(dir, "tools")
	script, env := filepath.Join(dir, "curve.zeek"), filepath.Join(dir, "nodes.env")
	for _, folder := range []string{server, clients, tools} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return fmt.Errorf("--zeek: %w", err)
		}
	}
	pair := curve.Certificate{Public: serverPublic, Secret: &serverSecret,
		Metadata: []curve.CertificateProperty{{Name: "name", Value: "zmtpd"}}}
	if err := pair.WriteFiles(filepath.Join(server, "zmtpd.key"), now); err != nil {
		return err
	}
	client := curve.Certificate{Public: clientPublic,
		Metadata: []curve.CertificateProperty{{Name: "name", Value: "zeek"}}}
	if err := client.WriteFiles(filepath.Join(clients, "zeek.key"), now); err != nil {
		return err
	}
	// The client's pair and the server's public key are for zmtpd pub, sub, push and pull.
	clientPair := curve.Certificate{Public: clientPublic, Secret: &clientSecret,
		Metadata: client.Metadata}
	if err := clientPair.WriteFiles(filepath.Join(tools, "zeek.key"), now); err != nil {
		return err
	}
	serverKey := curve.Certificate{Public: serverPublic, Metadata: pair.Metadata}
	if err := serverKey.WriteFiles(filepath.Join(tools, "server.key"), now); err != nil {
		return err
	}
	// Z85 has neither quotes nor backslashes: Zeek and the shell take every key literally.
	text := fmt.Appendf(nil, zeekScript, serverPublic, clientPublic, clientSecret.Text())
	if err := os.WriteFile(script, text, 0o600); err != nil {
		return err
	}
	text = nil
	for _, v := range []struct{ name, key string }{
		{daemon.ZeekServerPublic, serverPublic.String()},
		{daemon.ZeekClientPublic, clientPublic.String()},
		{daemon.ZeekClientSecret, clientSecret.Text()},
	} {
		text = fmt.Appendf(text, "export %s='%s'\n", v.name, v.key)
	}
	if err := os.WriteFile(env, text, 0o600); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, `Zeek's nodes: load %s on every node, or set the variables in %s there.
zmtpd's daemons: --curve-secret-key-file %s --curve-clients %s
zmtpd pub, sub, push, pull, replay: --curve-server-key %s --curve-secret-key-file %s
`, script, env, server, clients, filepath.Join(tools, "server.key"),
		filepath.Join(tools, "zeek.key_secret"))
	return err
}
